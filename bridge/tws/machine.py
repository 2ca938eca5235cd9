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
from bridge.tws.dial import DialProblem
from bridge.tws.state import ConnectionState as State


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


_WAITING: dict[DialProblem, State] = {
    DialProblem.SILENT: State.STALLED,
    DialProblem.REFUSED: State.WAITING_FOR_GATEWAY,
    DialProblem.UNREACHABLE: State.WAITING_FOR_GATEWAY,
    DialProblem.CLOSED: State.WAITING_FOR_GATEWAY,
}


def state_of(facts: Facts) -> State:
    """The word for ``/health``."""
    if not facts.started:
        return State.STARTING
    if facts.socket is Socket.UP:
        return _connected(facts)
    if facts.logging_in:
        return State.WAITING_FOR_2FA
    if facts.problem is DialProblem.CLIENT_ID_TAKEN:
        return State.SESSION_CONFLICT  # also while it is asked for again
    if facts.socket is Socket.NONE and facts.problem in _WAITING:
        return _WAITING[facts.problem]
    return State.RECONNECTING if facts.was_ready else State.CONNECTING


def _connected(facts: Facts) -> State:
    if not facts.heartbeat:
        return State.STALLED
    if not facts.upstream:
        return State.UPSTREAM_LOST
    if not facts.reconciled:
        return State.RECONNECTING if facts.was_ready else State.CONNECTING
    return State.SESSION_CONFLICT if facts.competing else State.READY


def can_trade(facts: Facts) -> bool:
    """Whether an order could be placed; a competing session takes only the data."""
    return (
        facts.started
        and facts.socket is Socket.UP
        and facts.heartbeat
        and facts.upstream
        and facts.reconciled
    )


class Machine:
    """Holds the facts and tells whoever listens when the state changes."""

    def __init__(self, clock: TimerClock, changed: Callable[[State, State], None]) -> None:
        self.facts = Facts()
        self.state = State.STARTING
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
