"""What systemd starts by itself on a machine, made to happen within minutes.

The units are those that were installed, and keep their order of events; drop-ins shorten the times
that they name, because nothing winds the clock by which such timers go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tests.vm.machine import Machine

Found = TypeVar("Found")
JOBS = ("backup", "images")
SOON = {
    "timer": """\
[Timer]
OnBootSec=
OnBootSec=60s
OnUnitInactiveSec=60s
RandomizedDelaySec=0
AccuracySec=1s
""",
    "service": """\
[Unit]
StartLimitIntervalSec=2min
[Service]
RestartSec=5s
""",
}
FAILING = """\
[Service]
ExecStart=
ExecStart=/bin/false
"""
WITHIN = 900.0
"""Seconds in which a job must have run, on an emulated machine that has just started."""


def unit(job: str, kind: str) -> str:
    """The name of one of a job's units."""
    return f"gangway-vm-{job}.{kind}"


def show(machine: Machine, name: str, *properties: str) -> dict[str, str]:
    """What systemd says of a unit."""
    wanted = f"systemctl show --timestamp=unix -p {','.join(properties)} {name}"
    found = machine.ssh(wanted).stdout
    return dict(line.split("=", 1) for line in found.splitlines())


def until(what: str, look: Callable[[], Found], seconds: float = WITHIN) -> Found:
    """Waits for what is not nothing."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(3)
    return found


def armed(machine: Machine, name: str) -> str:
    """That a timer waits for a time, now and after the next boot; when that is."""
    is_enabled = machine.ssh(f"systemctl is-enabled {name}", check=False).stdout.strip()
    assert is_enabled == "enabled", f"{name} does not start at boot: {is_enabled}"

    def line() -> str:
        command = f"systemctl list-timers --no-legend --all {name}"
        found = machine.ssh(command).stdout.strip()
        return "" if found.startswith("-") else found  # while its service runs, and when it is over

    return until(f"{name} will fire once more", line)


def shorten(machine: Machine, job: str) -> None:
    """Its times from now on, and after the next boot."""
    for kind, text in SOON.items():
        change(machine, unit(job, kind), "soon", text)
    machine.ssh(f"systemctl restart {unit(job, 'timer')}")


def change(machine: Machine, name: str, why: str, text: str) -> None:
    """Other settings of a unit beside its file; none: as it was."""
    file = f"/etc/systemd/system/{name}.d/{why}.conf"
    write = f"mkdir -p $(dirname {file}) && cat >{file}" if text else f"rm -f {file}"
    machine.ssh(f"{write} && systemctl daemon-reload", data=text.encode())


def as_installed(machine: Machine) -> None:
    """Its times as they were written."""
    machine.ssh("rm -rf /etc/systemd/system/gangway-vm-*.d && systemctl daemon-reload")


def last(machine: Machine, name: str) -> str:
    """Which run of a service was the last to begin; nothing: none."""
    return show(machine, name, "InvocationID")["InvocationID"]


def gave_up(machine: Machine, name: str) -> bool:
    """Whether a service that failed is not started again by itself."""
    found = show(machine, name, "ActiveState", "SubState", "Result", "NRestarts")
    return found["ActiveState"] == found["SubState"] == "failed" and found["NRestarts"] != "0"


def fires(machine: Machine, name: str, *, after: str) -> str:
    """That the service was started once more after the run `after`, and went well; which run."""

    def over() -> dict[str, str]:
        found = show(machine, name, "InvocationID", "ActiveState", "Result", "ExecMainStatus")
        began = found["InvocationID"] not in ("", after)
        return found if began and found["ActiveState"] in ("inactive", "failed") else {}

    found = until(f"{name} is started and ends", over)
    said = machine.ssh(f"journalctl --no-pager -n 20 -u {name}").stdout
    ended = (found["ActiveState"], found["Result"], found["ExecMainStatus"])
    assert ended == ("inactive", "success", "0"), f"{name}: {ended}: {said}"
    return found["InvocationID"]


def listed(machine: Machine) -> str:
    """All of them, as a person sees them."""
    return machine.ssh("systemctl list-timers --all --no-pager").stdout
