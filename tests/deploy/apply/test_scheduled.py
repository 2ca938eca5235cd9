"""Backups into a repository and on a schedule: the real restic, a real SSH server."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infrastructure.apply.bundle import scheduled_program
from infrastructure.apply.host import backup, facts, repository, scheduled
from infrastructure.apply.host.alarm import Alarm
from infrastructure.apply.host.store import Store
from infrastructure.apply.protocol import documents, events, requests
from infrastructure.release_files import BACKUP_STATE
from infrastructure.runtime.base import Container, HostFailure
from tests.deploy.apply.fake import FakeRuntime
from tests.deploy.apply.test_backup import Kept, journal
from tests.engine.parts import ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.restic, pytest.mark.timeout(240)]
PASSWORD = "correct horse battery staple"
SYSTEMCTL = '#!/bin/sh\necho "$@" >>"$0.log"\n'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "opt" / "prod"))
    journal(found, 2)
    return found


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd: where its units lie, and what its `systemctl` was asked."""
    units, tools, run = (tmp_path / name for name in ("units", "tools", "run"))
    for folder in (units, tools, run):
        folder.mkdir()
    (tools / "systemctl").write_text(SYSTEMCTL)
    (tools / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(scheduled, "UNITS", units)
    monkeypatch.setattr(scheduled, "SYSTEMD", run)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return units


def at(place: Path | str, password: str = PASSWORD, **more: str) -> documents.RepositoryPart:
    return documents.RepositoryPart(str(place), password, **more)


def request(
    to: documents.RepositoryPart, *, target: str = "prod", keep: int = 2, every: float = 0.0
) -> requests.KeepBackupsRequest:
    program = scheduled_program() if every else ""
    return requests.KeepBackupsRequest(to, target, "0.1.0", keep, every, program)


def kept(store: Store, to: documents.RepositoryPart, **more: object) -> events.KeptBackup:
    return scheduled.keep_backups(store, Kept(), request(to, **more))  # type: ignore[arg-type]


def put_back(
    to: documents.RepositoryPart, store: Store, snapshot: str = "latest"
) -> events.Restored:
    wanted = requests.RestoreRequest(0, None, repository=to, snapshot=snapshot)
    return backup.put_back(store, Kept(), wanted)


def test_a_repository_keeps_the_newest_and_gives_them_back(store: Store, tmp_path: Path) -> None:
    to = at(tmp_path / "mnt" / "backups")
    first = kept(store, to)
    assert first.journal["orders"] == 2
    journal(store, 1)
    second = kept(store, to)
    journal(store, 1)
    third = kept(store, to)
    fresh = Store(str(tmp_path / "new" / "prod"))
    found = put_back(to, fresh)
    assert (found.target, found.journal["orders"]) == ("prod", 4)
    data = fresh.base / "data"
    assert backup.counted(data / backup.JOURNAL)["orders"] == 4
    assert stat.S_IMODE((data / backup.JOURNAL).stat().st_mode) == 0o600
    older = put_back(to, Store(str(tmp_path / "older" / "prod")), second.snapshot)
    assert older.journal["orders"] == 3
    with pytest.raises(HostFailure, match=f"no backup '{first.snapshot}'") as refused:
        put_back(to, Store(str(tmp_path / "oldest" / "prod")), first.snapshot)  # keep is 2
    assert third.snapshot in refused.value.hint
    with pytest.raises(HostFailure, match="knows more than the backup"):
        put_back(to, store, second.snapshot)
    left = [*store.base.rglob(".backup-*"), *fresh.base.rglob(".restore-*")]
    assert not left
    assert PASSWORD not in "".join(
        path.read_text(errors="replace") for path in fresh.base.rglob("*") if path.is_file()
    )


def test_two_targets_do_not_share_a_repository(store: Store, tmp_path: Path) -> None:
    to = at(tmp_path / "backups")
    kept(store, to)
    with pytest.raises(HostFailure, match="has the backups of target prod") as refused:
        kept(store, to, target="other")
    assert refused.value.code == "repository-of-another"


@pytest.mark.parametrize(
    ("password", "code"), [("another word", "repository-password"), (PASSWORD, "no-backup")]
)
def test_what_cannot_be_opened_says_why(
    store: Store, tmp_path: Path, password: str, code: str
) -> None:
    place = tmp_path / "backups"
    if code == "repository-password":
        kept(store, at(place))
    with pytest.raises(HostFailure) as refused:
        put_back(at(place, password), Store(str(tmp_path / "new" / "prod")))
    assert refused.value.code == code
    assert password not in f"{refused.value.message}{refused.value.hint}{refused.value.details}"


def test_a_link_in_a_repository_leads_nowhere(store: Store, tmp_path: Path) -> None:
    to = at(tmp_path / "backups")
    tree, secret = tmp_path / "tree", tmp_path / "secret"
    manifest = backup.gather(store, tree, "prod", "0.1.0")
    secret.write_text("x")
    (tree / "data" / "bridge" / "link").symlink_to(secret)
    manifest["files"]["bridge/link"] = (
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    )
    (tree / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "scratch").mkdir()
    with repository.opened(to, tmp_path / "scratch") as found:
        found.prepare("prod")
        found.add(tree, "prod")
    with pytest.raises(HostFailure, match="a link at data/bridge/link"):
        put_back(to, Store(str(tmp_path / "new" / "prod")))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ssh.SshServer]:
    found = ssh.start(tmp_path / "sshd", subsystem="sftp internal-sftp")
    yield found
    found.stop()


def test_another_machine_by_sftp(store: Store, tmp_path: Path, server: ssh.SshServer) -> None:
    address = f"sftp://root@127.0.0.1:{server.port}{tmp_path}/far away"
    secrets = {
        "key": server.client_key.read_text(),
        "known_hosts": server.known_hosts_line(),
    }
    stranger = f"[127.0.0.1]:{server.port} " + " ".join(
        Path(f"{server.client_key}.pub").read_text().split()[:2]
    )
    with pytest.raises(HostFailure) as refused:
        kept(store, at(address, key=secrets["key"], known_hosts=stranger))
    assert "--sftp-known-hosts" in refused.value.hint
    kept(store, at(address, **secrets))
    assert (tmp_path / "far away" / "config").is_file()
    found = put_back(at(address, **secrets), Store(str(tmp_path / "new" / "prod")))
    assert found.journal["orders"] == 2


@pytest.mark.parametrize(
    "address", ["sftp://-oProxyCommand=x/f", "sftp://host", "sftp://a b/f", "sftp://host:x/f"]
)
def test_an_address_that_ssh_would_misread_is_none(address: str) -> None:
    with pytest.raises(HostFailure, match="is not sftp://"):
        repository.parts(address)


# --- the schedule ---------------------------------------------------------------------------------
def test_the_schedule_runs_by_itself_and_ends(store: Store, tmp_path: Path, systemd: Path) -> None:
    to = at(tmp_path / "backups")
    kept(store, to, every=43_200.0)
    asked = (systemd.parent / "tools" / "systemctl.log").read_text()
    assert "enable --quiet gangway-prod-backup.timer" in asked
    assert "OnUnitInactiveSec=43200s" in (systemd / "gangway-prod-backup.timer").read_text()
    for name in ("password", "backup.json", "backup-state.json", "program"):
        mode = stat.S_IMODE((store.base / "scheduled" / name).stat().st_mode)
        assert mode == (0o400 if name == "password" else 0o600), name
    assert not facts.loose_secrets(store.base)
    text = "".join(path.read_text() for path in systemd.iterdir()) + asked
    assert PASSWORD not in text

    journal(store, 5)
    before = told(store)
    run = timer_fires(systemd, store)
    assert run.returncode == 0, run.stderr
    assert told(store)["succeededAt"] > before["succeededAt"]
    assert (store.base / "data" / "bridge" / BACKUP_STATE).stat().st_mode & 0o044
    assert put_back(to, Store(str(tmp_path / "new" / "prod"))).journal["orders"] == 7
    assert BACKUP_STATE not in {path.name for path in (tmp_path / "new").rglob("*")}

    disk = (tmp_path / "backups").rename(tmp_path / "disk")
    (tmp_path / "backups").mkdir()  # it is not mounted
    run = timer_fires(systemd, store)
    assert (
        run.stderr == f"error: there is no repository at {to.to} any more: is its disk mounted?\n"
    )
    assert not list((tmp_path / "backups").iterdir()), "nothing is put onto the host's own disk"
    (tmp_path / "backups").rmdir()
    disk.rename(tmp_path / "backups")
    assert timer_fires(systemd, store).returncode == 0

    shutil.rmtree(tmp_path / "backups")
    (tmp_path / "backups").write_text("")
    run = timer_fires(systemd, store)
    assert (run.returncode, "error:" in run.stderr) == (1, True)
    assert "Traceback" not in run.stderr
    state = scheduled.facts(store.base)
    assert state is not None
    assert state["failure"]
    assert (state["failedAt"] or 0) > (state["succeededAt"] or 0) > 0
    assert told(store)["failure"] == state["failure"]

    assert scheduled.end_backups(store) is True
    assert not list(systemd.iterdir())
    assert {path.name for path in (store.base / "scheduled").iterdir()} == {"program"}
    assert scheduled.facts(store.base) is None
    assert scheduled.end_backups(store) is False


def told(store: Store) -> dict[str, Any]:
    """What the bridge is told."""
    found: dict[str, Any] = json.loads((store.base / "data/bridge" / BACKUP_STATE).read_text())
    return found


def timer_fires(units: Path, store: Store) -> subprocess.CompletedProcess[str]:
    """The service's own command, from an environment as bare as systemd's."""
    service = (units / "gangway-prod-backup.service").read_text()
    (line,) = [one for one in service.splitlines() if one.startswith("ExecStart=")]
    words = line.removeprefix("ExecStart=").replace('"', "").split()
    assert words[0] == scheduled.PYTHON
    assert words[-1] == str(store.base)
    time.sleep(0.01)
    return subprocess.run(
        [sys.executable, *words[1:]],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_first_backup_that_fails_begins_no_schedule(
    store: Store, tmp_path: Path, systemd: Path
) -> None:
    (tmp_path / "backups").write_text("a file")
    with pytest.raises(HostFailure):
        kept(store, at(tmp_path / "backups"), every=3600.0)
    assert not list(systemd.iterdir())
    assert not (store.base / "scheduled").exists()


def test_without_systemd_a_schedule_is_refused_and_one_backup_is_not(
    store: Store, tmp_path: Path, systemd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduled, "SYSTEMD", tmp_path / "no such folder")
    to = at(tmp_path / "backups")
    with pytest.raises(HostFailure, match="not run by systemd"):
        kept(store, to, every=3600.0)
    assert not (tmp_path / "backups").exists()
    kept(store, to)


def test_units_are_what_systemd_understands(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    base = tmp_path / 'with space, % and $"' / "prod"
    for name, text in scheduled.units("backup", "Backups of prod", base, 3600.0).items():
        (tmp_path / name).write_text(text.replace(scheduled.PYTHON, shutil.which("true") or ""))
    names = [str(path) for path in tmp_path.glob("gangway-*")]
    assert len(names) == 2
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [one for one in done.stderr.splitlines() if "gangway-" in one]
    assert (done.returncode, said) == (0, []), done.stderr


def scheduled_stack(store: Store) -> None:
    settings = {"to": "/mnt/b", "keep": 3, "target": "prod", "version": "1"}
    (store.base / "scheduled").mkdir()
    (store.base / "scheduled/backup.json").write_text(
        json.dumps({**settings, "every": 3600.0, "since": 1.0})
    )


def fires(store: Store, monkeypatch: pytest.MonkeyPatch) -> int:
    """What the timer starts, in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["program", "backup", str(store.base)])
    monkeypatch.setattr(os, "umask", lambda _: 0)
    with contextlib.suppress(SystemExit):
        scheduled.main()
        return 0
    return 1


def test_a_schedule_that_ends_while_it_runs_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the bridge would wait for its next backup, and tell people that none comes."""
    scheduled_stack(store)

    def into(*_: object, **__: object) -> tuple[str, dict[str, Any]]:
        scheduled._forget(store)
        return "ab12", {"files": {}}

    monkeypatch.setattr(scheduled, "_into", into)
    assert fires(store, monkeypatch) == 0
    assert capsys.readouterr().out == "backup ab12: 0 files\n"
    assert not list((store.base / "scheduled").iterdir())
    assert not (store.base / "data/bridge" / BACKUP_STATE).exists()


@pytest.mark.parametrize("error", [HostFailure("repository", "no disk"), OSError(28, "no disk")])
def test_a_disk_that_is_full_hides_not_why_it_failed(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    scheduled_stack(store)

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(scheduled, "_into", full)
    monkeypatch.setattr(scheduled, "write_whole", full if isinstance(error, OSError) else no_room)
    assert fires(store, monkeypatch) == 1
    said = capsys.readouterr().err
    assert said in ("error: no disk\n", "error: the host's disk is full: no disk\n")


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_systemctl_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", stuck)
    with pytest.raises(HostFailure, match="systemctl enable did not end") as refused:
        scheduled._systemctl("enable", "x.timer")
    assert refused.value.code == "systemd"


# --- images ---------------------------------------------------------------------------------------
NOTED = {
    "services": [
        {"name": "gateway", "image": "g:stable", "builds": False},
        {"name": "bridge", "image": "gangway-bridge:1", "builds": True},
    ],
    "checks": {"bridge": {"port": 8080}},
}


@pytest.mark.parametrize(
    ("found", "refused", "told_of"),
    [
        (
            "sha256:new",
            {},
            ["gateway runs 10.37.1m of 2026-01-02, and g:stable stands for another"],
        ),
        ("sha256:old", {}, []),
        ("", {}, []),
        ("sha256:new", {"sha256:new": "2026-02-03: it ended"}, []),
    ],
)
def test_newer_images_are_told_weekly_and_refused_ones_are_not(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    found: str,
    refused: dict[str, str],
    told_of: list[str],
) -> None:
    store.release("r1").mkdir(parents=True)
    (store.release("r1") / "deploy.json").write_text(json.dumps(NOTED))
    store.switch("r1")
    for digest, why in refused.items():
        store.refuse(digest, why)

    class Registry(FakeRuntime):
        def image(self, name: str, of: str = "") -> dict[str, str]:
            values = {"id": "i", "digest": "sha256:old", "version": "10.37.1m"}
            return {"name": name, **values, "created": "2026-01-02"}

        def at_registry(self, image: str) -> tuple[str, str]:
            return found, "" if found else "denied"

    told: list[str] = []
    running = Registry(Container("gateway", "gateway-1", image="g:stable", image_id="i"))
    monkeypatch.setattr(scheduled, "choose", lambda *_: running)
    monkeypatch.setattr(Alarm, "newer", lambda _, text: told.append(text))
    monkeypatch.setattr(sys, "argv", ["program", "images", str(store.base)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    scheduled.main()
    assert [text.partition(".\n\n")[0] for text in told] == told_of


def test_the_weekly_look_takes_away_what_the_gateway_leaves(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the registries say: nothing else would, in months without a deploy."""
    settings = store.base / "data" / "gateway" / "paper"
    settings.mkdir(parents=True)
    for number in range(9):
        (settings / f"launcher.{number}.log").touch()
        (settings / f"hs_err_pid{number}.log").touch()
    (settings / "launcher.log").touch()
    monkeypatch.setattr(scheduled, "choose", lambda *_: FakeRuntime())
    monkeypatch.setattr(sys, "argv", ["program", "images", str(store.base)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.MonkeyPatch.context() as quiet:
        quiet.setattr(sys, "stdout", out := io.TextIOWrapper(io.BytesIO()))
        scheduled.main()
        out.flush()
    names = sorted(path.name for path in settings.iterdir())
    assert len([name for name in names if name.startswith("launcher.")]) == 5 + 1
    assert len([name for name in names if name.startswith("hs_err")]) == 2
    assert b"removed 11 old logs and dumps" in out.buffer.getvalue()


def test_the_weekly_look_is_begun_and_ended(store: Store, systemd: Path) -> None:
    begun = scheduled.watch_images(store, requests.WatchImagesRequest(True, "program"))
    assert begun.changed
    assert sorted(path.name for path in systemd.iterdir()) == [
        "gangway-prod-images.service",
        "gangway-prod-images.timer",
    ]
    assert "OnUnitInactiveSec=604800s" in (systemd / "gangway-prod-images.timer").read_text()
    ended = requests.WatchImagesRequest(wanted=False)
    assert [scheduled.watch_images(store, ended).changed for _ in range(2)] == [True, False]
    assert not list(systemd.iterdir())


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_what_the_host_starts_by_itself_is_its_owners_alone(store: Store, mask: int) -> None:
    before = os.umask(mask)
    try:
        for text in ("one", "two"):  # the second time the folder is there
            folder = scheduled.install_program(store.base, text)
            assert folder == store.base / "scheduled"
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / scheduled.PROGRAM).stat().st_mode) == 0o600
            assert (folder / scheduled.PROGRAM).read_text() == text
    finally:
        os.umask(before)


def test_the_units_of_a_job() -> None:
    found = scheduled.units("backup", "Backups of prod", Path("/opt/my prod"), 90.4)
    assert list(found) == ["gangway-my prod-backup.service", "gangway-my prod-backup.timer"]
    service, timer = found.values()
    assert "TimeoutStartSec=3h\nRestart=on-failure\nRestartSec=10min\n" in service
    program = '"/opt/my prod/scheduled/program" backup "/opt/my prod"'
    assert f"ExecStart=/usr/bin/python3 -I -S -u {program}\n" in service
    assert "OnUnitInactiveSec=90s\n" in timer
    assert scheduled.WEEK == 604_800


@pytest.mark.parametrize("hours", [1, 2, 24])
def test_after_three_tries_in_vain_the_next_one_comes_on_time(hours: int) -> None:
    """systemd refuses what is started too often, the timer's own start included."""
    service, _ = scheduled.units("backup", "x", Path("/opt/prod"), hours * 3600.0).values()
    interval = re.search(r"^StartLimitIntervalSec=(\d+)s$", service, re.MULTILINE)
    assert interval is not None
    assert "StartLimitBurst=4\n" in service
    tries = 3 * 600
    assert tries + 600 < int(interval[1]) < tries + hours * 3600


class Commands:
    """Plays the machine's commands; keeps what was run, and for how long it might."""

    def __init__(self, *ends: tuple[int, str, str]) -> None:
        self.ends = list(ends)
        self.run: list[tuple[list[str], float, dict[str, str]]] = []

    def __call__(
        self, command: list[str], *, timeout: float, env: Any = None, **_: Any
    ) -> subprocess.CompletedProcess[str]:
        self.run.append((command, timeout, env or {}))
        code, out, err = self.ends.pop(0)
        return subprocess.CompletedProcess(command, code, out, err)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ((1, "out", "first\nlast \n"), "last"),
        ((5, " only out\n", "\n"), "exit code 5"),
        ((5, "one\nonly out\n", ""), "only out"),
        ((-9, "", ""), "exit code -9"),
    ],
)
def test_what_systemd_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, end: tuple[int, str, str], why: str
) -> None:
    commands = Commands((0, "", "a warning"), end)
    monkeypatch.setattr(subprocess, "run", commands)
    scheduled._systemctl("daemon-reload")
    with pytest.raises(HostFailure) as refused:
        scheduled._systemctl("enable", "--quiet", "x.timer")
    assert (refused.value.code, refused.value.message) == ("systemd", f"systemctl enable: {why}")
    assert [(one[0], one[1]) for one in commands.run] == [
        (["systemctl", "daemon-reload"], 120),
        (["systemctl", "enable", "--quiet", "x.timer"], 120),
    ]


@pytest.mark.parametrize(
    ("there", "user", "runs"),
    [
        ({"restic"}, 1000, 0),
        (set(), 0, 0),
        ({"apt-get"}, 1000, 0),
        ({"apt-get"}, 0, 2),
    ],
)
def test_restic_is_installed_where_it_is_missing_and_can_be_had(
    monkeypatch: pytest.MonkeyPatch, there: set[str], user: int, runs: int
) -> None:
    commands = Commands((0, "", "x"), (100, "", "y" * 3000 + "z"))
    monkeypatch.setattr(subprocess, "run", commands)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if there == {"restic"}:
        scheduled.require_restic(Kept())
    else:
        with pytest.raises(HostFailure) as refused:
            scheduled.require_restic(Kept())
        assert refused.value.code == "restic-missing"
        assert "apt-get install restic" in refused.value.hint
        assert refused.value.details == ("y" * 1999 + "z" if runs else "")
    assert len(commands.run) == runs
    for command, seconds, environment in commands.run:
        assert command[:4] == ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
        assert (seconds, environment["DEBIAN_FRONTEND"]) == (900.0, "noninteractive")


def test_a_schedule_is_as_it_was_written_down(store: Store) -> None:
    folder = scheduled.install_program(store.base, "")
    assert scheduled.facts(store.base) is None
    for odd in ("", "[1]", "{"):
        (folder / scheduled.SETTINGS).write_text(odd)
        assert scheduled.facts(store.base) is None
    (folder / scheduled.SETTINGS).write_text('{"to": "/mnt/b"}')
    nothing = dict.fromkeys(("succeededAt", "snapshot", "failedAt", "failure"))
    least = {"to": "/mnt/b", "every": 0.0, "keep": 0, "since": 0.0}
    assert scheduled.facts(store.base) == {**least, **nothing}
    settings = {"to": "/mnt/b", "every": 3600.0, "keep": 7, "since": 12.5}
    state = {"succeededAt": 14.0, "snapshot": "abc", "failedAt": 13.0, "failure": "full"}
    (folder / scheduled.SETTINGS).write_text(json.dumps(settings))
    (folder / scheduled.STATE).write_text(json.dumps(state))
    assert scheduled.facts(store.base) == {**settings, **state}


def test_where_the_stack_was_moved_away_from_nothing_goes_on(
    store: Store,
    systemd: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Its journal stands still: as the newest backup it would push the good ones out."""
    scheduled_stack(store)
    store.leave("me@203.0.113.9")
    assert fires(store, monkeypatch) == 1
    assert "the stack was moved to me@203.0.113.9" in capsys.readouterr().err
    images = requests.WatchImagesRequest(True, "program")
    for begin in (
        lambda: kept(store, at(tmp_path / "repository"), every=3600.0),
        lambda: scheduled.watch_images(store, images),
    ):
        with pytest.raises(HostFailure) as refused:
            begin()
        assert refused.value.code == "moved-away"
    assert not (tmp_path / "repository").exists()
    assert not list(systemd.iterdir())
    assert not scheduled.watch_images(store, requests.WatchImagesRequest(wanted=False)).changed


def test_a_run_that_nobody_wants_any_more_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    masks: list[int] = []
    monkeypatch.setattr(os, "umask", masks.append)
    monkeypatch.setattr(sys, "argv", ["program", "backup", str(store.base)])
    with pytest.raises(SystemExit) as ended:
        scheduled.main()
    assert (ended.value.code, masks) == (1, [0o077])
    assert capsys.readouterr().err == "error: no backups are wanted any more\n"


def test_secrets_of_a_repository_are_written_for_their_reader_alone(tmp_path: Path) -> None:
    given = at("/mnt/b", "word\n\n", known_hosts="host key")
    (tmp_path / "key").write_text("of an earlier one")
    found = repository.stored(given, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "password": "word\n",
        "known_hosts": "host key\n",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o400}
    assert found._password == tmp_path / "password"
    assert (found._key, found._known_hosts) == (None, tmp_path / "known_hosts")
    repository.stored(given, tmp_path)  # over what is there and cannot be written


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("sftp://me@far.example:2222/a b/c", ("me", "far.example", "2222", "/a b/c")),
        ("sftp://far.example/c", ("", "far.example", "", "/c")),
        ("sftp://me@far.example/c", ("me", "far.example", "", "/c")),
        ("sftp://far.example:65535/c", ("", "far.example", "65535", "/c")),
    ],
)
def test_the_parts_of_an_address(address: str, found: tuple[str, ...]) -> None:
    assert repository.parts(address) == found
    user, host, port, place = found
    key, hosts = Path("/k/key"), Path("/k/known")
    for one in (
        repository.Repository(address, Path("/k/word")),
        repository.Repository(address, Path("/k/word"), key, hosts),
    ):
        command = one._command("snapshots", "--json")
        login = f"{user}@{host}" if user else host
        assert command[:5] == ["restic", "--no-cache", "--quiet", "--repo", f"sftp:{login}:{place}"]
        assert command[5:8] == ["--password-file", "/k/word", "-o"]
        assert command[9:] == ["snapshots", "--json"]
        name, _, line = command[8].partition("=")
        words = shlex.split(line)
        assert (name, words[0], words[-3:]) == ("sftp.command", "ssh", [login, "-s", "sftp"])
        assert {"-oBatchMode=yes", "-oStrictHostKeyChecking=yes"} < set(words)
        assert (("-p" in words) and words[words.index("-p") + 1]) == (port or False)
        assert ("-i" in words) is (one._key is not None)
        assert ("-oUserKnownHostsFile=/k/known" in words) is (one._known_hosts is not None)
    local = repository.Repository("/mnt/b", Path("/k/word"))._command("init")
    assert local == [*command[:4], "/mnt/b", "--password-file", "/k/word", "init"]


def test_what_restic_says_is_told_by_its_cause(tmp_path: Path) -> None:
    one = repository.Repository("/mnt/b", tmp_path / "word")
    for said, code, message, hint in (
        ("x\nFatal: wrong password", "repository-password", "does not open", "--passphrase-file"),
        ("Is there a repository at", "no-backup", "no repository at /mnt/b", "backup --to"),
        ("Host key verification failed.", "repository", "Host key", "--sftp-known-hosts"),
        ("me: Permission denied (publickey).", "repository", "Permission", "--sftp-key"),
        ("a\nFatal: the disk is full\nb", "repository", ": the disk is full", "mounted"),
        ("a\n\n  b  \n", "repository", ": b", "mounted"),
        ("", "repository", ": restic failed", "mounted"),
    ):
        found = one._failed(said)
        assert found.code == code
        assert message in found.message
        assert hint in found.hint
    long = one._failed("\n".join(map(str, range(30))))
    assert long.details == "\n".join(map(str, range(20, 30)))


@pytest.mark.parametrize(
    ("says", "hint"),
    [
        ("Host key verification failed.", "--sftp-known-hosts"),
        ("root@far: Permission denied (publickey).", "--sftp-key"),
        ("ssh: connect to host far port 22: Connection refused", "can the host reach it?"),
    ],
)
def test_the_cause_is_told_though_restic_does_not_pass_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, hint: str
) -> None:
    """It does so only if it is in time: a busy machine would get another advice."""
    fatal = "Fatal: unable to open repository: unable to start the sftp session, error: EOF"
    for name, text in (("restic", fatal), ("ssh", says)):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{text}' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(repository, "_PATH", f"{tmp_path}:/usr/bin:/bin")
    one = repository.Repository("sftp://root@far/b", tmp_path / "word", tmp_path / "key")
    for ask in (lambda: one.prepare("prod"), one.snapshots):
        with pytest.raises(HostFailure) as refused:
            ask()
        assert hint in refused.value.hint
        assert refused.value.message.endswith("unable to start the sftp session, error: EOF")
        assert says in refused.value.details
    (tmp_path / "ssh").unlink()
    monkeypatch.setattr(repository, "_PATH", str(tmp_path))
    assert one._refused() == ""


def test_restics_list_is_read_and_anything_else_is_not() -> None:
    two = [{"time": "2026-01-02", "id": "b"}, {"time": "2026-01-01", "id": "a"}]
    assert [one["id"] for one in repository.listed(json.dumps(two))] == ["a", "b"]
    assert repository.listed("null") == repository.listed("[]") == []
    for odd in ("", "{", "[1]", '[{"id": "a"}]'):
        with pytest.raises(HostFailure, match="cannot be read"):
            repository.listed(odd)
    assert repository.of({"tags": ["gangway", "target=prod=1"]}) == "prod=1"
    assert [repository.of(one) for one in ({}, {"tags": None}, {"tags": ["target="]})] == [""] * 3


def test_the_program_as_one_file_runs_with_the_systems_python_alone(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(scheduled_program())
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program), "images", str(tmp_path / "nothing")],
        env={"PATH": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout, done.stderr) in (
        (0, "nothing newer\n", ""),
        (1, "", "error: there is no Docker on the host\n"),
    ), done


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (OSError(28, "No space left"), "the host's disk is full: No space left"),
        (sqlite3.OperationalError("busy"), "busy"),
        (KeyError("x"), "unexpected KeyError: 'x'"),
    ],
)
def test_whatever_a_run_fails_on_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception, failure: str
) -> None:
    folder = scheduled.install_program(store.base, "program")
    settings = {"to": "/b", "every": 1, "keep": 1, "target": "prod", "version": "1", "since": 1.0}
    (folder / "backup.json").write_text(json.dumps(settings))

    def gather(*_: object) -> None:
        raise error

    monkeypatch.setattr(backup, "gather", gather)
    with pytest.raises(HostFailure):
        scheduled.JOBS["backup"](store.base)
    assert told(store)["failure"] == failure
