"""The containers (or processes) of the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """Each runs, is healthy, and was not restarted by the engine."""
    if evidence.facts is None or evidence.observed is None:
        return
    known = evidence.facts["engine"]["services"]
    for name, one in evidence.observed.services.items():
        restarts = known.get(name, {}).get("restarts", 0)
        log = f"./deploy.py logs {name} shows why"
        if one.state != "running" or one.health == "unhealthy":
            health = f", {one.health}" if one.health != "none" else ""
            yield Finding(name, "fail", f"{one.state}{health}", f"{log}; ./deploy.py up starts it")
        elif restarts:
            yield Finding(name, "warn", f"running, but ended {restarts} times", log)
        else:
            yield Finding(name, "ok", f"{one.state} since {one.since[:19]}")
