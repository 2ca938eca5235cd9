"""What the checks are given and what they find; collects it here, on the host, from outside.

For a bug report it is packed into an archive, redacted.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import platform
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bridge.login import states
from infrastructure.config.secrets import resolve
from infrastructure.doctor.redaction import masked, redactor
from infrastructure.errors import GangwayError, UsageError

if TYPE_CHECKING:
    from infrastructure.apply.protocol.documents import Newer
    from infrastructure.apply.protocol.events import Facts, Status
    from infrastructure.apply.session import Session
    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target
    from infrastructure.config.host import Host
    from infrastructure.plan.compute import Plan
    from infrastructure.plan.observed import Observed
    from infrastructure.render.model import Release

State = Literal["ok", "warn", "fail"]
LINES = 400
WINDOW = "window.png"
"""The gateway's window, which nothing can be taken out of: it may show names."""
WAITS = (states.BLOCKED, states.WAITING_2FA, states.HELD)


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

    `unrendered` says why there is no plan although the host answered, `unresolved` that it is for a
    secret.
    `facts` is what `apply.host.facts` gives, `skew` the host's clock minus ours in seconds,
    `open_ports` those that answered from here, `reached` the domain's 80 and 443, `resolved` the
    domain's addresses.
    """

    target: Target | None = None
    broken: GangwayError | None = None
    tools: dict[str, str | None] = field(default_factory=dict)
    unreached: GangwayError | None = None
    unrendered: GangwayError | None = None
    unresolved: bool = False
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
ENGINE_SECONDS = 15.0


def tools() -> dict[str, str | None]:
    """Versions of the programs here; None where there is none, or no engine that answers."""
    caddy = Path(sys.executable).parent / "caddy"
    found: dict[str, str | None] = {"python": platform.python_version(), "docker": None}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=ENGINE_SECONDS,
            check=True,
        )
        found["docker"] = done.stdout.strip() or None
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
    from infrastructure.cli.host import connected, undecided, with_controller
    from infrastructure.plan.compute import compute

    rendered: Release | None = None
    with connected(current, target) as session:
        session.begin()
        try:
            if undecided(target):
                target = with_controller(target, session)
        except UsageError as error:
            evidence.unrendered = error
        else:
            rendered = _rendered(evidence, target)
        evidence.observed = session.observe(rendered)
        if rendered is not None:
            evidence.plan = compute(target, rendered, evidence.observed)
        _facts(evidence, session)
        evidence.status = session.status()
        if rendered is not None and not evidence.sandbox and evidence.observed.services:
            images = {one.name: one.image for one in rendered.services if not one.builds}
            evidence.newer = session.newer(images)


def _rendered(evidence: Evidence, target: Target) -> Release | None:
    from infrastructure.render import release

    try:
        secrets = resolve(target, generate=False)
    except GangwayError as error:
        evidence.unrendered, evidence.unresolved = error, True
        return None
    try:
        return release(target, secrets)
    except GangwayError as error:
        evidence.unrendered, evidence.unresolved = error, error.code == "bad-secret"
        return None


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
    name = where(target.stack.host)
    evidence.host_addresses = addresses(name)
    if not evidence.host_addresses:
        return
    if any(ipaddress.ip_address(one).is_loopback for one in evidence.host_addresses):
        return
    with ThreadPoolExecutor(len(CLOSED)) as pool:
        answers = pool.map(lambda port: reachable(name, port), CLOSED)
    evidence.open_ports = [port for port, is_open in zip(CLOSED, answers, strict=True) if is_open]


def where(host: Host) -> str:
    """The name or address that `ssh` connects to: stack.yaml may have an alias of its own."""
    from infrastructure.transport.openssh import resolve

    with contextlib.suppress(GangwayError):
        found = resolve(host)
        if found is not None:
            return found.address
    return host.address


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


def write_bundle(
    current: Settings, evidence: Evidence, document: dict[str, object], file: Path
) -> list[str]:
    """Writes the archive, mode 0600; the names of what is in it."""
    texts = {"doctor.json": _json(document), "versions.json": _json(_versions(evidence))}
    target = evidence.target
    if target is not None:
        texts["config.json"] = _json(masked(target.stack.model_dump(mode="json")))
    if evidence.facts is not None:
        texts["host.json"] = _json(masked({**vars(evidence.facts), "certificate": None}))
        texts["status.json"] = _json(evidence.status and masked(vars(evidence.status)))
    picture = b""
    if target is not None and evidence.observed is not None:
        logs, picture = _from_host(current, target)
        texts |= logs
    clean = redactor(target)
    contents = {name: clean(text).encode() for name, text in texts.items()}
    if picture:
        contents[WINDOW] = picture
    _archive(contents, file)
    return sorted(contents)


def _from_host(current: Settings, target: Target) -> tuple[dict[str, str], bytes]:
    """History and logs; and the gateway's window when a person is waited for there."""
    from infrastructure.cli.host import connected

    found: dict[str, list[str]] = {}
    with connected(current, target) as session:
        session.open()
        picture = b""
        if session.status().login["state"] in WAITS:
            with contextlib.suppress(GangwayError):  # the report is worth more than its picture
                picture = session.picture()
        history = session.history()
        for row in session.logs([], since="", lines=LINES, follow=False):
            found.setdefault(row.service, []).append(f"{row.time} {row.text}")
    logs = {f"logs/{name}.log": "\n".join(rows) + "\n" for name, rows in found.items()}
    return {"history.json": _json(masked(vars(history))), **logs}, picture


def _versions(evidence: Evidence) -> dict[str, object]:
    return {"tools": evidence.tools, "platform": platform.platform()}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def _archive(contents: dict[str, bytes], file: Path) -> None:
    from infrastructure.files import write_new

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(f"gangway-report/{name}")
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    write_new(file, packed.getvalue())
