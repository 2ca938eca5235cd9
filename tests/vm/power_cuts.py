"""Power cuts at random moments of `prepare` and of `up`, each booted and looked at.

One run is recorded, write by write (`write_log`); the disk as a cut leaves it is made from the
record, so a cut costs a boot and not a run. Usage:

    scripts/vm-power-cuts [prepare|up] [--cuts N] [--minutes M] [--seed N] [--reboot-every N]
        [--complete-every N] [--record FOLDER]

Prints a JSON line a cut, and exits with 1 when one left a machine that is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm.images import load_images
from tests.vm.machine import Machine
from tests.vm.write_log import Disk

FETCHED = (
    "docker.io docker-cli docker-compose docker-buildx systemd-timesyncd iptables curl"
    " unattended-upgrades"
)
"""Packages that lie on the disk before, so that a cut falls into work and not into a download."""
UP = ("up", "--yes", "--wait", "2400")
WRITTEN = (
    "/etc/fstab /etc/sysctl.d /etc/docker /etc/systemd/system /etc/systemd/journald.conf.d"
    " /etc/apt/apt.conf.d /etc/apt/sources.list.d /opt/gangway"
)
"""Where `prepare` and `up` write."""


@dataclass
class Record:
    """What a run wrote, from where, and how long the log was at each second of it."""

    start: Path
    log: Path
    lengths: list[int]


def image(home: Path, name: str) -> Path:
    """A kept disk; `.part` until it is whole."""
    return home / f"{name}.raw"


def fetched(home: Path) -> Path:
    """The bare machine with the packages that `prepare` will want, not installed."""
    made = image(home, "fetched")
    if not made.exists():
        part = copy(home / "disk.raw", made.with_suffix(".part"))
        with tempfile.TemporaryDirectory(dir=home) as folder:
            machine = Machine(home, Path(folder), raw=part)
            machine.start()
            machine.ssh(
                f"apt-get -qq update; apt-get -qq -y --no-install-recommends -d install {FETCHED}",
                seconds=3600,
            )
            machine.power_off()
        part.replace(made)
    return made


def running(home: Path) -> Path:
    """A prepared machine on which the stack is healthy."""
    made = image(home, "running")
    if not made.exists():
        part = copy(fetched(home), made.with_suffix(".part"))
        with tempfile.TemporaryDirectory(dir=home) as folder:
            machine = Machine(home, Path(folder), raw=part)
            machine.start()
            machine.configure()
            done(machine.deploy("prepare"))
            load_images(machine)
            done(machine.deploy(*UP))
            machine.power_off()
        part.replace(made)
    return made


def copy(source: Path, target: Path) -> Path:
    """Holes stay holes."""
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True)
    return target


def done(run: subprocess.CompletedProcess[str]) -> str:
    """The output of a run that went well."""
    if run.returncode != 0:
        raise AssertionError(
            f"exit code {run.returncode}: {run.stdout[-2000:]}{run.stderr[-2000:]}"
        )
    return run.stdout


def record(home: Path, folder: Path, what: str) -> Record:
    """One whole run, from a machine that has just started."""
    start = fetched(home) if what == "prepare" else running(home)
    machine = Machine(home, folder, raw=copy(start, folder / "run.raw"), log=folder / "log")
    log = folder / "log"
    machine.start()
    if what == "prepare":
        machine.configure()
    else:
        machine.configure(read_only=True)
    lengths, over = [], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            lengths.append(log.stat().st_size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done(machine.deploy(*(("prepare",) if what == "prepare" else UP)))
    finally:
        over.set()
        watcher.join()
        machine.power_off()
    (folder / "run.raw").unlink()
    (folder / "lengths.json").write_text(json.dumps(lengths))
    return Record(start, log, lengths)


def kept_record(home: Path, folder: Path | None, what: str) -> Record | None:
    """A record of before, to cut it at other moments."""
    if folder is None:
        return None
    start = fetched(home) if what == "prepare" else running(home)
    return Record(start, folder / "log", json.loads((folder / "lengths.json").read_text()))


# --- a cut ----------------------------------------------------------------------------------------
class WrongError(AssertionError):
    """The machine is not as it must be after a cut."""


def check(condition: object, what: str) -> None:
    """Raises WrongError."""
    if not condition:
        raise WrongError(what)


def file_system(disk: Path) -> None:
    """The journal brings it in order; nothing else has to."""
    subprocess.run(
        ["e2fsck", "-E", "journal_only", "-p", str(disk)], capture_output=True, check=False
    )
    found = subprocess.run(
        ["e2fsck", "-fn", str(disk)], capture_output=True, text=True, check=False
    )
    check(found.returncode == 0, f"the file system is damaged: {found.stdout[-500:]}")


HOLES = r"""
import sys
for name in sys.stdin.read().splitlines():
    with open(name, "rb") as file:
        if b"\0" in file.read():
            print(name)
"""


def holes(machine: Machine) -> list[str]:
    """Files of ours with NUL bytes in them: no text has any.

    Read by one process: each costs an emulated machine a tenth of a second.
    """
    files = f"find {WRITTEN} -xdev -type f -size -64k -not -path '*/data/*' 2>/dev/null"
    return machine.ssh(f"{files} | python3 -c {shlex.quote(HOLES)}").stdout.split()


def states(machine: Machine, *arguments: str) -> dict[str, str]:
    """What `prepare` says of each step."""
    document: dict[str, Any] = json.loads(done(machine.deploy("--json", "prepare", *arguments)))
    return {one["step"]: one["state"] for one in document["steps"]}


def ready(machine: Machine) -> None:
    """What the next boot needs, looked at without `prepare`."""
    table = machine.ssh("cat /etc/fstab").stdout
    check(table.count("/swapfile none swap sw 0 0\n") == 1, f"no swap at the next boot: {table!r}")
    check("/dev/vda / ext4" in table, f"the root file system is lost: {table!r}")
    check("swapfile" in machine.ssh("cat /proc/swaps").stdout, "there is no swap")
    settle = "left=900; while [ $left -gt 0 ] && systemctl list-jobs --no-legend | grep -q .; do"
    machine.ssh(f"{settle} sleep 3; left=$((left - 3)); done", seconds=1000)
    for unit in ("docker", "gangway-firewall"):
        enabled = machine.ssh(
            f"systemctl is-enabled {unit}; systemctl is-active {unit}", check=False
        )
        check(enabled.stdout.split() == ["enabled", "active"], f"{unit}: {enabled.stdout.split()}")
    check(machine.ssh("sysctl -n vm.swappiness").stdout.strip() == "10", "vm.swappiness")
    failed = machine.ssh("systemctl --failed --plain --no-legend").stdout.strip()
    check(not failed, f"units failed: {failed}")


def after_prepare(machine: Machine, *, reboot: bool, complete: bool) -> dict[str, object]:
    """What was ok is whole; a second `prepare` completes the rest, also for the next boot."""
    said, damaged = states(machine, "--dry-run"), holes(machine)
    table = machine.ssh("cat /etc/fstab").stdout
    check("/dev/vda / ext4" in table, f"the root file system is lost: {table!r}")
    if said["swap"] == "ok":
        whole = table.count("/swapfile none swap sw 0 0\n") == 1 and "\0" not in table
        check(whole, f"the check of swap says ok over {table!r}")
        check("swapfile" in machine.ssh("cat /proc/swaps").stdout, "swap is said to be ok")
    seen: dict[str, object] = {
        "ok": sorted(one for one in said if said[one] == "ok"),
        "damaged": damaged,
        "completed": complete,
    }
    if not complete:
        return seen
    states(machine)
    check(not holes(machine), f"damaged files are left: {holes(machine)}")
    ready(machine)
    if reboot:
        machine.reboot()
        ready(machine)
    check(set(states(machine, "--dry-run").values()) == {"ok"}, "it is not ok in the end")
    return seen


def after_up(machine: Machine, *, reboot: bool, complete: bool) -> dict[str, object]:
    """One whole release serves or none; the next `up` completes it."""
    base = "/opt/gangway/vm"
    machine.configure(read_only=True)
    machine.ssh("systemctl is-active docker || systemctl start docker", seconds=300)
    left = machine.ssh(f"cat {base}/pending.json 2>/dev/null", check=False).stdout
    if left:
        json.loads(left)
    current = machine.ssh(f"readlink {base}/current").stdout.strip()
    check(current, "no release serves")
    machine.ssh(f"python3 -m json.tool {base}/{current}/release.json >/dev/null")
    damaged = holes(machine)
    check(all("ledger" in one for one in damaged), f"damaged files: {damaged}")
    history = json.loads(done(machine.deploy("--json", "history")))
    check(history["deploys"], "the ledger is lost")
    if complete:
        ended = machine.deploy(*UP)
        if "error: Docker keeps" in ended.stdout + ended.stderr:  # the hint says what to do
            machine.ssh("systemctl restart docker", seconds=600)
            ended = machine.deploy(*UP)
        done(ended)
        check(not machine.ssh(f"ls {base}/pending.json", check=False).stdout, "it is still pending")
    if complete and reboot:
        machine.reboot()
    return {"pending": bool(left), "current": current, "damaged": damaged, "completed": complete}


def cuts(what: str, home: Path, given: argparse.Namespace) -> int:
    """Records, cuts and looks; how many went wrong."""
    ends = time.monotonic() + given.minutes * 60
    choice = random.Random(given.seed)
    folder = Path(tempfile.mkdtemp(prefix="power-cuts-", dir=home))
    wrong = 0
    try:
        recorded = kept_record(home, given.record, what) or record(home, folder, what)
        moments = sorted(choice.randrange(len(recorded.lengths)) for _ in range(given.cuts))
        follows = copy(recorded.start, folder / "follows.raw")
        disk = Disk(follows, recorded.log)
        for number, moment in enumerate(moments):
            if time.monotonic() > ends:
                print(json.dumps({"of": what, "stopped": "the time is up", "cuts": number}))
                break
            took = disk.cut(recorded.lengths[moment], choice)
            crashed = copy(follows, folder / "crashed.raw")
            disk.keep(crashed)
            found: dict[str, object] = {
                "of": what,
                "cut": number + 1,
                "second": moment / 2,
                "seconds": len(recorded.lengths) / 2,
                "writesLost": len(took.lost),
                "writesTorn": len(took.torn),
            }
            began = time.monotonic()
            complete = bool(given.complete_every) and number % given.complete_every == 0
            reboot = complete and number % given.reboot_every == 0
            found |= looked_at(home, folder, crashed, what, reboot=reboot, complete=complete)
            wrong += "wrong" in found
            print(json.dumps({**found, "took": round(time.monotonic() - began)}), flush=True)
        disk.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return wrong


def looked_at(
    home: Path, folder: Path, crashed: Path, what: str, *, reboot: bool, complete: bool
) -> dict[str, object]:
    """The machine after a cut; `wrong` says what is not as it must be."""
    machine = Machine(home, folder, raw=crashed)
    try:
        file_system(crashed)
        machine.start()
        machine.configure()
        look = after_prepare if what == "prepare" else after_up
        return {"rebooted": reboot, **look(machine, reboot=reboot, complete=complete)}
    except (AssertionError, ValueError, subprocess.TimeoutExpired) as error:
        kept = Path(tempfile.mkdtemp(prefix="wrong-", dir=home))
        machine.cut_off()
        shutil.copy(crashed, kept / "disk.raw")
        return {"wrong": str(error)[:1000], "kept": str(kept)}
    finally:
        machine.cut_off()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("prepare", "up"), default="prepare")
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reboot-every", type=int, default=5)
    parser.add_argument("--complete-every", type=int, default=1, help="0: never")
    parser.add_argument("--record", type=Path, help="a kept record, instead of a new run")
    given = parser.parse_args()
    wrong = cuts(given.what, Path(os.environ["GANGWAY_VM"]), given)
    print(json.dumps({"of": given.what, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
