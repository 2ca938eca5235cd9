"""`upgrade`: what is newer, and how it is said."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import typer

from infrastructure.apply.protocol.documents import ImageState, Newer
from infrastructure.apply.session import Outcome
from infrastructure.cli import host, main
from infrastructure.cli.commands import upgrade
from infrastructure.cli.commands.upgrade import beside, is_newer, line
from infrastructure.errors import WaitingForPerson
from infrastructure.plan.compute import Change, Plan, compute
from infrastructure.plan.observed import Observed, ObservedFile, ObservedService
from infrastructure.runtime.compose import repository_of
from tests.deploy.conftest import rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from infrastructure.config import Target

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def newer(runs: str, found: str, name: str = "g:stable", **more: str) -> Newer:
    return Newer(
        "gateway",
        ImageState("g:stable", "id", runs, "10.37.1m", "2026-01-02"),
        ImageState(name, digest=found),
        **more,
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (newer(OLD, NEW), True),
        (newer(OLD, OLD), False),
        (newer(OLD, OLD, "g:10.45.1j"), True),
        (newer(OLD, ""), False),
        (newer("", NEW), True),
    ],
)
def test_newer_is_another_digest_or_another_name(one: Newer, expected: bool) -> None:
    assert is_newer(one) is expected


def test_the_lines() -> None:
    assert line(newer(OLD, OLD)) == (
        "gateway: 10.37.1m (aaaaaaaaaaaa, 2026-01-02) is what g:stable stands for"
    )
    assert line(newer(OLD, NEW, refused="2026-01-03: it ended")) == (
        "gateway: 10.37.1m (aaaaaaaaaaaa, 2026-01-02) -> g:stable (bbbbbbbbbbbb);"
        " did not become healthy here, 2026-01-03: it ended"
    )
    assert line(newer(OLD, "", why="denied")) == (
        "gateway: the registry does not tell about g:stable: denied"
    )


def test_what_comes_along_with_a_newer_image_is_said() -> None:
    """`upgrade gateway` makes the container of stack.yaml as it is now: another user, live even."""
    changes = (
        Change("gateway", "update", "image g:1 -> g:2, environment TRADING_MODE TWS_USERID"),
        Change("caddy", "update", "image c:1 -> c:2"),
        Change("portal", "restart", "it is exited (exit code 1)"),
        Change("bridge", "update", "bridge/rules.json changed"),
        Change("bot", "unchanged", "it is as configured, running"),
    )
    also, others = beside(Plan("new", "old", changes), {"gateway", "caddy", "portal"})
    assert also == {"gateway": "environment TRADING_MODE TWS_USERID"}
    assert others == ["bridge"]


class Host:
    """Stands for a host whose registry has something newer, and how an upgrade ends there."""

    def __init__(self, target: Target, outcome: Outcome | Exception) -> None:
        self._target, self._outcome = target, outcome
        self.services = {"gateway": ObservedService("gateway", "running", "healthy", "g:1")}

    @contextmanager
    def planned(self, *_: object, **__: object) -> Iterator[object]:
        release = rendered(self._target)
        observed = Observed("old", {}, self.services)
        yield SimpleNamespace(
            target=self._target,
            session=self,
            release=release,
            observed=observed,
            plan=compute(self._target, release, observed),
        )

    def newer(self, wanted: dict[str, str]) -> list[Newer]:
        return [
            Newer(name, ImageState(image, "old", OLD), self.fetch(image, NEW))
            for name, image in wanted.items()
        ]

    def fetch(self, image: str, digest: str) -> ImageState:
        return ImageState(image, "id", digest, "1.1", "2026-01-03")

    def apply(self, *_: object, **__: object) -> Outcome:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


@pytest.fixture
def upgraded(
    make: Callable[..., Target],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """Runs `upgrade` against such a host; the exit code and what is said."""

    def run(outcome: Outcome | Exception, *words: str, runs: bool = True) -> tuple[int, str]:
        target = make(workers={"scan": {"image": "registry.example/scan:1", "memory": 32}})
        found = Host(target, outcome)
        if not runs:
            found.services = {}
        monkeypatch.setattr(host, "planned", found.planned)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main(["upgrade", "--yes", *words])
        assert isinstance(ended.value.code, int)
        return ended.value.code, capfd.readouterr().err

    return run


def test_a_tag_is_to_be_written_down_also_while_a_login_waits(upgraded: Any) -> None:
    code, said = upgraded(WaitingForPerson("not approved in time"), "gateway", "--to", "10.45.1j")
    assert code == 4
    assert "now write the tag 10.45.1j into stack.yaml" in said


def test_a_worker_that_ends_is_no_upgrade_that_went_well(upgraded: Any) -> None:
    outcome = Outcome("new", healthy=True, restored=False, seconds=1.0, workers={"scan": "ended"})
    code, said = upgraded(outcome, "scan")
    assert (code, "worker scan: ended" in said) == (1, True)
    code, said = upgraded(outcome, "gateway")
    assert (code, "but worker scan: ended" in said) == (0, True)


def test_where_nothing_runs_nothing_is_upgraded(upgraded: Any) -> None:
    """The bridge would be missing, and the image blamed for it."""
    outcome = Outcome("new", healthy=True, restored=False, seconds=1.0)
    code, said = upgraded(outcome, "gateway", runs=False)
    assert (code, "nothing of the stack runs" in said) == (2, True)


@pytest.mark.parametrize("service", ["gateway", "caddy"])
def test_it_asks_before_stack_yaml_comes_along(
    make: Callable[..., Target],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    service: str,
) -> None:
    """The other user's logins ask for no approval, so nothing else would stop it."""
    quiet = {"two_factor": {"asked": False}}
    before = rendered(make(gateway=quiet))
    (tmp_path / "word").write_text("word")
    (tmp_path / "word").chmod(0o600)
    after = make(gateway=quiet | {"username": "bob", "password": {"file": "word"}})
    release = rendered(after)
    observed = Observed(
        before.id,
        {
            one.path: ObservedFile(one.digest, None if one.secret else one.content)
            for one in before.files
        },
        {
            one.name: ObservedService(one.name, "running", "healthy", one.image, hash=one.hash)
            for one in before.services
        },
    )
    image = ImageState(f"{service}:1", "id", NEW, "1.1", "2026-01-03")
    done: list[str] = []

    def apply(*_: object, **__: object) -> Outcome:
        done.append("applied")
        return Outcome("new", healthy=True, restored=False, seconds=1.0)

    session = SimpleNamespace(
        newer=lambda _: [Newer(service, ImageState(f"{service}:1", "old", OLD), image)],
        fetch=lambda *_: image,
        apply=apply,
    )
    plan = compute(after, release, observed)

    @contextmanager
    def planned(*_: object, **__: object) -> Iterator[object]:
        yield SimpleNamespace(
            target=after, session=session, release=release, observed=observed, plan=plan
        )

    def refused(*_: object, **__: object) -> None:
        raise typer.Abort

    monkeypatch.setattr(host, "planned", planned)
    monkeypatch.setattr(upgrade, "confirm", refused)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["upgrade", service])
    told = capfd.readouterr().err
    if service == "gateway":
        assert (ended.value.code, done) == (130, []), told
        assert "otherwise than at the last up: environment TWS_USERID" in told
    else:
        assert (ended.value.code, done) == (0, ["applied"]), told
        assert "left alone, although changed: gateway (./deploy.py plan)" in told


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("caddy:2", "caddy"),
        ("localhost:5000/me/gateway:stable", "localhost:5000/me/gateway"),
        ("localhost:5000/me/gateway", "localhost:5000/me/gateway"),
        (f"ghcr.io/me/gateway:1@{OLD}", "ghcr.io/me/gateway"),
    ],
)
def test_a_port_is_no_tag(image: str, repository: str) -> None:
    assert repository_of(image) == repository
