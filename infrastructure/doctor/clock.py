"""Whether the host's clock is right: TLS, 2FA and orders' times depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLERATED = 2.0


def check(evidence: Evidence) -> Iterator[Finding]:
    """Compared with this machine's clock."""
    if evidence.facts is None or evidence.skew is None or evidence.sandbox:
        return
    skew = evidence.skew
    mend = "timedatectl set-ntp true there (or here); ./deploy.py prepare sets it up"
    if abs(skew) > TOLERATED:
        side = "ahead of" if skew > 0 else "behind"
        text = f"the host is {abs(skew):.1f} s {side} this machine"
        yield Finding("clock", "fail", text, mend)
    elif not evidence.facts["host"]["synchronized"]:
        text = f"right within {TOLERATED:.0f} s, but nothing keeps it so"
        yield Finding("clock", "warn", text, mend)
    else:
        yield Finding("clock", "ok", f"right within {TOLERATED:.0f} s, and kept so")
