"""Memory and swap of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

SCARCE = 48 * 1024
SMALL_MACHINE, SWAP_WANTED = 1536 * 1024, 900 * 1024


def check(evidence: Evidence) -> Iterator[Finding]:
    """What is available now, and swap where the machine is small."""
    if evidence.facts is None:
        return
    memory, swap = evidence.facts["host"]["memory"], evidence.facts["host"]["swap"]
    text = f"{megabytes(memory['available'])} of {megabytes(memory['total'])} available"
    if memory["available"] < SCARCE:
        mend = "limits: in stack.yaml, a larger machine, or swap (./deploy.py prepare)"
        yield Finding("memory", "warn", text, mend)
    else:
        yield Finding("memory", "ok", text)
    used = swap["total"] - swap["free"]
    if memory["total"] < SMALL_MACHINE and swap["total"] < SWAP_WANTED:
        text = f"{megabytes(swap['total'])} of swap; a 1 GB machine needs 1 GB"
        yield Finding("swap", "fail", text, "./deploy.py prepare makes a swap file")
    else:
        yield Finding("swap", "ok", f"{megabytes(used)} of {megabytes(swap['total'])} used")
