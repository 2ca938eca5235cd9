"""What `GET /session` tells: one struct, also when no Client Portal is configured."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bridge.portal.session import PortalSession
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


def view(session: PortalSession | None) -> SessionView:
    """The session as it was last seen."""
    if session is None:
        return SessionView(
            enabled=False, state=PortalState.OFF, next_action=NEXT_ACTIONS[PortalState.OFF]
        )
    told = session.state not in UNTOLD_STATES
    reading = session.reading if told else Reading()
    known = told and session.session_state is not None
    competing = session.session_state is PortalState.COMPETING
    return SessionView(
        enabled=True,
        state=session.state,
        session_state=session.session_state,
        since=session.since,
        authenticated=reading.authenticated,
        connected=reading.connected,
        competing=bool(reading.competing) if known else None,
        established=_established(session) if told else None,
        is_desynced=bool(reading.authenticated) and reading.connected is False and not competing,
        message=reading.message,
        last_check_at=session.last_check_at,
        last_check_error=session.last_check_error or None,
        last_recovery_at=session.last_recovery_at,
        last_recovery_error=session.last_recovery_error or None,
        recoveries=session.recoveries,
        recovery_failures=session.recovery_failures,
        login_url=f"{session.client.url}/" if session.state is PortalState.LOGIN_REQUIRED else None,
        next_action=_next_action(session),
    )


def _established(session: PortalSession) -> bool | None:
    """Older gateways do not show the flag: a working session counts as established."""
    if session.reading.established is not None:
        return session.reading.established
    return None if session.session_state is None else session.session_state is PortalState.CONNECTED


def _next_action(session: PortalSession) -> str:
    desynced = session.state in {PortalState.DESYNCED, PortalState.RECOVERING}
    if desynced and session.failures_in_a_row >= HOPELESS_AFTER:
        return "The brokerage session does not open: log out and in again on the gateway's page"
    return NEXT_ACTIONS[session.state]
