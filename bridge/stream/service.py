"""What flows into the hub: quotes of shared lines, the session's state, orders and executions.

Quotes that are asked for while there is no session are subscribed as soon as there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from bridge.clock import Clock, repeat, settle
from bridge.errors import BridgeError, InvalidRequestError, Kind, NotFoundError
from bridge.market.contracts import ContractService, is_directed
from bridge.market.quote_line import LineWatcher, QuoteLine, line_key
from bridge.market.quotes import QuoteService
from bridge.model import Contract, ContractDetails
from bridge.stream.hub import MOST_SESSIONS, SESSION_SECONDS, Hub, Session
from bridge.stream.protocol import MOST_TOPICS, Subscribe, Unsubscribe
from bridge.stream.subscriber import EXECUTIONS, HEALTH, ORDERS, QUOTES, STATES, Topic
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import NotConnectedError, TwsError
from bridge.tws.gateway import Gateway

HEARTBEAT_SECONDS: Final = 10
GATHER_SECONDS: Final = 0.02
"""Lines fall and rise together; one message tells of all."""

_RECONCILED: Final = ((ORDERS, EXECUTIONS), STATES)
"""What is known only while the session is reconciled, as it is told together."""

ASKED_AT_ONCE: Final = 10
"""Contracts that the gateway is asked for at a time for one stream: others want some, too."""

RETOLD_SECONDS: Final = 2 * SESSION_SECONDS
"""What was resumed so lately is told again to who comes back: it may have been told meanwhile."""


class TooManyTopicsError(BridgeError):
    """One stream may have so many topics and no more."""

    code = "too-many-subscriptions"
    kind = Kind.LIMITED
    next_step = "Unsubscribe from something first"


class StreamService(LineWatcher):
    """Connects lines and sessions of the gateway with topics and sessions of the hub."""

    def __init__(
        self,
        gateway: Gateway,
        quotes: QuoteService,
        contracts: ContractService,
        clock: Clock,
        most_streams: int = MOST_SESSIONS,
    ) -> None:
        self.hub = Hub(clock, self.snapshot, most_sessions=most_streams)
        self.hub.forgotten = self._release_all
        self.health: Callable[[], object] = lambda: {"state": self._gateway.state}
        self.state: Callable[[], ConnectionState] = lambda: self._gateway.state
        self.states: dict[str, Callable[[], tuple[object, object | None]]] = {}
        """By channel: which version there is, and what it is; None while it is not known."""
        self._shown: dict[str, object] = {}
        self._gist: tuple[object, ...] = (None, None, None)
        self._gateway = gateway
        self._quotes = quotes
        self._contracts = contracts
        self._clock = clock
        self._held: dict[str, dict[int, QuoteLine]] = {}
        self._waiting = WaitingList()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stale: dict[int, datetime] = {}
        self._returned: dict[int, tuple[float, dict[str, object]]] = {}
        """By line, when it was last resumed (monotonic), and what was told of it."""
        self._fell: set[int] = set()
        self._rose: set[int] = set()
        self._gathering: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._beats = 0
        self._reconciled = self._is_reconciled()
        self._unreconciled_since = clock.now()
        self._resumed: tuple[float, dict[str, object]] | None = None
        """The same of orders, executions and accounts."""
        quotes.watch(self)
        gateway.events.state.listen(self._state_changed)

    # life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        beats = repeat(self._clock, 1.0, "stream-heartbeat", self._beat)
        self._task = asyncio.create_task(beats, name="stream-heartbeat")

    async def stop(self) -> None:
        await settle(*self._tasks, self._task)
        if self._gathering is not None:
            self._gathering.cancel()
        for session in tuple(self.hub.sessions.values()):
            if session.attachment is not None:
                session.attachment.drop("shutting down")
            self.hub.forget(session)

    def _beat(self) -> None:
        """Once a second; the heartbeat first, so that nothing else holds it up."""
        self._beats += 1
        if self._beats % HEARTBEAT_SECONDS == 0:
            self.hub.tell_all("heartbeat", at=self._clock.now(), state=self.state())
            self.hub.expire()
            self._forget_lines()
        self.publish_health()
        self.publish_states()

    def _forget_lines(self) -> None:
        for key in [key for key in self._stale if self._quotes.line(key) is None]:
            del self._stale[key]
        old = self._clock.monotonic() - RETOLD_SECONDS
        for key in [key for key, (at, _) in self._returned.items() if at <= old]:
            del self._returned[key]

    def publish_health(self, *, always: bool = False) -> None:
        """Tells of the health when what a person would act on has changed.

        A halt, for one, changes no state of the connection.
        """
        health = self.health()
        gist = tuple(getattr(health, name, None) for name in ("status", "state", "next_action"))
        if always or gist != self._gist:
            self._gist = gist
            self.hub.publish(Topic(HEALTH), msgspec.json.encode(health).decode())

    def publish_states(self) -> None:
        """Shows positions and account as they are, where that has changed."""
        for channel, state in self.states.items():
            if not (sessions := self.hub.on_channel(channel)):
                continue
            version, shown = state()
            if shown is not None and self._shown.get(channel) != version:
                self._shown[channel] = version
                self.hub.tell_all(channel, sessions, data=shown)

    def _tell_state(self, session: Session, channel: str) -> None:
        _, shown = self.states[channel]()
        if shown is not None:
            self.hub.tell(session, channel, data=shown)

    # subscribing --------------------------------------------------------------------------------

    async def subscribe(self, session: Session, operation: Subscribe) -> None:
        """Carries it out and confirms it; what fails of several is told one by one."""
        if operation.channel != QUOTES:
            self._refuse_instruments(operation)
            self.hub.subscribe(session, Topic(operation.channel))
            self.hub.tell(session, "subscribed", id=operation.id, channel=operation.channel)
            if not self._is_reconciled():
                for channels in _RECONCILED:
                    if operation.channel in channels:
                        self._tell_stale([session], channels)
            if operation.channel == HEALTH:
                self.hub.tell(session, "health", data=self.health())
            elif operation.channel in self.states:
                self._tell_state(session, operation.channel)
            return
        wanted = [Contract(symbol=symbol.upper()) for symbol in operation.symbols]
        wanted += [item.contract() for item in operation.contracts]
        if not wanted:
            raise InvalidRequestError("quotes need symbols or contracts")
        count = len(session.subscriber.topics) + self._waiting.count(session) + len(wanted)
        if count > MOST_TOPICS:
            raise TooManyTopicsError(f"a stream may have {MOST_TOPICS} subscriptions")
        await self._subscribe_quotes(session, operation.id, wanted)

    async def _subscribe_quotes(
        self,
        session: Session,
        request: RequestId,
        wanted: Sequence[Contract],
        *,
        waited: bool = False,
    ) -> None:
        """`waited`: in so far as it is still wanted when the contracts are known."""
        found: list[ContractDetails | BaseException] = []
        for start in range(0, len(wanted), ASKED_AT_ONCE):
            part = wanted[start : start + ASKED_AT_ONCE]
            asked = (self._contracts.named(contract) for contract in part)
            found += await asyncio.gather(*asked, return_exceptions=True)
        lines: list[QuoteLine] = []
        instruments: list[dict[str, object]] = []
        for contract, details in zip(wanted, found, strict=True):
            if waited and not self._waiting.claim(session, contract):
                continue
            try:
                if isinstance(details, BaseException):
                    raise details
                line = self._hold(session, details.contract)
                lines.append(line)
                instruments.append(_named(line.contract) | _unit(details))
            except NotConnectedError as error:
                self._waiting.add(session, contract, request)
                self.tell_error(session, error, request, contract, waiting=True)
            except BridgeError as error:
                self.tell_error(session, error, request, contract)
        if lines and not session.closed:
            self._confirm(session, "subscribed", request, instruments)
            self._tell_snapshots(session, lines)

    def _subscribe_waiting(self, sessions: Iterable[Session]) -> None:
        """For those who are there: who is away would not see what came of it."""
        for session, request, contracts in self._waiting.take(sessions):
            task = asyncio.create_task(
                self._subscribe_quotes(session, request, contracts, waited=True),
                name="stream-subscribe",
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def unsubscribe(self, session: Session, operation: Unsubscribe) -> None:
        """Gives subscriptions back; what was not there is no error."""
        if operation.channel != QUOTES:
            self.hub.unsubscribe(session, Topic(operation.channel))
            self.hub.tell(session, "unsubscribed", id=operation.id, channel=operation.channel)
            return
        held = self._held.get(session.subscriber.session, {})
        symbols = {symbol.upper() for symbol in operation.symbols}
        everything = not symbols and not operation.con_ids
        self._waiting.drop(
            session,
            lambda contract: (
                everything
                or (contract.con_id != 0 and contract.con_id in operation.con_ids)
                or (contract.symbol in symbols and contract.sec_type in {"STK", ""})
            ),
        )
        lines = [
            line
            for line in held.values()
            if everything
            or line.contract.con_id in operation.con_ids
            or (line.contract.symbol in symbols and line.contract.sec_type == "STK")
        ]
        for line in lines:
            self._release(session, line)
            self.hub.unsubscribe(session, Topic(QUOTES, line.number))
        given_back = [_named(line.contract) for line in lines]
        self._confirm(session, "unsubscribed", operation.id, given_back)

    def tell_error(
        self,
        session: Session,
        error: BridgeError,
        request: RequestId = None,
        contract: Contract | None = None,
        **more: object,
    ) -> None:
        """What could not be done, in the words of the HTTP routes."""
        members: dict[str, object] = {**error.extra, **more}
        members |= {"code": error.code, "detail": error.detail}
        members["nextStep"] = error.next_step
        if error.retry_after is not None:
            members["retryAfter"] = error.retry_after
        if contract is not None:
            members["symbol"] = contract.local_symbol or contract.symbol
        self.hub.tell(session, "error", id=request, **members)

    def greet(self, session: Session, *, resumed: bool) -> None:
        """The first message of a connection."""
        session.subscriber.greet(
            session=session.subscriber.session,
            resumed=resumed,
            state=self.state(),
            heartbeatSeconds=HEARTBEAT_SECONDS,
            at=self._clock.now(),
        )

    def tell_now(self, session: Session, lost: Collection[str] = ()) -> None:
        """After a resume, behind what was missed: how all of it stands now.

        What is told only once, and no event, may have been told to nobody. `lost` are the channels
        of which `tell_gap` has shown what is now.
        """
        if self._is_reconciled():
            self._subscribe_waiting([session])
        topics = session.subscriber.topics
        for channels in _RECONCILED:
            if any(Topic(channel) in topics for channel in channels):
                self._tell_group(session, channels, lost)
        for channel in self.states:
            if Topic(channel) in topics:
                self._tell_state(session, channel)
        held = self._held.get(session.subscriber.session, {})
        fell = [line for number, line in held.items() if number in self._stale]
        self._tell_of_lines(session, "stale", fell, self._interruption())
        if rose := [number for number in held if number in self._returned]:
            last = max(rose, key=lambda number: self._returned[number][0])
            lines = [held[number] for number in rose]
            self._tell_of_lines(session, "resumed", lines, self._returned[last][1])
        if QUOTES not in lost:
            self._tell_snapshots(session, held.values())

    def _tell_group(self, session: Session, channels: Iterable[str], lost: Collection[str]) -> None:
        """Of what is `lost` it has been said that not all of it comes: that stands."""
        if not self._is_reconciled():
            reason, at = str(self._gateway.state), self._clock.now()
            self.hub.tell(session, "stale", channels=channels, reason=reason, at=at)
        elif self._resumed is not None:
            resumed_at, members = self._resumed
            whole = [channel for channel in channels if channel not in lost]
            if whole and self._clock.monotonic() - resumed_at < RETOLD_SECONDS:
                self.hub.tell(session, "resumed", channels=whole, **members)

    def _tell_of_lines(
        self, session: Session, kind: str, lines: Iterable[QuoteLine], members: dict[str, object]
    ) -> None:
        symbols = sorted({line.contract.symbol for line in lines})
        if symbols:
            self.hub.tell(session, kind, channels=[QUOTES], symbols=symbols, **members)

    def tell_gap(self, session: Session, lost: Iterable[str]) -> None:
        """After a resume that could not bring back everything: says so, then shows what is now."""
        channels = list(lost)
        self.hub.tell(
            session, "stale", channels=channels, reason="gap-too-long", at=self._clock.now()
        )
        if QUOTES in channels:
            self._tell_snapshots(session, self._held.get(session.subscriber.session, {}).values())
        self.hub.tell(
            session,
            "resumed",
            channels=channels,
            complete=False,
            nextStep="Read what happened meanwhile from GET /orders and GET /executions",
            at=self._clock.now(),
        )

    def _hold(self, session: Session, contract: Contract) -> QuoteLine:
        if session.closed:
            raise NotFoundError("the stream has ended")
        held = self._held.setdefault(session.subscriber.session, {})
        key = line_key(contract)
        line = next((each for each in held.values() if each.key == key), None)
        if line is None:
            line = self._quotes.take(contract, session.holder)
            held[line.number] = line
            self.hub.subscribe(session, Topic(QUOTES, line.number))
        elif line.error is not None:
            self._quotes.take(contract, session.holder)  # asks again, or says again why not
            self._quotes.give(line, session.holder)
        return line

    def _release(self, session: Session, line: QuoteLine) -> None:
        held = self._held.get(session.subscriber.session, {})
        if held.pop(line.number, None) is not None:
            self._quotes.give(line, session.holder)

    def _release_all(self, session: Session) -> None:
        self._waiting.forget(session)
        for line in tuple(self._held.pop(session.subscriber.session, {}).values()):
            self._quotes.give(line, session.holder)

    def _confirm(
        self, session: Session, kind: str, request: RequestId, instruments: list[dict[str, object]]
    ) -> None:
        self.hub.tell(session, kind, id=request, channel=QUOTES, instruments=instruments)

    def _tell_snapshots(self, session: Session, lines: Iterable[QuoteLine]) -> None:
        bodies = [self._body(line, None) for line in lines]
        known = [msgspec.Raw(body.encode()) for body in bodies if body is not None]
        if known:
            self.hub.tell(session, "quotes", snapshot=True, quotes=known)

    @staticmethod
    def _refuse_instruments(operation: Subscribe) -> None:
        if operation.symbols or operation.contracts:
            raise InvalidRequestError(f"{operation.channel} takes no symbols and no contracts")

    # quotes -------------------------------------------------------------------------------------

    def snapshot(self, number: int) -> str | None:
        """The whole quote of an open line, as in a `quotes` message."""
        line = self._quotes.line(number)
        return None if line is None else self._body(line, None)

    def _body(self, line: QuoteLine, fields: tuple[str, ...] | None) -> str | None:
        values = line.slot.view(self._clock.monotonic(), fields)
        if not values:
            return None
        if not line.label:
            line.label = _prefix(line.contract)
        return f"{line.label},{msgspec.json.encode(values).decode()[1:]}"

    def changed(self, line: QuoteLine, fields: tuple[str, ...]) -> None:
        """New values: to everyone who wants this instrument."""
        key = line.number
        if key in self._stale:
            self._rose.add(key)
            self._gather()
        topic = Topic(QUOTES, key)
        if self.hub.wanted(topic):
            body = self._body(line, fields)
            if body is not None:
                self.hub.publish(topic, body)

    def interrupted(self, line: QuoteLine) -> None:
        """What was shown of this instrument is stale."""
        key = line.number
        self._stale.setdefault(key, self._clock.now())
        self._rose.discard(key)
        self._fell.add(key)
        self._gather()

    def refused(self, line: QuoteLine, error: TwsError) -> None:
        """Nobody gets this instrument for now."""
        topic = Topic(QUOTES, line.number)
        for session in self.hub.on_channel(QUOTES):
            if topic in session.subscriber.topics:
                self.tell_error(session, error, None, line.contract)

    def _gather(self) -> None:
        if self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(GATHER_SECONDS, self._tell_gathered)

    def _tell_gathered(self) -> None:
        self._gathering = None
        fell, self._fell = self._fell, set()
        rose, self._rose = self._rose, set()
        if fell:
            for key in fell:
                self._returned.pop(key, None)
            self._tell_lines("stale", fell, self._interruption())
        if rose:
            since = [self._stale.pop(key) for key in rose if key in self._stale]
            gap = (self._clock.now() - min(since)).total_seconds() if since else 0.0
            members: dict[str, object] = {"gapSeconds": round(gap, 3), "at": self._clock.now()}
            self._returned |= dict.fromkeys(rose, (self._clock.monotonic(), members))
            self._tell_lines("resumed", rose, members)

    def _interruption(self) -> dict[str, object]:
        state = self._gateway.state
        reason = "data-interrupted" if state is ConnectionState.READY else str(state)
        return {"reason": reason, "at": self._clock.now()}

    def _tell_lines(self, kind: str, keys: set[int], members: dict[str, object]) -> None:
        for session in self.hub.on_channel(QUOTES):
            held = self._held.get(session.subscriber.session, {})
            self._tell_of_lines(session, kind, [held[key] for key in keys if key in held], members)

    # the session --------------------------------------------------------------------------------

    def _state_changed(self, _old: ConnectionState, _new: ConnectionState) -> None:
        self.publish_health(always=True)
        before, self._reconciled = self._reconciled, self._is_reconciled()
        if before and not self._reconciled:
            self._unreconciled_since = self._clock.now()
            for channels in _RECONCILED:
                self._tell_stale(self._on(channels), channels)
        elif self._reconciled and not before:
            self._subscribe_waiting(
                each for each in self.hub.sessions.values() if each.attachment is not None
            )
            gap = (self._clock.now() - self._unreconciled_since).total_seconds()
            members: dict[str, object] = {
                "gapSeconds": round(gap, 3),
                "complete": True,
                "at": self._clock.now(),
            }
            self._resumed = self._clock.monotonic(), members
            for channels in _RECONCILED:
                self.hub.tell_all("resumed", self._on(channels), channels=channels, **members)

    def _on(self, channels: Iterable[str]) -> set[Session]:
        return {session for channel in channels for session in self.hub.on_channel(channel)}

    def _is_reconciled(self) -> bool:
        """Whether orders are known to be what the broker says: not so while quotes alone are."""
        try:
            self._gateway.require_ready()
        except BridgeError:
            return False
        return True

    def _tell_stale(self, sessions: Iterable[Session], channels: Iterable[str]) -> None:
        reason = str(self._gateway.state)
        self.hub.tell_all("stale", sessions, channels=channels, reason=reason, at=self._clock.now())


def _named(contract: Contract) -> dict[str, object]:
    members: dict[str, object] = {"conId": contract.con_id, "symbol": contract.symbol}
    if is_directed(contract):
        members["exchange"] = contract.exchange
    return members


def _unit(details: ContractDetails) -> dict[str, object]:
    """What the prices are in, where that is a fraction of the currency."""
    return {"priceMagnifier": details.price_magnifier} if details.price_magnifier > 1 else {}


def _prefix(contract: Contract) -> str:
    members: dict[str, object] = {"symbol": contract.symbol, **_named(contract)}
    if contract.sec_type != "STK":
        members["secType"] = contract.sec_type
    if contract.sec_type in {"OPT", "FOP", "FUT"}:
        members["expiration"] = contract.expiration
    if contract.right is not None:
        members["strike"] = contract.strike
        members["right"] = contract.right
    return msgspec.json.encode(members).decode()[:-1]


RequestId = str | int | None
"""The id that a client gave its message."""


class WaitingList:
    """What each session waits for, until it is claimed."""

    def __init__(self) -> None:
        self._wanted: dict[Session, dict[Contract, RequestId]] = {}
        self._taken: dict[Session, set[Contract]] = {}

    def add(self, session: Session, contract: Contract, request: RequestId) -> None:
        """To be tried at the next session."""
        self._wanted.setdefault(session, {})[contract] = request

    def count(self, session: Session) -> int:
        """How many a session waits for."""
        return len(self._wanted.get(session, ())) + len(self._taken.get(session, ()))

    def drop(self, session: Session, which: Callable[[Contract], bool]) -> None:
        """Those are wanted no more, although they may be on their way."""
        wanted, taken = self._wanted.get(session, {}), self._taken.get(session, set())
        for contract in [contract for contract in wanted if which(contract)]:
            del wanted[contract]
        taken -= {contract for contract in taken if which(contract)}

    def forget(self, session: Session) -> None:
        """The session has ended."""
        self._wanted.pop(session, None)
        self._taken.pop(session, None)

    def take(
        self, sessions: Iterable[Session]
    ) -> Iterator[tuple[Session, RequestId, tuple[Contract, ...]]]:
        """Everything of these, by session and request; each is to be claimed."""
        for session in tuple(sessions):
            wanted = self._wanted.pop(session, {})
            if not wanted:
                continue
            self._taken.setdefault(session, set()).update(wanted)
            for request in dict.fromkeys(wanted.values()):
                yield session, request, tuple(each for each in wanted if wanted[each] == request)

    def claim(self, session: Session, contract: Contract) -> bool:
        """Whether what was taken is still wanted; it waits no more."""
        taken = self._taken.get(session)
        if taken is None or contract not in taken:
            return False
        taken.discard(contract)
        if not taken:
            del self._taken[session]
        return True
