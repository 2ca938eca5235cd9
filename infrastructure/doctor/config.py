"""Whether stack.yaml is valid, and the secrets it names are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.config.secrets import missing
from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """Every problem of the configuration, or that there is none."""
    if evidence.broken is not None:
        for problem in evidence.broken.problems():
            place = f"{problem.place}: " if problem.place else ""
            yield Finding("config", "fail", f"{place}{problem.message}", problem.hint)
        return
    if evidence.target is None:
        return
    for problem in evidence.target.warnings:
        yield Finding("config", "warn", f"{problem.place or ''} {problem.message}", problem.hint)
    lacking = missing(evidence.target)
    for problem in lacking:
        yield Finding("secrets", "fail", problem.message, problem.hint)
    if not lacking:
        yield Finding("config", "ok", f"target {evidence.target.name} is valid, its secrets there")
