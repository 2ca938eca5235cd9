"""`move`: the order of its steps, and where it stops when one fails."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infrastructure.apply.protocol.documents import BackupFacts
from infrastructure.apply.protocol.encoding import read
from infrastructure.apply.protocol.events import Backup, Restored
from infrastructure.apply.session import Schedules
from infrastructure.cli import host, main
from infrastructure.cli.commands.backup import moved
from infrastructure.errors import (
    DeployFailed,
    GangwayError,
    HostUnreachable,
    UsageError,
    WaitingForPerson,
)
from infrastructure.plan import compute as computing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from infrastructure.config import Target

OLD, NEW = "203.0.113.7", "203.0.113.9"
STEPS = [
    f"open {NEW}",
    f"open {OLD} locked",
    f"backup {OLD}",
    f"down {OLD} held",
    f"backup {OLD}",
    f"open {NEW} locked",
    f"restore {NEW}",
    f"begin {NEW} locked",
    f"apply {NEW}",
]
RETIRED = [
    f"leave {OLD} for me@{NEW}",
    f"halt {OLD} none: moved to me@{NEW}",
    f"end {OLD}",
]


class Played:
    """Both hosts; `fails` raises at a step."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.fails: dict[str, GangwayError] = {}
        self.fails_later = ""
        self.there: list[str] = []
        self.ended = Schedules(None, weekly=False)
        self.mark = "left"
        self.trusted: set[tuple[str, str | None]] = set()

    def note(self, step: str) -> Any:
        if step == self.fails_later and step in self.steps:
            self.fails[step] = DeployFailed("the journal is damaged")
        self.steps.append(step)
        if step in self.fails:
            raise self.fails[step]

    @contextmanager
    def connected(self, current: Any, target: Target) -> Iterator[Any]:
        at = target.stack.host.address
        self.trusted.add((at, current.trust_host_key))
        yield SimpleNamespace(
            open=lambda *_, lock=False: self._open(at, lock),
            begin=lambda *, lock=False: self.note(f"begin {at}" + " locked" * lock),
            observe=lambda _: None,
            down=lambda *, hold: self.note(f"down {at}" + " held" * hold),
            backup=lambda: self.note(f"backup {at}") or (b"content", Backup(7, 1, {})),
            restore=lambda _: self.note(f"restore {at}") or Restored("", 1, {}, 0.0, "prod"),
            apply=lambda *_, **__: self.note(f"apply {at}"),
            leave=lambda to: self.note(f"leave {at} for {to}"),
            halt=lambda cancel, reason: self._halt(f"halt {at} {cancel}: {reason}"),
            end_schedules=lambda: self.note(f"end {at}") or self.ended,
        )

    @contextmanager
    def held(self, current: Any, target: Target) -> Iterator[Any]:
        with self.connected(current, target) as session:
            yield session, lambda: None

    def _halt(self, step: str) -> Any:
        self.note(step)
        return SimpleNamespace(mark=self.mark)

    def _open(self, at: str, lock: bool) -> Any:
        self.note(f"open {at}" + " locked" * lock)
        return SimpleNamespace(services=self.there if at == NEW else ["bridge"])


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    hosts = Played()
    monkeypatch.setattr(host, "connected", hosts.connected)
    monkeypatch.setattr(host, "held", hosts.held)
    monkeypatch.setattr(computing, "compute", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    one = {
        "host": f"me@{OLD}",
        "gateway": {"username": "alice", "password": {"file": str(tmp_path / "word")}},
    }
    (tmp_path / "word").write_text("word")
    (tmp_path / "word").chmod(0o600)
    (tmp_path / "stack.yaml").write_text(yaml.safe_dump({"targets": {"prod": one}}))
    return hosts


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["move", "--yes", *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_one_gateway_at_a_time_and_the_old_one_gets_a_halt(
    played: Played, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--to", f"me@{NEW}") == 0
    assert played.steps == [*STEPS, *RETIRED]
    assert "journal accept" in capfd.readouterr().err


@pytest.mark.parametrize("away", [False, True])
def test_the_key_that_is_trusted_is_the_new_machines(played: Played, away: bool) -> None:
    """The old one has another: it would be refused as one that somebody has exchanged."""
    mark = f"SHA256:{'a' * 43}"
    if away:  # it is told by another connection
        played.fails[RETIRED[0]] = HostUnreachable("gone")
    assert run("--to", f"me@{NEW}", "--trust-host-key", mark) == 0
    assert played.trusted == {(NEW, mark), (OLD, None)}


def test_a_login_that_waits_is_no_failure(played: Played) -> None:
    played.fails[f"apply {NEW}"] = WaitingForPerson("not approved in time")
    assert run("--to", f"me@{NEW}") == 4
    assert played.steps[-3:] == RETIRED


def test_a_login_that_waits_ends_one_document(
    played: Played, capfd: pytest.CaptureFixture[str]
) -> None:
    played.fails[f"apply {NEW}"] = WaitingForPerson("not approved in time")
    assert run("--json", "--to", f"me@{NEW}") == 4
    assert json.loads(capfd.readouterr().out)["files"] == 1


def test_what_the_old_one_did_by_itself_ends_and_is_named(
    played: Played, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its timer would put the journal of then over that of now, day by day."""
    known = {"to": "/mnt/b", "every": 86_400.0, "keep": 7, "since": 1.0, "succeededAt": None}
    backups = read(BackupFacts, {**known, "snapshot": None, "failedAt": None, "failure": None})
    played.ended = Schedules(backups, weekly=True)
    assert run("--to", f"me@{NEW}") == 0
    told = capfd.readouterr().err
    assert "./deploy.py backup --to /mnt/b --every 1d --keep 7" in told
    assert "./deploy.py upgrade --weekly" in told


@pytest.mark.parametrize("step", RETIRED)
def test_an_old_one_that_is_away_makes_no_failure_of_it(
    played: Played, capfd: pytest.CaptureFixture[str], step: str
) -> None:
    played.fails[step] = HostUnreachable("the old one cannot be reached")
    assert run("--to", f"me@{NEW}") == 0
    assert played.steps[len(STEPS) :].count(step) == 2, "once more, by another connection"
    told = capfd.readouterr().err
    assert "it runs on" in told
    assert "cannot be reached" in told
    assert "gangway-prod-backup.timer" in told


def test_an_old_one_that_cannot_be_halted_is_told(
    played: Played, capfd: pytest.CaptureFixture[str]
) -> None:
    played.mark = "Read-only file system"
    assert run("--to", f"me@{NEW}") == 0
    assert "could not be halted: Read-only" in capfd.readouterr().err


def test_a_secret_that_cannot_be_had_stops_nothing(
    played: Played, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "word").unlink()
    assert run("--to", f"me@{NEW}") == 2
    assert played.steps == []


def test_what_cannot_be_copied_after_the_stop_says_how_to_go_back(
    played: Played, capfd: pytest.CaptureFixture[str]
) -> None:
    played.fails_later = f"backup {OLD}"
    assert run("--to", f"me@{NEW}") == 1
    assert played.steps[-1] == f"backup {OLD}"
    told = capfd.readouterr().err
    assert "nothing was sent" in told
    assert "./deploy.py up starts it again" in told


@pytest.mark.parametrize("step", [f"restore {NEW}", f"apply {NEW}"])
def test_when_it_fails_there_the_old_one_may_start_again(
    played: Played, capfd: pytest.CaptureFixture[str], step: str
) -> None:
    played.fails[step] = DeployFailed("no room")
    assert run("--to", f"me@{NEW}") == 1
    assert not any(each.startswith(("halt", "leave")) for each in played.steps)
    assert "make sure that nothing runs there" in capfd.readouterr().err


@pytest.mark.parametrize("step", [f"open {NEW}", f"backup {OLD}", f"down {OLD} held"])
def test_nothing_is_copied_before_the_old_one_is_down(played: Played, step: str) -> None:
    played.fails[step] = DeployFailed("no")
    assert run("--to", f"me@{NEW}") == 1
    assert played.steps[-1] == step


def test_a_stack_that_runs_there_already_stops_it_before_anything(played: Played) -> None:
    played.there = ["gateway"]
    assert run("--to", f"me@{NEW}") == 2
    assert played.steps == [f"open {NEW}"]


@pytest.mark.parametrize("to", [OLD, f"me@{OLD}", f"ssh://root@{OLD}:22"])
def test_where_it_is_already(played: Played, to: str) -> None:
    """However one logs in there: a stack that is down would be put aside for its own backup."""
    assert run("--to", to) == 2
    assert played.steps == []


def test_the_sandbox_stays_here(played: Played, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").unlink()
    assert run("--to", f"me@{NEW}") == 2
    assert played.steps == []


@pytest.mark.parametrize(
    ("host", "to", "said"),
    [
        (f"me@{OLD}", f"you@{NEW}", f"write the new host into stack.yaml: host: you@{NEW}"),
        (
            {"address": OLD, "user": "me", "identity": "~/.ssh/id"},
            f"you@{NEW}",
            f"change the host in stack.yaml: host.address: {NEW}, host.user: you",
        ),
        (
            {"address": OLD, "user": "me", "port": 2222, "jump": "j", "sudo": False},
            f"me@{NEW}",
            f"change the host in stack.yaml: host.address: {NEW}, no host.port, no host.jump",
        ),
    ],
)
def test_what_to_change_in_stack_yaml(
    played: Played, tmp_path: Path, capfd: pytest.CaptureFixture[str], host: Any, to: str, said: str
) -> None:
    """All that was written beside the address still holds, and is not to be lost."""
    file = tmp_path / "stack.yaml"
    values = yaml.safe_load(file.read_text())
    values["targets"]["prod"]["host"] = host
    file.write_text(yaml.safe_dump(values))
    assert run("--to", to) == 0
    assert played.steps[-1] == f"end {OLD}"
    assert said in capfd.readouterr().err.splitlines()


def test_the_way_to_the_new_host(make: Callable[..., Target]) -> None:
    target = make(host={"address": OLD, "user": "me", "identity": "~/.ssh/id"})
    there = moved(target, f"you@{NEW}:2222").stack.host
    assert (there.address, there.user, there.port) == (NEW, "you", 2222)
    assert there.identity == target.stack.host.identity
    assert (there.sudo, there.connect_timeout) == (True, 10.0)
    asked = {"address": OLD, "user": "me", "sudo": False, "connect_timeout": 60, "jump": "j"}
    there = moved(make(host=asked), NEW).stack.host
    assert (there.user, there.sudo, there.connect_timeout, there.jump) == (None, False, 60.0, None)
    with pytest.raises(UsageError, match="is no host"):
        moved(target, "a b")
    with pytest.raises(UsageError, match="a password does not belong") as refused:
        moved(target, "me:s3cr3t@host")
    assert "s3cr3t" not in refused.value.message
