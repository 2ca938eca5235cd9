"""What the host does by itself on a schedule. Runs on the host: standard library, Python 3.9.

    <base>/scheduled/            0700
        program                  this program, with all that it needs, as one file
        backup.json              `{"to", "every", "keep", "target", "version", "since"}`
        backup-state.json        when it last went well, and badly
        password, key, known_hosts   of the repository, 0400

systemd's timers start it; each run is a process of its own that needs nobody's laptop. What the
bridge has to know (to tell people when no backup comes) is in a file beside the journal: whoever
watches is not the one who may have failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from infrastructure.apply.host import backup, repository
from infrastructure.apply.host.alarm import Alarm
from infrastructure.apply.host.operate import Operator
from infrastructure.apply.host.store import Store, sync_folder, write_whole
from infrastructure.apply.host.wire import Wire
from infrastructure.apply.protocol import documents, events, requests
from infrastructure.release_files import BACKUP_STATE
from infrastructure.runtime import choose
from infrastructure.runtime.base import HostFailure

UNITS = Path("/etc/systemd/system")
SYSTEMD = Path("/run/systemd/system")
"""There while systemd runs the machine."""
SETTINGS, STATE, PROGRAM = "backup.json", "backup-state.json", "program"
PYTHON = "/usr/bin/python3"
INSTALL_WITHIN = 900.0
SYSTEMCTL_WITHIN = 120.0
LIMITED_WITHIN = 7200.0
"""Seconds in which a job that fails is started four times at most."""

SERVICE = """\
[Unit]
Description={what}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec={limited}
StartLimitBurst=4

[Service]
Type=oneshot
UMask=0077
Nice=10
IOSchedulingClass=idle
TimeoutStartSec=3h
Restart=on-failure
RestartSec=10min
ExecStart={python} -I -S -u {program} {job} {base}
"""
TIMER = """\
[Unit]
Description={what}

[Timer]
OnBootSec=15min
OnUnitInactiveSec={every}
RandomizedDelaySec=2min

[Install]
WantedBy=timers.target
"""
"""By the time since the last run, not by the calendar: a machine that was off runs soon after."""


def units(job: str, what: str, base: Path, every: float) -> dict[str, str]:
    """The two files of a job by their names; the stack's folder names them."""
    name = unit(job, base)
    program = base / "scheduled" / PROGRAM
    quoted = {"program": _quoted(program), "base": _quoted(base)}
    limited = min(LIMITED_WITHIN, every + 1200.0)  # what comes on time is not held to be one more
    return {
        f"{name}.service": SERVICE.format(
            what=what, python=PYTHON, job=job, limited=f"{limited:.0f}s", **quoted
        ),
        f"{name}.timer": TIMER.format(what=what, every=f"{every:.0f}s"),
    }


def unit(job: str, base: Path) -> str:
    """What a job's units are called."""
    return f"gangway-{base.name}-{job}"


def _quoted(path: Path) -> str:
    """As a word of a unit file's command."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + text.replace("$", "$$") + '"'


def require_systemd() -> None:
    """HostFailure where nothing would ever start the job."""
    if os.geteuid() != 0:
        hint = "log in as root, or allow `sudo -n` for the login (host.sudo)"
        raise HostFailure("not-root", "only root may have the host do things on a schedule", hint)
    if not SYSTEMD.is_dir() or shutil.which("systemctl") is None:
        raise HostFailure(
            "no-systemd",
            "the host is not run by systemd, so nothing there would start it on time",
            "without --every it is done once; start that from a scheduler of your own",
        )


def enable(job: str, what: str, base: Path, every: float) -> None:
    """Writes the units, and starts the timer now and at every boot."""
    for name, text in units(job, what, base, every).items():
        write_whole(UNITS / name, text)
        (UNITS / name).chmod(0o644)
    _systemctl("daemon-reload")
    _systemctl("enable", "--quiet", f"{unit(job, base)}.timer")
    _systemctl("restart", f"{unit(job, base)}.timer")


def disable(job: str, base: Path) -> bool:
    """Removes them; whether there were any."""
    names = [f"{unit(job, base)}.{kind}" for kind in ("timer", "service")]
    there = [name for name in names if (UNITS / name).exists()]
    if not there:
        return False
    _systemctl("disable", "--quiet", "--now", f"{unit(job, base)}.timer")
    for name in there:
        (UNITS / name).unlink()
    sync_folder(UNITS)
    _systemctl("daemon-reload")
    return True


def _systemctl(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["systemctl", *arguments],
            capture_output=True,
            text=True,
            timeout=SYSTEMCTL_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        stuck = f"systemctl {arguments[0]} did not end within {SYSTEMCTL_WITHIN:g} s"
        raise HostFailure("systemd", stuck) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise HostFailure("systemd", f"systemctl {arguments[0]}: {reason}")


def install_program(base: Path, program: str) -> Path:
    """Puts the program to where its units look for it; the folder."""
    folder = base / "scheduled"
    folder.mkdir(mode=0o700, exist_ok=True)
    write_whole(folder / PROGRAM, program)
    return folder


# --- backups --------------------------------------------------------------------------------------
def keep_backups(
    store: Store, wire: Wire, request: requests.KeepBackupsRequest
) -> events.KeptBackup:
    """One backup into the repository now; with `every` also from now on.

    The schedule begins, and takes an earlier one's place, when the first backup has gone well.
    """
    store.require_here()
    if request.every:
        require_systemd()
    require_restic(wire)
    wire.emit(events.Step(f"a first backup to {request.repository.to}"))
    with contextlib.ExitStack() as parts:
        folder = tempfile.TemporaryDirectory(prefix=".backup-", dir=_base(store))
        scratch = Path(parts.enter_context(folder))
        found = parts.enter_context(repository.opened(request.repository, scratch))
        snapshot, manifest = _into(
            store, found, request.target, request.version, request.keep, make=True
        )
    if request.every:
        _begin(store, request, snapshot)
    return events.KeptBackup(snapshot, len(manifest["files"]), manifest["journal"])


def _begin(store: Store, request: requests.KeepBackupsRequest, snapshot: str) -> None:
    """From now on, by the timer."""
    folder, now = install_program(store.base, request.program), time.time()
    repository.stored(request.repository, folder)
    settings = {
        "to": request.repository.to,
        "every": request.every,
        "keep": request.keep,
        "target": request.target,
        "version": request.version,
        "since": now,
    }
    write_whole(folder / SETTINGS, json.dumps(settings))
    _note(store, succeededAt=now, snapshot=snapshot, failedAt=None, failure=None)
    enable("backup", f"Backups of gangway's target {request.target}", store.base, request.every)


def end_backups(store: Store) -> bool:
    """Ends the schedule and forgets the repository's secrets; what is in it stays."""
    ended = disable("backup", store.base)
    return _forget(store) or ended


def _forget(store: Store) -> bool:
    """Removes what is known of the schedule here and told to the bridge; whether there was any."""
    found = False
    for name in (SETTINGS, STATE, *repository.FILES.values()):
        with contextlib.suppress(FileNotFoundError):
            (store.base / "scheduled" / name).unlink()
            found = True
    with contextlib.suppress(OSError):
        (store.base / "data" / "bridge" / BACKUP_STATE).unlink()
    return found


def facts(base: Path) -> documents.BackupFacts | None:
    """The schedule and how it goes; None without one."""
    settings, state = _read(base, SETTINGS), _read(base, STATE)
    if not settings:
        return None
    return {
        "to": str(settings.get("to")),
        "every": float(settings.get("every", 0)),
        "keep": int(settings.get("keep", 0)),
        "since": float(settings.get("since", 0)),
        "succeededAt": state.get("succeededAt"),
        "snapshot": state.get("snapshot"),
        "failedAt": state.get("failedAt"),
        "failure": state.get("failure"),
    }


def _run_backup(base: Path) -> None:
    """What the timer starts."""
    store, settings = Store(str(base)), _read(base, SETTINGS)
    if not settings:
        raise HostFailure("no-schedule", "no backups are wanted any more")
    # Its journal stands still: a backup of it would be the newest, and push the good ones out.
    store.require_here()
    found = repository.kept(settings["to"], base / "scheduled")
    target, version = settings["target"], settings["version"]
    try:
        snapshot, manifest = _into(store, found, target, version, settings["keep"], make=False)
    except Exception as error:
        busy = isinstance(error, sqlite3.Error)
        failure = HostFailure("journal-busy", str(error)) if busy else HostFailure.of(error)
        with contextlib.suppress(OSError):  # a full disk, perhaps: why it failed comes first
            _note(store, failedAt=time.time(), failure=failure.message)
        raise failure from error
    print(f"backup {snapshot}: {len(manifest['files'])} files")
    _note(store, succeededAt=time.time(), snapshot=snapshot, failedAt=None, failure=None)


def _into(
    store: Store,
    found: repository.Repository,
    target: str,
    version: str,
    keep: int,
    *,
    make: bool,
) -> tuple[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=_base(store)) as scratch:
        tree = Path(scratch) / "tree"
        manifest = backup.gather(store, tree, target, version)
        found.prepare(target, make=make)
        snapshot = found.add(tree, target)
    found.keep(keep, target)
    return snapshot, manifest


def _base(store: Store) -> Path:
    if not store.base.is_dir():
        raise HostFailure("nothing-to-back-up", "there is no journal on the host yet")
    return store.base


def _note(store: Store, **found: Any) -> None:
    """Keeps how it goes, for us, and for the bridge, which tells people.

    Of a schedule that was ended while its last run went on nothing is kept: the bridge would miss
    its next one for ever.
    """
    folder = store.base / "scheduled"
    settings = _read(store.base, SETTINGS)
    if not settings:
        return
    state = {**_read(store.base, STATE), **found}
    write_whole(folder / STATE, json.dumps(state))
    told = {
        "every": settings.get("every"),
        "since": settings.get("since"),
        "succeededAt": state.get("succeededAt"),
        "failure": state.get("failure"),
    }
    # The bridge owns its folder: nothing of ours is opened there, a name is only moved in.
    beside = folder / ".for-the-bridge"
    write_whole(beside, json.dumps(told))
    beside.chmod(0o644)
    with contextlib.suppress(OSError):
        beside.replace(store.base / "data" / "bridge" / BACKUP_STATE)
    if not _read(store.base, SETTINGS):
        _forget(store)


def _read(base: Path, name: str) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((base / "scheduled" / name).read_text())
        return found if isinstance(found, dict) else {}
    return {}


def require_restic(wire: Wire) -> None:
    """Installs it where it is missing and can be had."""
    if shutil.which("restic"):
        return
    hint = "install restic on the host: apt-get install restic"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise HostFailure("restic-missing", "there is no restic on the host", hint)
    wire.emit(events.Step("installing restic"))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    waits = ("-o", "DPkg::Lock::Timeout=300")
    said = ""
    for command in (["update"], ["install", "-y", "--no-install-recommends", "restic"]):
        done = subprocess.run(
            ["apt-get", "-qq", *waits, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN,
            check=False,
        )
        said = done.stderr
    if shutil.which("restic") is None:
        raise HostFailure("restic-missing", "restic cannot be installed", hint, said[-2000:])


# --- images ---------------------------------------------------------------------------------------
WEEK = 7 * 86_400.0


def watch_images(store: Store, request: requests.WatchImagesRequest) -> events.Scheduled:
    """Has the host ask the registries once a week, or no longer; whether that changed."""
    if not request.wanted:
        return events.Scheduled(disable("images", store.base))
    store.require_here()
    require_systemd()
    install_program(_base(store), request.program)
    enable("images", f"Whether there are newer images for {store.base.name}", store.base, WEEK)
    return events.Scheduled(changed=True)


def _look_at_images(base: Path) -> None:
    """What the timer starts: tells people, by way of the bridge, what is newer than what runs.

    Also takes away what the gateway has left since: months may pass without a deploy, which does.
    """
    store = Store(str(base))
    store.require_here()
    if gone := store.prune_gateway():
        print(f"removed {len(gone)} old logs and dumps of the gateway")
    noted = store.noted(store.current() or "")
    services = [one for one in noted.get("services", ()) if not one["builds"]]
    runtime = choose("compose", base, f"gangway-{base.name}", ())
    wire = Wire(sys.stdin.buffer, sys.stdout.buffer)
    images = {one["name"]: one["image"] for one in services}
    texts = []
    for one in Operator(store, runtime, wire).newer(images).services:
        if not one.found.digest:
            print(f"{one.service}: the registry does not tell: {one.why}")
        elif one.runs.digest not in ("", one.found.digest) and not one.refused:
            runs = one.runs.version or one.runs.name
            made = f" of {one.runs.created}" if one.runs.created else ""
            texts.append(
                f"{one.service} runs {runs}{made}, and {one.found.name} stands for another"
            )
    if texts:
        hint = "./deploy.py upgrade --check shows more; ./deploy.py upgrade takes it."
        Alarm(store, runtime, wire, noted.get("checks", {})).newer(f"{'; '.join(texts)}.\n\n{hint}")
    print("; ".join(texts) or "nothing newer")


def main() -> None:
    """`program JOB BASE`: one run; exit code 1 when it failed."""
    os.umask(0o077)
    job, base = sys.argv[1], Path(sys.argv[2])
    try:
        JOBS[job](base)
    except Exception as error:  # also of a bug of ours: one line in the host's own journal
        failure = HostFailure.of(error)
        if failure.code == "unexpected":
            traceback.print_exc()
        print(f"error: {failure.message}", file=sys.stderr)
        sys.exit(1)


JOBS = {"backup": _run_backup, "images": _look_at_images}
