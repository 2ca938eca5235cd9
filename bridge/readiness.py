"""What the whole bridge is ready for: the session, and what its other parts say over it.

`/ready`, `/health`, the stream and the metrics ask here, so that no two of them tell two things.
"""

from __future__ import annotations

from msgspec import Struct

from bridge.services import HealthOverlay, Services
from bridge.tws.connection_state import ConnectionState, can_trade
from bridge.tws.session import TwsSession


class Readiness(Struct, frozen=True, kw_only=True):
    """At one moment.

    `over` is what another part says over a session that could trade; with the state `ready` it
    only adds its words, and orders go through.
    """

    state: ConnectionState
    takes_orders: bool
    over: HealthOverlay | None


def readiness(services: Services) -> Readiness:
    """As it is now; takes microseconds whatever is stuck."""
    status = services[TwsSession].context.status
    session_trades = can_trade(status.facts)
    over = _overlay(services) if session_trades else None
    in_the_way = over is not None and over.state is not ConnectionState.READY
    return Readiness(
        state=over.state if over is not None and in_the_way else status.state,
        takes_orders=session_trades and not in_the_way,
        over=over,
    )


def _overlay(services: Services) -> HealthOverlay | None:
    """The first part that has something to say."""
    found = (ask() for ask in services.health_overlays)
    return next((each for each in found if each is not None), None)
