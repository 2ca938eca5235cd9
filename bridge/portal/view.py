"""What `GET /session` tells: one struct, also when no Client Portal is configured."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bridge.portal.keeper import SessionKeeper
from bridge.portal.shapes import Reading
from bridge.portal.state import NEXT_ACTIONS, UNTOLD_STATES, PortalState

HOPELESS_AFTER = 3
"""Failed recoveries in a row after which a person is asked to log in again."""


class SessionView(Struct, rename="camel", kw_only=True):
    """The Client Portal session. Times are UTC; flags are None while the gateway does not tell.

    ``is_desynced``: logged in, but the brokerage session is closed. ``session_state`` is the last
    state that told of the session itself, and outlives a gateway that cannot be reached.
    """

    enabled: bool
    state: PortalState
    session_state: PortalState | None = None
    since: datetime | None = None
    authenticated: bool | None = None
    connected: bool | None = None
    competing: bool | None = None
    established: bool | None = None
    is_desynced: bool = False
    message: str = ""
    last_check_at: datetime | None = None
    last_check_error: str | None = None
    last_recovery_at: datetime | None = None
    last_recovery_error: str | None = None
    recoveries: int = 0
    recovery_failures: int = 0
    login_url: str | None = None
    next_action: str


def view(keeper: SessionKeeper | None) -> SessionView:
    """The session as it was last seen."""
    if keeper is None:
        return SessionView(
            enabled=False, state=PortalState.OFF, next_action=NEXT_ACTIONS[PortalState.OFF]
        )
    told = keeper.state not in UNTOLD_STATES
    reading = keeper.reading if told else Reading()
    known = told and keeper.session_state is not None
    competing = keeper.session_state is PortalState.COMPETING
    return SessionView(
        enabled=True,
        state=keeper.state,
        session_state=keeper.session_state,
        since=keeper.since,
        authenticated=reading.authenticated,
        connected=reading.connected,
        competing=bool(reading.competing) if known else None,
        established=_established(keeper) if told else None,
        is_desynced=bool(reading.authenticated) and reading.connected is False and not competing,
        message=reading.message,
        last_check_at=keeper.last_check_at,
        last_check_error=keeper.last_check_error or None,
        last_recovery_at=keeper.last_recovery_at,
        last_recovery_error=keeper.last_recovery_error or None,
        recoveries=keeper.recoveries,
        recovery_failures=keeper.recovery_failures,
        login_url=f"{keeper.client.url}/" if keeper.state is PortalState.LOGIN_REQUIRED else None,
        next_action=_next_action(keeper),
    )


def _established(keeper: SessionKeeper) -> bool | None:
    """Older gateways do not show the flag: a working session counts as established."""
    if keeper.reading.established is not None:
        return keeper.reading.established
    return None if keeper.session_state is None else keeper.session_state is PortalState.CONNECTED


def _next_action(keeper: SessionKeeper) -> str:
    desynced = keeper.state in {PortalState.DESYNCED, PortalState.RECOVERING}
    if desynced and keeper.failures_in_a_row >= HOPELESS_AFTER:
        return "The brokerage session does not open: log out and in again on the gateway's page"
    return NEXT_ACTIONS[keeper.state]
