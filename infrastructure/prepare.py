"""A bare machine becomes ready: one POSIX shell script, built from `templates/host/prepare/`.

One file a step, so that a step can be read, linted and tried alone; one script on the wire, so
that it costs one SSH exec and runs the same from cloud-init. What it reports is read line by line.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infrastructure.errors import GangwayError, HostUnreachable
from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.config.target import Target
    from infrastructure.transport.base import Transport


SOURCES = PROJECT / "templates" / "host" / "prepare"

STEPS = (
    "system",
    "clock",
    "swap",
    "kernel",
    "logs",
    "docker",
    "daemon",
    "folder",
    "upgrades",
    "firewall",
)
"""In the order in which they need one another."""
PROGRAM = "/usr/local/sbin/gangway-prepare"
State = Literal["ok", "would-change", "changed", "failed"]

WITHIN = 7200.0
"""Seconds that the steps of a preparation may take together."""
AS_ROOT = (
    "sh",
    "-c",
    'if [ "$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi; exec $as sh -s -- $SSH_CONNECTION',
)
"""The script comes on standard input, so it is in nobody's argument list; its fourth argument is
the port that this session came in by, which `sudo` would not pass on as a variable."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the preparation is told. Nothing in here is secret."""

    swap_mb: int
    folder: str
    ports: tuple[int, ...] = (80, 443)
    ssh_port: int = 22
    firewall: bool = True
    owner: str = "root"

    def assignments(self, *, dry_run: bool) -> dict[str, str]:
        """The shell variables that the steps read."""
        return {
            "DRY_RUN": str(int(dry_run)),
            "SWAP_MB": str(self.swap_mb),
            "DEPLOY_FOLDER": self.folder,
            "DEPLOY_OWNER": self.owner,
            "FIREWALL": str(int(self.firewall)),
            "FIREWALL_PORTS": " ".join(str(port) for port in self.ports),
            "SSH_PORT": str(self.ssh_port),
        }


def host_settings(target: Target, *, firewall: bool = True) -> HostSettings:
    """What a target's configuration asks of its host, those beside it considered."""
    from infrastructure.config.loading import on_same_host
    from infrastructure.config.terms import PROFILES

    stack = target.stack
    shared = (stack.caddy, *(other.stack.caddy for other in on_same_host(target)))
    return HostSettings(
        swap_mb=PROFILES[stack.profile].swap,
        folder=stack.folder,
        ports=tuple(sorted({p for caddy in shared for p in (caddy.http_port, caddy.https_port)})),
        ssh_port=stack.host.port or 22,
        firewall=firewall,
    )


def script(wanted: HostSettings, *, dry_run: bool = False, steps: tuple[str, ...] = STEPS) -> str:
    """The whole script; it prints one JSON line a step and exits 1 when one failed."""
    settings = "".join(
        f"{name}={shlex.quote(value)}\n"
        for name, value in wanted.assignments(dry_run=dry_run).items()
    )
    parts = [(SOURCES / f"{name}.sh").read_text() for name in ("library", *steps)]
    # A login script may have printed a text without an end: the first report has its own line.
    calls = "    echo\n    settled\n" + "".join(f"    step {name}\n" for name in steps)
    # One group, read whole before it runs, and cut off from standard input: the script itself
    # may come that way, and a package's own script must not swallow the rest of it.
    return "\n".join(
        [
            "#!/bin/sh",
            settings,
            'SESSION_PORT="${4:-}"\n',
            *parts,
            f"{{\n{calls}    exit $FAILED\n}} </dev/null\n",
        ]
    )


def cloud_init(wanted: HostSettings) -> str:
    """A `#cloud-config` document (YAML) that runs the preparation at the first boot."""
    import yaml

    document = {
        "write_files": [{"path": PROGRAM, "permissions": "0755", "content": script(wanted)}],
        "runcmd": [[PROGRAM]],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=1_000_000)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What became of one step."""

    step: str
    title: str
    state: State
    detail: str

    def as_json(self) -> dict[str, str]:
        """The line as it is printed with `--json`."""
        return {
            "step": self.step,
            "title": self.title,
            "state": self.state,
            "detail": self.detail,
        }


def parse(line: bytes) -> StepReport | None:
    """One line of the script's output; None for what a package's own script printed."""
    try:
        values = json.loads(line)
        return StepReport(
            str(values["step"]), str(values["title"]), values["state"], str(values["detail"])
        )
    except (ValueError, KeyError, TypeError):
        return None


def carry_out(transport: Transport, text: str) -> Iterator[StepReport]:
    """Runs a script, giving each step's report as it comes.

    Raises GangwayError when the script could not run at all.
    """
    program = transport.start(AS_ROOT)
    with contextlib.suppress(HostUnreachable):  # ended already: what it said tells why
        program.write(text.encode())
    program.close_input()
    seen = 0
    until = time.monotonic() + WITHIN
    for line in program.lines(WITHIN):
        if time.monotonic() > until:
            raise HostUnreachable(
                f"{transport.name} was not prepared within {WITHIN / 60:.0f} minutes",
                hint="what was done stays; prepare again goes on from there",
                code="no-answer",
            )
        if (report := parse(line)) is not None:
            seen += 1
            yield report
    status = program.wait()
    if seen == 0:
        told = program.errors().decode(errors="replace").strip().splitlines()
        raise GangwayError(
            f"the preparation did not run on {transport.name}: "
            + (told[-1] if told else f"exit code {status}"),
            hint="the login needs root, or sudo without a password",
            code="prepare-failed",
        )
    if status not in (0, 1):  # the script's own: done, or some step failed
        raise GangwayError(
            f"the preparation of {transport.name} broke off after {seen} steps (exit status"
            f" {status})",
            hint="short of memory, or a reboot? prepare again goes on from there",
            code="prepare-failed",
        )
