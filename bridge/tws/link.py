"""The shared ground of the session's parts.

The wire of the moment, what is known, and who may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from random import Random

import structlog

from bridge.clock import TimerClock
from bridge.login import states
from bridge.login.model import Login
from bridge.tws import advice
from bridge.tws.breaker import Breakers
from bridge.tws.broker_codes import CodeClass, classify
from bridge.tws.diagnostics import Diagnostics
from bridge.tws.dial import DialProblem
from bridge.tws.errors import NotConnectedError, SessionConflictError, UpstreamLostError
from bridge.tws.gateway import GatewayEvents
from bridge.tws.login_state import LoginFile
from bridge.tws.machine import Machine, Socket, can_trade
from bridge.tws.pacing import Pacer
from bridge.tws.requests import Requests
from bridge.tws.state import ConnectionState
from bridge.tws.target import Target
from bridge.tws.wire import Wire

_OTHER = {"live": "paper", "paper": "live"}
MOST_FARMS = 64  # a gateway knows about ten
log = structlog.get_logger(__name__)

CLOCK_STEP = "let its clock be set (timedatectl set-ntp true)"
MOST_SKEW = 60.0
"""Seconds; beyond them times of orders, days and restarts are wrong, on one side or the other."""


class Link:
    """Owned by one session; its parts share it instead of knowing one another."""

    def __init__(self, target: Target, clock: TimerClock, random: Random | None = None) -> None:
        self.target = target
        self.clock = clock
        self.random = random or Random()  # noqa: S311 - jitter, no secret
        self.events = GatewayEvents()
        self.requests = Requests(clock)
        self.pacer = Pacer(clock)
        self.breakers = Breakers(clock)
        self.diagnostics = Diagnostics(clock)
        self.machine = Machine(clock, self._state_changed)
        self.login_file = LoginFile(target.login_state_file, target.session)
        self.other_login_file = LoginFile(target.other_login_file, _OTHER.get(target.session or ""))
        self.wire: Wire | None = None
        self.brakes: list[Callable[[], bool]] = []
        """Those who keep what the broker says, and may need a moment for it."""
        self.server_version = 0
        self.accounts: tuple[str, ...] = ()
        self.next_order_id: int | None = None
        self.next_valid_id: int | None = None
        self.clock_skew: float | None = None
        """Seconds by which the gateway's clock is ahead of this machine's, as last asked."""

    @property
    def upstream(self) -> bool:
        """Whether the gateway has its servers, as far as it has said."""
        return self.machine.facts.upstream

    def require(self, *, upstream: bool = True) -> Wire:
        """The wire to write to, or the error that says why there is none."""
        facts = self.machine.facts
        if facts.socket is not Socket.UP or self.wire is None:
            raise self.why_not()
        if upstream and not facts.upstream:
            raise self.why_not()
        return self.wire

    def require_ready(self) -> None:
        """Raises when no order could be placed now."""
        if not can_trade(self.machine.facts):
            raise self.why_not()

    def why_not(self) -> NotConnectedError:
        """The error of the present state."""
        state = self.machine.state
        what = advice.explain(self)
        step = advice.next_action(self)
        if state is ConnectionState.UPSTREAM_LOST:
            return UpstreamLostError(what, next_step=step, extra={"state": state.value})
        if state is ConnectionState.SESSION_CONFLICT:
            return SessionConflictError(what, next_step=step, extra={"state": state.value})
        return NotConnectedError(what, next_step=step, extra={"state": state.value})

    def gateway_time(self, moment: datetime) -> None:
        """The gateway has said what time it is."""
        before = self.clock_is_off
        self.clock_skew = (moment - self.clock.now()).total_seconds()
        if self.clock_is_off and not before:
            log.error("clock-off", seconds=round(self.clock_skew), hint=CLOCK_STEP)
            self.diagnostics.note("clock-off", seconds=round(self.clock_skew))

    @property
    def clock_is_off(self) -> bool:
        """Whether this machine's clock and the gateway's are too far apart."""
        return self.clock_skew is not None and abs(self.clock_skew) > MOST_SKEW

    def clock_words(self) -> str:
        """What is wrong with the clock, and what to do."""
        skew = self.clock_skew or 0.0
        where = "behind" if skew > 0 else "ahead of"
        return f"this machine's clock is {abs(skew):.0f} s {where} the gateway's: {CLOCK_STEP}"

    def held_up(self) -> bool:
        """Whether reading from the gateway has to wait for those who keep what it says."""
        return any(brake() for brake in self.brakes)

    def expected_now(self) -> bool:
        """Whether a loss at this moment is a planned restart."""
        return self.target.restarts.active(self.clock.now()) is not None

    def login(self) -> Login | None:
        """The gateway's login as its container tells it; None where nothing tells.

        A session that is up outranks it: whoever serves the API is logged in.
        """
        now = self.clock.now().timestamp()
        login = self.login_file.read(now)
        if self.machine.facts.socket is not Socket.UP:
            return login
        if login is None or login.state not in (states.LOGGED_IN, states.BLOCKED):
            serving = Login(self.target.session, login.controller if login else None)
            serving.state, serving.since = states.LOGGED_IN, self.machine.since.timestamp()
            return serving
        return login

    def broker_said(self, code: int, text: str) -> None:
        """Keeps what the broker said for diagnostics; farm notices and chatter apart."""
        kind = classify(code)
        if kind is CodeClass.FARM:
            self._farm_said(text.rsplit(":", 1)[-1].strip(), text)
        elif kind is not CodeClass.NOTICE:
            self.diagnostics.broker_said(code, text)

    def _farm_said(self, name: str, text: str) -> None:
        farms = self.diagnostics.farms
        if name in farms or len(farms) < MOST_FARMS:
            farms[name] = text

    @property
    def client_id_taken(self) -> bool:
        """Whether the last attempt met a taken client id."""
        return self.machine.facts.problem is DialProblem.CLIENT_ID_TAKEN

    def _state_changed(self, old: ConnectionState, new: ConnectionState) -> None:
        self.diagnostics.ready(can_trade(self.machine.facts))
        self.diagnostics.note("state", previous=old.value, state=new.value)
        self.events.state.emit(old, new)
