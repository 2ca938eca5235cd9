"""Whether the kernel had to kill something for want of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """The kernel's own count since the machine started; on the sandbox it says nothing of us."""
    if evidence.facts is None or evidence.sandbox:
        return
    kills = evidence.facts["host"]["oomKills"]
    if kills is None:
        yield Finding("oom", "warn", "the kernel does not count out-of-memory kills")
    elif kills:
        text = f"{kills} processes were killed for want of memory since the machine started"
        yield Finding("oom", "warn", text, "journalctl -k | grep -i oom shows which; see limits:")
    else:
        yield Finding("oom", "ok", "nothing was killed for want of memory")
