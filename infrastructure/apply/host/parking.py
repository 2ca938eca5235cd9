"""How a gateway ends before its container does. Runs on the host: standard library, Python 3.9.

A container that is only stopped kills its gateway: no clean log-off, so that the broker may hold
the account's place for hours, and no saved session. So IBC is told first: `PAUSE` ends the gateway
and keeps the session for the next container, `STOP` logs off (`Check.ends` says which).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.login import states
from infrastructure.apply.protocol import documents, events
from infrastructure.health.login import of_container

if TYPE_CHECKING:
    from infrastructure.apply.host.wire import Wire
    from infrastructure.runtime.base import Container, Runtime

PAUSE, STOP = "PAUSE", "STOP"


def end(
    runtime: Runtime, wire: Wire, gateway: Container, check: documents.Check, *, keep: bool
) -> None:
    """Ends what is logged in, each session its way; without `keep` every one logs off."""
    ends = check.get("ends", {})
    if not ends or not gateway.running:
        return
    for one in of_container(gateway, runtime.login_facts(), (), list(ends)):
        port, _, word = ends.get(one.session or "", "").partition(" ")
        if one.state != states.LOGGED_IN or not one.parks or not word:
            continue
        word = word if keep else STOP
        how = "keeps its session" if word == PAUSE else "logs off"
        wire.emit(events.Step(f"the gateway ends and {how}"))
        if not runtime.park(gateway, one.session or "", int(port), word):
            wire.emit(events.Step("the gateway does not end by itself: it is stopped"))
