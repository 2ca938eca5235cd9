"""What the checks are given and what they find; collects it here, on the host, from outside."""

from __future__ import annotations

import ipaddress
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from infrastructure.errors import GangwayError

if TYPE_CHECKING:
    from infrastructure.apply.protocol.documents import Newer
    from infrastructure.apply.protocol.events import Facts, Status
    from infrastructure.apply.session import Session
    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target
    from infrastructure.plan.compute import Plan
    from infrastructure.plan.observed import Observed


State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, how it is, and what to do about it."""

    check: str
    state: State
    text: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        """The shape of `doctor --json`."""
        return {"check": self.check, "state": self.state, "text": self.text, "mend": self.mend}


@dataclass
class Evidence:
    """All that was gathered; what is None could not be had, and `unreached` says why.

    `facts` is what `apply.host.facts` gives, `skew` the host's clock minus ours in seconds,
    `open_ports` those that answered from here, `reached` the domain's 80 and 443, `resolved` the
    domain's addresses.
    """

    target: Target | None = None
    broken: GangwayError | None = None
    tools: dict[str, str | None] = field(default_factory=dict)
    unreached: GangwayError | None = None
    observed: Observed | None = None
    plan: Plan | None = None
    facts: Facts | None = None
    status: Status | None = None
    newer: list[Newer] = field(default_factory=list)
    skew: float | None = None
    open_ports: list[int] | None = None
    reached: dict[int, bool] | None = None
    resolved: list[str] | None = None
    host_addresses: list[str] = field(default_factory=list)

    @property
    def sandbox(self) -> bool:
        """Whether the target is the sandbox."""
        return self.target is not None and self.target.stack.runtime == "sandbox"


Check = Callable[[Evidence], Iterator[Finding]]


CLOSED = (4001, 4002, 4003, 4004, 5900, 8080)
AUTHORITY = (80, 443)
"""Ports of the domain that a certificate's authority connects to."""
PATIENCE = 2.0


def tools() -> dict[str, str | None]:
    """Versions of the programs here; None where there is none."""
    found: dict[str, str | None] = {"python": platform.python_version(), "docker": None}
    if shutil.which("docker"):
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Client.Version}}"],
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
        found["docker"] = done.stdout.strip() or None
    caddy = Path(sys.executable).parent / "caddy"
    found["caddy"] = str(caddy) if caddy.exists() else None
    return found


def gather(current: Settings) -> Evidence:
    """Everything that can be had; what cannot is told as such."""
    evidence = Evidence(tools=tools())
    try:
        evidence.target = current.target()
    except GangwayError as error:
        evidence.broken = error
        return evidence
    _outside(evidence, evidence.target)
    try:
        _inside(current, evidence, evidence.target)
    except GangwayError as error:
        evidence.unreached = error
    return evidence


def _inside(current: Settings, evidence: Evidence, target: Target) -> None:
    from infrastructure.cli.host import connected
    from infrastructure.plan.compute import compute
    from infrastructure.render import release

    rendered = None
    try:
        from infrastructure.config.secrets import resolve

        rendered = release(target, resolve(target, generate=False))
    except GangwayError:  # told by the check of the configuration
        pass
    with connected(current, target) as session:
        evidence.observed = session.open(rendered)
        if rendered is not None:
            evidence.plan = compute(target, rendered, evidence.observed)
        _facts(evidence, session)
        evidence.status = session.status()
        if rendered is not None and not evidence.sandbox and evidence.observed.services:
            images = {one.name: one.image for one in rendered.services if not one.builds}
            evidence.newer = session.newer(images)


def _facts(evidence: Evidence, session: Session) -> None:
    before = time.time()
    evidence.facts = session.facts()
    told, after = evidence.facts.host["time"], time.time()
    # The host looked at its clock somewhere in between.
    evidence.skew = 0.0 if before <= told <= after else told - (before + after) / 2


def _outside(evidence: Evidence, target: Target) -> None:
    domain = target.stack.caddy.domain
    if domain:
        evidence.resolved = addresses(domain)
        with ThreadPoolExecutor(2) as pool:
            found = pool.map(lambda port: reachable(domain, port), AUTHORITY)
        evidence.reached = dict(zip(AUTHORITY, found, strict=True))
    if target.local:
        return
    evidence.host_addresses = addresses(target.stack.host.address)
    if any(ipaddress.ip_address(one).is_loopback for one in evidence.host_addresses):
        return
    with ThreadPoolExecutor(len(CLOSED)) as pool:
        answers = pool.map(lambda port: reachable(target.stack.host.address, port), CLOSED)
    evidence.open_ports = [port for port, is_open in zip(CLOSED, answers, strict=True) if is_open]


def addresses(name: str) -> list[str]:
    """The addresses of a name; none when it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(one[4][0]) for one in found})


def reachable(address: str, port: int) -> bool:
    """Whether something accepts there."""
    try:
        socket.create_connection((address, port), PATIENCE).close()
    except OSError:
        return False
    return True
