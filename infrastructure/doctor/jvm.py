"""The JVM's flags as they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """All that were wanted, and how much memory the JVM has."""
    if evidence.facts is None or evidence.sandbox or "gateway" not in _services(evidence):
        return
    gateway = evidence.facts["gateway"]
    if gateway["flags"] is None:
        mend = "./deploy.py logs gateway shows why; ./deploy.py up starts it"
        yield Finding("jvm", "fail", "the gateway's JVM does not run", mend)
    elif gateway["missing"]:
        text = f"flags did not arrive: {', '.join(gateway['missing'])}"
        yield Finding("jvm", "fail", text, "./deploy.py restart gateway --cold, then up")
    else:
        heap = next((flag for flag in gateway["flags"] if flag.startswith("-Xmx")), "-Xmx?")
        resident = megabytes(gateway["resident"])
        yield Finding("jvm", "ok", f"every flag arrived; heap {heap[4:]}, {resident} resident")


def _services(evidence: Evidence) -> dict[str, object]:
    found: dict[str, object] = (evidence.facts or {})["engine"]["services"]
    return found
