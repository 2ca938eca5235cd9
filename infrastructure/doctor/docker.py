"""The engine and Compose on the host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_ENGINE, OLDEST_COMPOSE = 20, 2
MEND = "./deploy.py prepare makes the host ready"


def check(evidence: Evidence) -> Iterator[Finding]:
    """That both answer, and are not too old."""
    if evidence.facts is None or evidence.sandbox:
        return
    engine = evidence.facts["engine"]
    for name, version, oldest in (
        ("Docker Engine", engine["engine"], OLDEST_ENGINE),
        ("Docker Compose", engine["compose"], OLDEST_COMPOSE),
    ):
        number = re.match(r"v?(\d+)", version or "")
        if number is None:
            yield Finding("docker", "fail", f"{name} does not answer", MEND)
        elif int(number[1]) < oldest:
            text = f"{name} is {version}; {oldest} or newer is needed"
            yield Finding("docker", "fail", text, MEND)
        else:
            yield Finding("docker", "ok", f"{name} {version}")
