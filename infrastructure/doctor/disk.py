"""Room on the host's disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL, SCARCE = 512 * 1024, 2 * 1024 * 1024
MEND = "docker image prune frees space; `up` keeps five releases"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Enough for a build, the logs and the ledger."""
    if evidence.facts is None:
        return
    disk = evidence.facts["host"]["disk"]
    text = f"{megabytes(disk['free'])} of {megabytes(disk['total'])} free"
    if disk["free"] < FULL:
        yield Finding("disk", "fail", text, MEND)
    elif disk["free"] < SCARCE:
        yield Finding("disk", "warn", text, MEND)
    else:
        yield Finding("disk", "ok", text)
