"""Who can open the secrets on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """Only their reader."""
    if evidence.facts is None or not evidence.facts["releases"]:
        return
    loose = evidence.facts["secrets"]
    if loose:
        text = f"others can read {', '.join(loose[:3])}"
        yield Finding("secret modes", "fail", text, "chmod 400 them, and change the secrets")
    else:
        yield Finding("secret modes", "ok", "only their reader opens the secrets on the host")
