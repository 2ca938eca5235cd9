"""Whether what runs is what stack.yaml says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """The release that serves, services that differ, a deploy that did not end."""
    if evidence.facts is None or evidence.observed is None:
        return
    if evidence.facts["pending"]:
        yield Finding("release", "fail", "an earlier deploy did not end", "./deploy.py up ends it")
    if evidence.observed.release is None:
        yield Finding("release", "warn", "nothing is deployed", "./deploy.py up")
    elif evidence.plan is not None and evidence.plan.changed:
        changed = [one.service for one in evidence.plan.changes if one.action != "unchanged"]
        text = f"differs from stack.yaml: {', '.join(changed) or 'files only'}"
        yield Finding("release", "warn", text, "./deploy.py plan shows how, up applies it")
    else:
        yield Finding("release", "ok", f"{evidence.observed.release}, as stack.yaml says")
