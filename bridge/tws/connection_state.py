"""The connection's state as a function of a few facts.

The supervisor and the message handlers set facts; nobody sets a state. So the state can never
disagree with what is known, whatever order things happen in. The order of the questions in
``state_of`` is the order of root causes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from msgspec import Struct, structs

from bridge.clock import TimerClock


class ConnectionState(StrEnum):
    """The words of ``/health``."""

    STARTING = "starting"
    WAITING_FOR_GATEWAY = "waiting-for-gateway"
    WAITING_FOR_2FA = "waiting-2fa"
    CONNECTING = "connecting"
    READY = "ready"
    UPSTREAM_LOST = "upstream-lost"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    SESSION_CONFLICT = "session-conflict"
    READ_ONLY = "read-only"  # only shown: an overlay over ready while the gateway refuses orders
    HALTED = "halted"  # only shown: an overlay over ready while trading is halted


class DialProblem(StrEnum):
    """Why there is no session, as far as the network tells."""

    REFUSED = "refused"  # nothing listens
    UNREACHABLE = "unreachable"  # no such host, no route, no answer to the SYN
    CLOSED = "closed"  # taken and closed at once: a forwarder without a gateway behind it
    SILENT = "silent"  # taken, and never greeted
    CLIENT_ID_TAKEN = "client-id-taken"  # 326
    NOT_STARTED = "not-started"  # greeted, but closed or silent after the client id was given


class Socket(StrEnum):
    """How far the connection is."""

    NONE = "none"
    GREETED = "greeted"  # the version is agreed, the session is being started
    UP = "up"


class Facts(Struct, frozen=True, kw_only=True):
    """All that the state depends on."""

    started: bool = False
    socket: Socket = Socket.NONE
    problem: DialProblem | None = None  # of the last attempt
    logging_in: bool = False  # a forwarder answers, the API behind it does not
    was_ready: bool = False
    heartbeat: bool = True
    upstream: bool = True
    reconciled: bool = False
    competing: bool = False


_WAITING: dict[DialProblem, ConnectionState] = {
    DialProblem.SILENT: ConnectionState.STALLED,
    DialProblem.REFUSED: ConnectionState.WAITING_FOR_GATEWAY,
    DialProblem.UNREACHABLE: ConnectionState.WAITING_FOR_GATEWAY,
    DialProblem.CLOSED: ConnectionState.WAITING_FOR_GATEWAY,
}


def state_of(facts: Facts) -> ConnectionState:
    """The word for ``/health``."""
    if not facts.started:
        return ConnectionState.STARTING
    if facts.socket is Socket.UP:
        return _connected(facts)
    if facts.logging_in:
        return ConnectionState.WAITING_FOR_2FA
    if facts.problem is DialProblem.CLIENT_ID_TAKEN:
        return ConnectionState.SESSION_CONFLICT  # also while it is asked for again
    if facts.socket is Socket.NONE and facts.problem in _WAITING:
        return _WAITING[facts.problem]
    return ConnectionState.RECONNECTING if facts.was_ready else ConnectionState.CONNECTING


def _connected(facts: Facts) -> ConnectionState:
    if not facts.heartbeat:
        return ConnectionState.STALLED
    if not facts.upstream:
        return ConnectionState.UPSTREAM_LOST
    if not facts.reconciled:
        return ConnectionState.RECONNECTING if facts.was_ready else ConnectionState.CONNECTING
    return ConnectionState.SESSION_CONFLICT if facts.competing else ConnectionState.READY


def can_trade(facts: Facts) -> bool:
    """Whether an order could be placed; a competing session takes only the data."""
    return (
        facts.started
        and facts.socket is Socket.UP
        and facts.heartbeat
        and facts.upstream
        and facts.reconciled
    )


class ConnectionStatus:
    """Holds the facts and tells whoever listens when the state changes."""

    def __init__(
        self, clock: TimerClock, changed: Callable[[ConnectionState, ConnectionState], None]
    ) -> None:
        self.facts = Facts()
        self.state = ConnectionState.STARTING
        self.since: datetime = clock.now()
        self._clock = clock
        self._changed = changed

    def update(self, **facts: object) -> None:
        """Sets facts and draws the conclusion."""
        self.facts = structs.replace(self.facts, **facts)
        new = state_of(self.facts)
        if new is not self.state:
            old, self.state = self.state, new
            self.since = self._clock.now()
            self._changed(old, new)
