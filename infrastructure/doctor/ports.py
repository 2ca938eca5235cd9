"""That the broker's ports and the screen are closed to the world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

MEND = "close them in the provider's firewall; ./deploy.py prepare sets the host's own"


def check(evidence: Evidence) -> Iterator[Finding]:
    """As tried from here, and as the host's own listeners say."""
    if evidence.facts is None or evidence.sandbox:
        return
    listening = evidence.facts["host"]["exposed"]
    tried = evidence.open_ports
    if tried:
        text = f"reachable from here: {', '.join(map(str, tried))}"
        yield Finding("ports", "fail", text, MEND)
    elif listening:
        text = f"something on the host listens on {', '.join(map(str, listening))} to the world"
        yield Finding("ports", "warn", text, MEND)
    elif tried is None:
        yield Finding("ports", "ok", "closed, as the host sees it (it is this machine)")
    else:
        yield Finding("ports", "ok", "4001-4004, 5900, 8080 are closed, tried from here")
