"""Where a target was last started, so that a host changed by hand leaves no second gateway."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml

from infrastructure.apply.session import Outcome
from infrastructure.cli import host, main, whereabouts
from infrastructure.cli.commands import up as up_command
from infrastructure.config import load
from infrastructure.errors import DeployFailed, WaitingForPerson
from infrastructure.plan.compute import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OLD, NEW = "203.0.113.7", "203.0.113.9"


class Hosts:
    """Both hosts; `runs` is the release that each has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.runs: dict[str, str] = {}
        self.fails: Exception | None = None
        self.state = "running"

    def write(self, at: str) -> None:
        one = {"host": f"me@{at}", "gateway": {"username": "alice"}}
        (self._folder / "stack.yaml").write_text(yaml.safe_dump({"targets": {"prod": one}}))

    def up(self, at: str, *words: str) -> int:
        self.write(at)
        with pytest.raises(SystemExit) as ended:
            main(["up", *words])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    @contextmanager
    def planned(self, *_: object, **__: object) -> Iterator[Any]:
        target = load(self._folder / "stack.yaml")
        at = target.stack.host.address
        release = self.runs.get(at)
        plan = Plan("r1", release, (Change("bridge", "create", "it is not there yet"),))

        def apply(*_: object, **__: object) -> Outcome:
            if self.fails is not None:
                raise self.fails
            self.runs[at] = "r1"
            return Outcome("r1", healthy=True, restored=False, seconds=1.0)

        session = SimpleNamespace(apply=apply, pending=None)
        states = {"gateway": SimpleNamespace(state=self.state)} if release else {}
        observed = SimpleNamespace(release=release, services=states)
        yield SimpleNamespace(
            target=target, session=session, release=None, observed=observed, plan=plan
        )

    @contextmanager
    def connected(self, _: Any, target: Any) -> Iterator[Any]:
        at = target.stack.host.address
        yield SimpleNamespace(open=lambda **_: None, down=lambda: self.runs.pop(at, None))


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    found = Hosts(tmp_path)
    monkeypatch.setattr(host, "planned", found.planned)
    monkeypatch.setattr(host, "connected", found.connected)
    monkeypatch.chdir(tmp_path)
    return found


def refuse(*_: object, **__: object) -> None:
    raise typer.Abort


def test_another_host_in_stack_yaml_is_asked_about(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert hosts.up(OLD) == 0
    capfd.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(up_command, "confirm", refuse)
        assert hosts.up(OLD) == 0, "where it runs nothing is asked"
        assert hosts.up(NEW) == 130
    told = capfd.readouterr().err
    assert f"prod was last started on {OLD}" in told
    assert f"move --to {NEW}" in told
    assert NEW not in hosts.runs
    assert hosts.up(NEW, "--yes") == 0
    capfd.readouterr()
    hosts.runs.clear()
    assert hosts.up(NEW) == 0
    assert "last started" not in capfd.readouterr().err


def test_a_host_with_a_release_of_it_that_does_not_run_is_asked_about(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The old machine comes back after a move that could not tell it; or a host is put back."""
    assert hosts.up(OLD) == 0
    assert hosts.up(NEW, "--yes") == 0
    capfd.readouterr()
    hosts.state = "exited"
    monkeypatch.setattr(up_command, "confirm", refuse)
    assert hosts.up(OLD) == 130
    assert f"prod was last started on {NEW}" in capfd.readouterr().err
    hosts.state = "running"
    assert hosts.up(OLD) == 0, "what runs here already is no second one"


@pytest.mark.parametrize(
    ("failure", "noted"),
    [(WaitingForPerson("not approved in time"), True), (DeployFailed("no room"), False)],
)
def test_what_waits_for_its_person_was_started_and_what_failed_was_not(
    hosts: Hosts, tmp_path: Path, failure: Exception, noted: bool
) -> None:
    hosts.fails = failure
    assert hosts.up(OLD) != 0
    assert (tmp_path / ".gangway/hosts/prod").exists() is noted


def test_what_was_stopped_is_forgotten_where_it_was(
    hosts: Hosts, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hosts.up(OLD)
    file = tmp_path / ".gangway/hosts/prod"
    assert file.read_text() == f"{OLD}\n"
    assert (tmp_path / ".gangway/.gitignore").read_text() == "*\n"
    for at, stays in ((NEW, True), (OLD, False)):
        hosts.write(at)
        with pytest.raises(SystemExit):
            main(["down", "--yes"])
        assert file.exists() is stays
    assert hosts.up(NEW) == 0
    assert "last started" not in capfd.readouterr().err


def test_what_cannot_be_kept_stops_nothing(make: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / ".gangway").write_text("")
    target = make()
    whereabouts.note(target)
    whereabouts.forget(target)
    assert whereabouts.left_behind(target) is None
