"""The shared ground of the session's parts.

The wire of the moment, what is known, and who may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Final

import structlog
from msgspec import Struct

from bridge.clock import TimerClock
from bridge.login import states
from bridge.login.model import Login, replay
from bridge.model import MarketDataType
from bridge.restart_calendar import RestartCalendar
from bridge.tws import advice
from bridge.tws.breaker import Breakers
from bridge.tws.broker_codes import CodeClass, VersionEnds, classify, version_ends
from bridge.tws.client import Readings
from bridge.tws.connection_state import (
    ConnectionState,
    ConnectionStatus,
    DialProblem,
    Socket,
    can_trade,
)
from bridge.tws.diagnostics import Diagnostics
from bridge.tws.errors import NotConnectedError, SessionConflictError, UpstreamLostError
from bridge.tws.events import GatewayEvents
from bridge.tws.pacing import Pacer
from bridge.tws.requests import Requests
from bridge.tws.wire import Wire

MOST_BYTES: Final = 262_144
"""The hook keeps its file far smaller; of a bigger one only the end is read."""


class LoginFile:
    """One session's login as the gateway's container writes it down, read when it has changed.

    A hook beside the gateway appends events to a file (`bridge.login.model.replay`); without the
    file nothing is known, and the bridge has to guess from how connections end. One word alone, a
    state of `bridge.login.states`, is taken as well: other helpers beside a gateway may write it.
    """

    def __init__(self, file: Path | None, session: str | None = None) -> None:
        self._file = file
        self.session = session
        self._seen: tuple[int, int, int] | None = None
        self._login: Login | None = None

    def read(self, now: float) -> Login | None:
        """The login at this moment (seconds since 1970); None without a file."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen or self._login is None:
                self._login = self._parsed(status.st_size, status.st_mtime)
                self._seen = seen
        except OSError:
            self._login = self._seen = None
            return None
        self._login.look(now)
        return self._login

    def _parsed(self, size: int, written: float) -> Login:
        assert self._file is not None  # noqa: S101 - read() has looked
        with self._file.open("rb") as content:
            content.seek(max(0, size - MOST_BYTES))
            text = content.read(MOST_BYTES).decode("utf-8", "replace")
        state = text.strip()
        if state not in states.STATES:
            return replay(text, self.session)
        login = Login(self.session)
        login.state, login.since = state, written
        return login


def waiting_for_2fa(file: LoginFile, now: float) -> bool | None:
    """Whether a second factor is asked for; None when there is no file to ask."""
    login = file.read(now)
    return None if login is None else login.state == states.WAITING_2FA


class Target(Struct, frozen=True, kw_only=True):
    """Settings of one session. Seconds are the clock's."""

    host: str = "127.0.0.1"
    port: int = 4002
    client_id: int = 17
    time_zone: str = "America/New_York"  # of times that the gateway sends without a zone
    restarts: RestartCalendar = RestartCalendar()
    login_state_file: Path | None = None
    other_login_file: Path | None = None
    session: str | None = None  # paper or live; of the login
    start_seconds: float = 45.0  # a slow login keeps the client id waiting
    heartbeat_interval: float = 2.0
    heartbeat_patience: float = 2.5
    backoff_first: float = 0.15
    backoff_cap: float = 0.3
    quick_attempts: int = 0  # in a row, after which there is only one every slow_pause; 0: no limit
    slow_pause: float = 60.0
    market_data_type: MarketDataType = MarketDataType.LIVE  # the best kind that lines ask for

    def kind_for(self, asked: MarketDataType) -> MarketDataType:
        """The kind to request for a line that asked for this one: never better than is set."""
        match self.market_data_type:
            case MarketDataType.LIVE:
                return asked
            case MarketDataType.FROZEN if asked is MarketDataType.LIVE:
                return MarketDataType.FROZEN
            case MarketDataType.FROZEN:
                return asked
            case delayed:
                return delayed


_OTHER = {"live": "paper", "paper": "live"}
MOST_FARMS = 64  # a gateway knows about ten
_DATA_FARM = {2103: False, 2104: True, 2108: True}  # whether a market-data farm is well
log = structlog.get_logger(__name__)

UPGRADE_STEP = "./deploy.py upgrade gateway, before that day; upgrade --check shows what there is"
CLOCK_STEP = "let its clock be set (timedatectl set-ntp true)"
MOST_SKEW = 60.0
"""Seconds; beyond them times of orders, days and restarts are wrong, on one side or the other."""


class ConnectionContext:
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
        self.status = ConnectionStatus(clock, self._state_changed)
        self.login_file = LoginFile(target.login_state_file, target.session)
        self.other_login_file = LoginFile(target.other_login_file, _OTHER.get(target.session or ""))
        self.wire: Wire | None = None
        self.readings = Readings()
        self.brakes: list[Callable[[], bool]] = []
        """Those who keep what the broker says, and may need a moment for it."""
        self.server_version = 0
        self.accounts: tuple[str, ...] = ()
        self.next_order_id: int | None = None
        self.next_valid_id: int | None = None
        self.clock_skew: float | None = None
        """Seconds by which the gateway's clock is ahead of this machine's, as last asked."""
        self.version_ends: VersionEnds | None = None
        """What IBKR has announced of the connected gateway's version."""

    @property
    def upstream(self) -> bool:
        """Whether the gateway has its servers, as far as it has said."""
        return self.status.facts.upstream

    def require(self, *, upstream: bool = True) -> Wire:
        """The wire to write to, or the error that says why there is none."""
        facts = self.status.facts
        if facts.socket is not Socket.UP or self.wire is None:
            raise self.why_not()
        if upstream and not facts.upstream:
            raise self.why_not()
        return self.wire

    def require_ready(self) -> None:
        """Raises when no order could be placed now."""
        if not can_trade(self.status.facts):
            raise self.why_not()

    def why_not(self) -> NotConnectedError:
        """The error of the present state."""
        situation = self.situation()
        state, what = situation.state, advice.explain(situation)
        step = advice.next_action(situation)
        if state is ConnectionState.UPSTREAM_LOST:
            return UpstreamLostError(what, next_step=step, extra={"state": state.value})
        if state is ConnectionState.SESSION_CONFLICT:
            return SessionConflictError(what, next_step=step, extra={"state": state.value})
        return NotConnectedError(what, next_step=step, extra={"state": state.value})

    def situation(self) -> advice.Situation:
        """What is to be explained at this moment."""
        now = self.clock.now()
        return advice.Situation(
            host=self.target.host,
            port=self.target.port,
            client_id=self.target.client_id,
            state=self.status.state,
            since=self.status.since,
            now=now,
            problem=self.status.facts.problem,
            last_error=self.diagnostics.record.last_reconnect_error,
            restart=self.target.restarts.active(now),
            login=self.login(),
        )

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

    def clock_is_known_right(self) -> bool:
        """Whether the gateway has said what time it is, and this machine says the same."""
        return self.clock_skew is not None and not self.clock_is_off

    def clock_words(self) -> str:
        """What is wrong with the clock, and what to do."""
        skew = self.clock_skew or 0.0
        where = "behind" if skew > 0 else "ahead of"
        return f"this machine's clock is {abs(skew):.0f} s {where} the gateway's: {CLOCK_STEP}"

    def version_words(self) -> str | None:
        """What IBKR has announced of the gateway's version; None: nothing."""
        ends = self.version_ends
        if ends is None:
            return None
        version = f" {ends.version}" if ends.version else ""
        day = f"from {ends.date} on" if ends.date else "soon"
        least = f"; the oldest that it takes then is {ends.least}" if ends.least else ""
        return f"IBKR refuses the gateway's version{version} {day}{least}"

    def held_up(self) -> bool:
        """Whether reading from the gateway has to wait for those who keep what it says."""
        return any(brake() for brake in self.brakes)

    def expected_now(self) -> bool:
        """Whether a loss at this moment is a planned restart."""
        return self.target.restarts.active(self.clock.now()) is not None

    def take_order_id(self) -> int:
        """A fresh order id, never lower than the gateway's own next valid id."""
        following = self.next_order_id
        if following is None:
            raise self.why_not()
        self.next_order_id = following + 1
        return following

    def login(self) -> Login | None:
        """The gateway's login as its container tells it; None where nothing tells.

        A session that is up outranks it: whoever serves the API is logged in. Not so what was
        written since the gateway has stopped answering, or has lost the broker.
        """
        now, facts, since = self.clock.now().timestamp(), self.status.facts, self.status.since
        login = self.login_file.read(now)
        if facts.socket is not Socket.UP:
            return login
        serves = facts.upstream and facts.heartbeat
        if login is not None and not serves and (login.since or 0.0) > since.timestamp():
            return login
        if login is None or login.state not in (states.LOGGED_IN, states.BLOCKED):
            serving = Login(self.target.session, login.controller if login else None)
            serving.state, serving.since = states.LOGGED_IN, self.status.since.timestamp()
            return serving
        return login

    def broker_said(self, code: int, text: str) -> None:
        """Keeps what the broker said for diagnostics; farm notices and chatter apart."""
        kind = classify(code)
        ends = version_ends(code, text)
        if ends is not None and ends != self.version_ends:
            self.version_ends = ends
            log.warning("version-ends", text=text)
            self.diagnostics.note("version-ends", text=text)
        if kind is CodeClass.FARM:
            self._farm_said(code, text.rsplit(":", 1)[-1].strip(), text)
        elif kind is not CodeClass.NOTICE:
            self.diagnostics.broker_said(code, text)

    def _farm_said(self, code: int, name: str, text: str) -> None:
        farms = self.diagnostics.farms
        if name in farms or len(farms) < MOST_FARMS:
            farms[name] = text
            if code in _DATA_FARM:
                self.events.farm.emit(name, _DATA_FARM[code])

    @property
    def client_id_taken(self) -> bool:
        """Whether the last attempt met a taken client id."""
        return self.status.facts.problem is DialProblem.CLIENT_ID_TAKEN

    def _state_changed(self, old: ConnectionState, new: ConnectionState) -> None:
        self.diagnostics.ready(can_trade(self.status.facts))
        self.diagnostics.note("state", previous=old.value, state=new.value)
        self.events.state.emit(old, new)
