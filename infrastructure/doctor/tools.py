"""The programs that this machine needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """Python, and Docker where images are built here."""
    yield Finding("tools", "ok", f"Python {evidence.tools.get('python')}")
    here = evidence.target is not None and evidence.target.stack.bridge.build == "local"
    if here and evidence.tools.get("docker") is None:
        mend = "install Docker here, or set bridge.build: remote"
        yield Finding("tools", "fail", "bridge.build is local, but there is no docker here", mend)
    elif here:
        yield Finding("tools", "ok", f"Docker {evidence.tools['docker']} builds the bridge here")
    if evidence.sandbox and evidence.tools.get("caddy") is None:
        yield Finding("tools", "fail", "there is no Caddy in the environment", "make setup")
