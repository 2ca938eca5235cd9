"""The preparation as one POSIX shell script, built from `templates/host/prepare/`.

One file a step, so that a step can be read, linted and tried alone; one script on the wire, so
that it costs one SSH exec and runs the same from cloud-init.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from infrastructure.config.target import Target


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
    """What a target's configuration asks of its host."""
    from infrastructure.config.terms import PROFILES

    stack = target.stack
    return HostSettings(
        swap_mb=PROFILES[stack.profile].swap,
        folder=stack.folder,
        ports=(stack.caddy.http_port, stack.caddy.https_port),
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
            *parts,
            f"{{\n{calls}    exit $FAILED\n}} </dev/null\n",
        ]
    )


PROGRAM = "/usr/local/sbin/gangway-prepare"


def cloud_init(wanted: HostSettings) -> str:
    """A `#cloud-config` document (YAML) that runs the preparation at the first boot."""
    import yaml

    document = {
        "write_files": [{"path": PROGRAM, "permissions": "0755", "content": script(wanted)}],
        "runcmd": [[PROGRAM]],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=1_000_000)
