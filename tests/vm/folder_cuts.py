"""Power cuts at random moments of deploys, on this machine: seconds each, without a virtual one.

The host's folder lies on a disk whose writes are recorded (`recorded_disk`); the product's own
commands work on it, with a played engine (`played_host`). Of each cut the disk is made as it leaves
it, mounted, looked at, asked about (`plan`, `status`, `history`), and completed by the next `up`.

    scripts/power-cuts [all|first|up|sync|rollback|upgrade|restore]… [--cuts N] [--minutes M]
        [--seed N]

Prints a JSON line a cut, and exits with 1 when one left what is not as it must be.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from infrastructure.apply import bundle
from infrastructure.apply.host.backup import JOURNAL
from infrastructure.apply.host.store import Store
from infrastructure.cli import app, running  # noqa: F401 - app: loaded once, not in each child
from infrastructure.release_files import SECRETS
from tests.vm.played_host import ENGINE, LOG, REGISTRY, boot, booted, states
from tests.vm.power_cuts import WrongError, check, copy, file_system
from tests.vm.recorded_disk import Mounted, blank, disk_missing, same
from tests.vm.write_log import DISCARD, Disk, requests

PROJECT = Path(__file__).resolve().parents[2]
PLAYED = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from tests.vm.played_host import main; main(sys.argv[2])"
)
EARLIER = 7
"""Deploys before the one that is cut, so that it has old releases to remove."""
SETTLES = 1.5
"""Seconds that are recorded after a command: in which the kernel writes what was left to it."""


@dataclass
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Target:
    """A target whose host is this machine, and whose engine is played."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        password = self.folder / "password"
        password.write_text("correct")
        password.chmod(0o600)
        self.settings = {
            "host": "local",
            "folder": str(self.mount / "opt"),
            "gateway": {
                "username": "demo",
                "mode": "paper",
                "password": {"file": str(password)},
            },
            "bridge": {"port": 18080},  # played: nothing listens
            "caddy": {"listen": "127.0.0.1", "http_port": 18081, "https_port": 18443},
        }

    @property
    def mount(self) -> Path:
        return self.folder / "mount"

    @property
    def store(self) -> Store:
        return Store(str(self.mount / "opt" / "cut"))

    def engine(self) -> dict[str, Any]:
        """What the played engine has now."""
        return (states(self.folder) or [{"containers": []}])[-1]

    def change(self, number: int) -> None:
        """Another release."""
        self.settings["gateway"]["jvm"] = {"heap": 256 + number}
        self.settings["bridge"]["log_level"] = ("info", "debug")[number % 2]

    def run(self, *words: str) -> Said:
        """`./deploy.py WORDS --json`, in a process that has loaded all of it already."""
        config = self.folder / "stack.yaml"
        config.write_text(yaml.safe_dump({"targets": {"cut": self.settings}}))
        out, err = self.folder / "out", self.folder / "err"
        child = os.fork()
        if child == 0:
            self._be(["--config", str(config), "--json", *words], out, err)
        _, status = os.waitpid(child, 0)
        return Said(os.waitstatus_to_exitcode(status), out.read_text(), err.read_text())

    def _be(self, words: list[str], out: Path, err: Path) -> None:
        """Never returns."""
        code = 99
        try:
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdin, sys.stdout, sys.stderr = (
                os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww")
            )
            os.chdir(self.folder)
            os.environ.update(HOME=str(self.folder), COLUMNS="200")
            command = [sys.executable, "-c", PLAYED, str(PROJECT), str(self.folder)]
            bundle.command = lambda *, sudo: command
            running.main(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def done(self, *words: str) -> Said:
        """One that has to go well."""
        said = self.run(*words)
        check(said.code == 0, f"{' '.join(words)} ended with {said.code}: {said.out}{said.err}")
        return said


UP = ("up", "--yes", "--wait", "20")


def first(_: Target) -> tuple[str, ...]:
    """Nothing lay there."""
    return UP


def up(target: Target) -> tuple[str, ...]:
    """All changes, and old releases go."""
    for number in range(EARLIER):
        target.change(number)
        target.done(*UP)
    target.change(EARLIER)
    return UP


def sync(target: Target) -> tuple[str, ...]:
    """The bridge alone."""
    target.done(*UP)
    target.settings["bridge"]["log_level"] = "debug"
    return ("sync", "bridge", "--wait", "20")


def rollback(target: Target) -> tuple[str, ...]:
    """Back to the release before."""
    target.done(*UP)
    target.change(1)
    target.done(*UP)
    return ("rollback", "--yes", "--wait", "20")


def upgrade(target: Target) -> tuple[str, ...]:
    """A tag has moved."""
    target.done(*UP)
    moved = {"ghcr.io/gnzsnz/ib-gateway:stable": "sha256:of-sha256:newer"}
    (target.folder / REGISTRY).write_text(json.dumps(moved))
    return ("upgrade", "gateway", "--yes", "--wait", "20")


def restore(target: Target) -> tuple[str, ...]:
    """A backup comes back over what lies there."""
    target.done(*UP)
    (target.store.base / "data" / "gateway" / "kept.txt").write_text("of the gateway's\n")
    kept = target.folder / "kept.backup"
    target.done("backup", str(kept))
    target.done("down", "--yes")
    return ("restore", str(kept), "--yes")


COMMANDS = {one.__name__: one for one in (first, up, sync, rollback, upgrade, restore)}


# --- a recorded command ---------------------------------------------------------------------------
@dataclass
class Recorded:
    """One command: what it wrote, and what was so before, at its end, and when that was."""

    start: Path
    log: Path
    moments: list[int]
    ended: int
    entries: int
    rows: int
    before: str | None
    after: str | None
    engine: list[dict[str, Any]]
    words: tuple[str, ...]


def record(target: Target, what: str) -> Recorded:
    """Prepares a disk, copies it, and lets the command run on it."""
    disk, log = blank(target.folder / "disk.raw"), target.folder / LOG
    with Mounted(disk, target.mount):
        words = COMMANDS[what](target)
        before, entries, rows = target.store.current(), len(target.store.ledger()), _rows(target)
    had = "".join(f"{json.dumps({**one, 'log': 0})}\n" for one in states(target.folder)[-1:])
    (target.folder / ENGINE).write_text(had)
    start = copy(disk, target.folder / "start.raw")
    with Mounted(disk, target.mount, log) as mounted:
        began = mounted.length()
        target.done(*words)
        ended, after = mounted.length(), target.store.current()
        time.sleep(SETTLES)
        over = mounted.length()
    check(same(start, log, disk), "the log is not what was written")
    with log.open("rb") as file:
        # After a flush nothing can be lost: such a cut is that of a write later, with less to see.
        writes = (one for one in requests(file, over) if one.sectors and began < one.end)
        moments = [one.end for one in writes if not one.flags & DISCARD]
    engine = states(target.folder)
    return Recorded(start, log, moments, ended, entries, rows, before, after, engine, words)


def _rows(target: Target) -> int:
    """The journal's."""
    path = target.store.base / "data" / JOURNAL
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(path)) as journal:
        whole = journal.execute("PRAGMA integrity_check(1)").fetchone()
        check(whole == ("ok",), f"the journal is damaged: {whole}")
        tables = [name for (name,) in journal.execute("SELECT name FROM sqlite_schema")]
        if "orders" not in tables:  # it was just being made
            return 0
        found: int = journal.execute("SELECT count(*) FROM orders").fetchone()[0]
        return found


# --- what a cut leaves ----------------------------------------------------------------------------
def lies_whole(target: Target) -> None:
    """Whatever is called whole is; what is read is readable; secrets are their owner's."""
    store = target.store
    for name in store.kept():
        if not store.has(name):
            check(name != store.current(), f"{name} serves and is not whole")
            continue
        manifest = store.manifest(name)
        check(manifest, f"{name}/release.json cannot be read")
        for path, digest in manifest["files"].items():
            _as_manifest(store.release(name) / path, digest)
    current = store.current()
    check(current is None or store.has(current), f"current leads to {current}, which is not there")
    for path in store.base.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.name in ("ledger.jsonl", "lock"):
            continue
        if any(part.endswith(".partial") or part.startswith(".re") for part in path.parts):
            continue  # what is not there yet, or no more
        if path.suffix == ".json":
            _readable(path)
        if path.suffix in (".json", ".yaml", ".ini", ".sh", ".txt", ".key"):
            check(b"\0" not in path.read_bytes(), f"a hole in {path}")


def _as_manifest(path: Path, digest: str) -> None:
    check(path.is_file(), f"{path} is lost")
    content = path.read_bytes()
    if path.parent.name != SECRETS:
        same = hashlib.sha256(content).hexdigest() == digest
        check(same, f"{path} is not what the manifest says")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    check(content and not mode & 0o077, f"{path}: {len(content)} bytes, mode {mode:o}")


def _readable(path: Path) -> None:
    try:
        json.loads(path.read_text())
    except ValueError as error:
        raise WrongError(f"{path} cannot be read: {error}") from None


def tells_the_truth(target: Target, recorded: Recorded, moment: int) -> dict[str, object]:
    """What was said is so; what is half done is not called done."""
    store, over = target.store, moment >= recorded.ended
    pending, current, entries = store.pending(), store.current(), store.ledger()
    check(len(entries) >= recorded.entries, f"{recorded.entries} deploys, now {len(entries)}")
    check(current in (recorded.before, recorded.after), f"{current} serves")
    history = target.done("history").document
    check(history["current"] == current, f"history tells of {history['current']}")
    status, plan = target.run("status"), target.done("plan").document
    check(status.code in (0, 1, 4), f"status ended with {status.code}: {status.err}")
    ran = {one["service"] for one in target.engine()["containers"] if one["state"] == "running"}
    if over:
        check(pending is None, f"it has ended, and is pending: {pending}")
        check(current == recorded.after, f"{recorded.after} was said to serve, {current} does")
        deploys = recorded.words[0] in DEPLOYS
        check(len(entries) == recorded.entries + deploys, "the ledger has lost the last deploy")
        if recorded.words[0] in ("up", "sync", "upgrade"):
            check(plan["changed"] is False, f"it serves, and the plan says {plan['changes']}")
    if plan["changed"] is False and pending is None and recorded.words[0] != "restore":
        check(current is not None, "nothing lies there, and nothing is to be done")
        check(ran == {"gateway", "bridge", "caddy"}, f"nothing to do, and only {ran} run")
    return {"pending": pending is not None, "current": current, "changed": plan["changed"]}


def completes(target: Target, recorded: Recorded, *, again: bool) -> None:
    """The next `up` completes it, and then there is nothing to do; `again`: the command first."""
    if again and recorded.words[0] == "restore":
        target.done(*recorded.words)
    target.done(*UP)
    second, store = target.done(*UP).document, target.store
    check(second["changed"] is False, f"after `up`, `up` would change {second['changes']}")
    check(store.pending() is None, "it is still pending")
    lies_whole(target)
    rows = _rows(target)
    check(rows > recorded.rows, f"the journal had {recorded.rows} rows and one more, now {rows}")
    kept = store.base / "data" / "gateway" / "kept.txt"
    check(recorded.words[0] != "restore" or kept.exists(), "the restored settings are lost")
    left = [*store.base.glob(".*"), *store.base.glob("releases/.*")]
    left = [path for path in left if path.suffix != ".new"]  # the next write begins it anew
    check(not left, f"left behind: {[str(path.relative_to(store.base)) for path in left]}")
    found = target.engine()["containers"]
    services = sorted(one["service"] for one in found if one["state"] == "running")
    check(services == ["bridge", "caddy", "gateway"], f"there run {services}")
    check(len(found) == 3, f"{len(found)} containers")


DEPLOYS = ("up", "sync", "rollback", "upgrade")


@dataclass
class Cutter:
    """Cuts one recorded command again and again, later each time."""

    target: Target
    recorded: Recorded
    choice: random.Random

    def moments(self, count: int) -> list[int]:
        """After which of its writes: of the command, and at its very end."""
        chosen = [self.choice.choice(self.recorded.moments) for _ in range(max(0, count - 1))]
        return sorted([*chosen, self.recorded.ended])

    def each(self, count: int, until: float = float("inf")) -> Iterator[dict[str, object]]:
        """What was found after each cut; `wrong` says what is not as it must be."""
        target, recorded = self.target, self.recorded
        disk = Disk(recorded.start, recorded.log)
        try:
            for number, moment in enumerate(self.moments(count)):
                if time.monotonic() > until:
                    yield {"of": recorded.words[0], "stopped": "the time is up", "cuts": number}
                    return
                began = time.monotonic()
                crashed = target.folder / f"crashed-{number}.raw"
                took = disk.cut(moment, self.choice)
                disk.keep(copy(recorded.start, crashed))
                found: dict[str, object] = {
                    "of": recorded.words[0],
                    "cut": number + 1,
                    "write": bisect.bisect(recorded.moments, moment),
                    "writes": len(recorded.moments),
                    "writesLost": len(took.lost),
                    "writesTorn": len(took.torn),
                }
                found |= self._looked_at(crashed, moment, again=bool(number % 2))
                crashed.unlink()
                yield {**found, "took": round(time.monotonic() - began, 1)}
        finally:
            disk.close()

    def _looked_at(self, crashed: Path, moment: int, *, again: bool) -> dict[str, object]:
        target, recorded = self.target, self.recorded
        try:
            file_system(crashed)
            booted(target.folder, recorded.engine, moment)
            with Mounted(crashed, target.mount):
                lies_whole(target)
                acknowledged, rows = target.engine().get("rows", 0), _rows(target)
                check(rows >= acknowledged, f"the journal had {acknowledged} rows, now {rows}")
                boot(target.folder, target.store.base)
                found = tells_the_truth(target, recorded, moment)
                completes(target, recorded, again=again)
                return found
        except (AssertionError, ValueError, OSError, KeyError, sqlite3.Error) as error:
            return {"wrong": f"{type(error).__name__}: {error}"[:1500]}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("what", nargs="*", choices=("all", *COMMANDS), default="all")
    parser.add_argument("--cuts", type=int, default=30, help="of each command")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if why := disk_missing():
        print(f"power-cuts: skipped: {why}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # mounts are taken down
    chosen = list(COMMANDS) if "all" in given.what else given.what
    until, wrong = time.monotonic() + given.minutes * 60, 0
    for what in chosen:
        with tempfile.TemporaryDirectory(prefix="power-cuts-") as folder:
            target = Target(Path(folder))
            cutter = Cutter(target, record(target, what), random.Random(given.seed))
            sums = dict.fromkeys(("cuts", "cutsThatTore", "writesLost", "writesTorn", "wrong"), 0)
            for found in cutter.each(given.cuts, until):
                lost, torn = (int(str(found.get(one, 0))) for one in ("writesLost", "writesTorn"))
                of_it = ("cut" in found, torn > 0, lost, torn, "wrong" in found)
                sums = {name: sums[name] + one for name, one in zip(sums, of_it, strict=True)}
                print(json.dumps({**found, "of": what}), flush=True)
            wrong += sums["wrong"]
            print(json.dumps({"of": what, **sums}), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
