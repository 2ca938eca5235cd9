"""What the accounts hold and are worth, kept up to date by standing subscriptions.

A book is filled by the broker's first full list on a connection, and then by its changes. Whoever
reads gets what is there at once: a book that the broker has not confirmed for a second is asked for
anew meanwhile, once for everybody, and the reader waits a moment for it and not longer. Nothing of
before a loss of the connection is ever shown.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Final

from msgspec import Struct

from bridge.account.held_before import HeldBefore, Name, held_before
from bridge.clock import Clock, settle
from bridge.model import AccountValue, Execution, Position
from bridge.quantity import SLACK
from bridge.tws.errors import RequestTimedOutError, TwsError, UnreadableAnswerError
from bridge.tws.gateway import SETTLES_SECONDS, Gateway, Subscription

FRESH_SECONDS: Final = 1.0
"""What the broker confirmed longer ago is asked for anew when somebody reads it."""
PATIENCE_SECONDS: Final = 0.05
"""Readers wait this long for it; then they get what there is, with its age."""
FIRST_SECONDS: Final = 10.0
"""For the first full list of a connection, without which there is nothing to show."""
ANSWER_SECONDS: Final = 5.0
"""A list that has been coming for longer is asked for anew."""
KNOWN_FILLS: Final = 4096
"""Fills are told again after each reconnect: so many are remembered as seen."""


class Unconfirmed(Struct, rename="camel", frozen=True, kw_only=True):
    """A fill after which the broker has not sent the position yet.

    Or a position that a gateway which has just logged in may only not list yet.
    """

    account: str
    con_id: int
    symbol: str
    since: datetime


class _Fill:
    __slots__ = ("lists", "shown")

    def __init__(self, shown: Unconfirmed) -> None:
        self.shown = shown
        self.lists = 0


class _Missed:
    """What was held before a connection, and is not listed by it yet.

    `since` is the moment of its first list: without one it waits, however long a login takes.
    `left` is what fills have left of it; None where an earlier process held it, because fills of
    before may be told again.
    """

    __slots__ = ("held", "left", "shown", "since")

    def __init__(self, held: HeldBefore, left: float | None, now: datetime) -> None:
        self.held = held
        self.left = left
        self.since: float | None = None
        self.shown = Unconfirmed(
            account=held.account, con_id=held.con_id, symbol=held.symbol, since=now
        )

    def is_explained_by(self, fill: Execution) -> bool:
        """Whether nothing is left of it with this fill."""
        if self.left is None:
            return False
        self.left += fill.quantity if fill.side == "BOT" else -fill.quantity
        return abs(self.left) <= SLACK


class PositionBook:
    """The positions of every account as the broker last sent them, and what makes them doubtful.

    `keep` is called with all that is held, or was and may come yet, as it changes.
    """

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        changed: Callable[[], None],
        keep: Callable[[Iterable[HeldBefore]], None] | None = None,
    ) -> None:
        self.held: dict[Name, Position] = {}
        self.filled_at: dict[str, float] = {}
        """By account, when it was last told of a new fill; monotonic."""
        self._gateway = gateway
        self._clock = clock
        self._changed = changed
        self._complete = False
        self._confirmed_at = 0.0
        self._unreadable: str | None = None
        self._spoiled = False  # since the last end of a list something could not be read
        self._listed: set[Name] = set()
        self._fills: dict[Name, _Fill] = {}
        self._missed: dict[Name, _Missed] = {}
        self._keep = keep
        self._seen_fills: OrderedDict[str, None] = OrderedDict()
        self._asking: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        events = gateway.events
        events.position.listen(self._position)
        events.positions_listed.listen(self._whole)
        events.position_unreadable.listen(self._refused)
        events.execution.listen(self._filled)

    @property
    def complete(self) -> bool:
        """Whether there is a full list of this connection, all of which could be read."""
        return self._complete and self._unreadable is None

    @property
    def unconfirmed(self) -> tuple[Unconfirmed, ...]:
        """The fills after which the broker has not sent the position yet, and what may come yet."""
        late = {each.name: self._missed[each.name].shown for each in self.late()}
        return tuple((late | {name: each.shown for name, each in self._fills.items()}).values())

    def late(self) -> tuple[HeldBefore, ...]:
        """What was held in this session's accounts, and may only not be listed again yet."""
        accounts = self._gateway.accounts
        return tuple(
            each.held
            for name, each in self._missed.items()
            if each.held.account in accounts and self._may_come_yet(name)
        )

    def age(self) -> float:
        """Seconds since the broker confirmed the list."""
        return self._clock.monotonic() - self._confirmed_at

    def is_confirmed(self, name: Name) -> bool:
        """Whether the broker has sent this position since its last fill.

        Nor has it while one that was held may only not be listed again yet.
        """
        return name not in self._fills and not self._may_come_yet(name)

    def _may_come_yet(self, name: Name) -> bool:
        missed = self._missed.get(name)
        if missed is None or missed.since is None:
            return missed is not None
        return self._clock.monotonic() - missed.since < SETTLES_SECONDS

    def expect(self, held: Iterable[HeldBefore]) -> None:
        """At the start: what an earlier process knew to be held."""
        now = self._clock.now()
        self._missed.update({each.name: _Missed(each, None, now) for each in held})

    async def current(self) -> None:
        """Returns when the book can be shown.

        Raises:
            TwsError: there is no full list of this connection, and none came.
        """
        if not self._complete:
            await self._gateway.queries.positions(timeout=FIRST_SECONDS)
        elif self.age() > FRESH_SECONDS:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(), name="positions")
            await asyncio.wait((self._asking,), timeout=PATIENCE_SECONDS)
        if self._unreadable is not None:
            raise UnreadableAnswerError(self._unreadable)

    async def begin(self) -> None:
        """After a (re)connect: all that was filled before is in the list that is asked for now."""
        self._fills.clear()
        self.filled_at.clear()
        await self._gateway.queries.positions(timeout=FIRST_SECONDS)

    def interrupted(self) -> None:
        """There is no session: what is held is of before."""
        self._complete = self._spoiled = False
        self._unreadable = None
        self._listed.clear()
        self._give_up_waiting()
        for missed in self._missed.values():
            missed.since = None

    async def stop(self) -> None:
        await settle(self._asking, self._mending, self._settling)

    async def _ask(self) -> None:
        with suppress(TwsError):  # the age tells that there was no answer
            await self._gateway.queries.positions(timeout=ANSWER_SECONDS)

    async def _mend(self) -> None:
        """Asks until all of it could be read: who follows the stream asks for nothing."""
        while self._unreadable is not None:
            await self._clock.sleep(FRESH_SECONDS)
            await self._ask()

    # what may come yet --------------------------------------------------------------------------

    def _wait_for(self, gone: Iterable[Position]) -> None:
        """At the first list of a connection, which does not have these any more.

        It says nothing of other logins' accounts: those wait for a list of theirs.
        """
        now = self._clock.now()
        self._missed.update(
            ((each.account, each.contract.con_id), _Missed(held_before(each), each.quantity, now))
            for each in gone
        )
        for missed in self._missed.values():
            here = missed.held.account in self._gateway.accounts
            missed.since = self._clock.monotonic() if here else None
        if self._settling is not None:
            self._settling.cancel()
        if self._missed:
            self._settling = asyncio.create_task(self._settle(), name="positions-settled")

    async def _settle(self) -> None:
        """Asks when the login has settled: who follows the stream asks for nothing."""
        await self._clock.sleep(SETTLES_SECONDS + FRESH_SECONDS)
        await self._ask()

    def _give_up_waiting(self) -> bool:
        """Forgets what has not come in time; whether there was any."""
        over = [name for name in self._missed if not self._may_come_yet(name)]
        for name in over:
            del self._missed[name]
        return bool(over)

    def _note_held(self) -> None:
        if self._keep is not None:
            late = (each.held for each in self._missed.values())
            self._keep((*map(held_before, self.held.values()), *late))

    # what the gateway tells ---------------------------------------------------------------------

    def _position(self, position: Position) -> None:
        """One of a list, or a change. Only another size tells of a fill: lists may be of before."""
        name = position.account, position.contract.con_id
        self._listed.add(name)
        late = self._missed.pop(name, None) is not None
        before = self.held.get(name)
        moved = position.quantity != (before.quantity if before else 0.0)
        doubted = moved and self._fills.pop(name, None) is not None
        if position.quantity:
            self.held[name] = position
        else:
            self.held.pop(name, None)
        if moved and self._complete:  # else with the end of the list
            self._note_held()
        if doubted or late or before != self.held.get(name):
            self._changed()

    def _whole(self) -> None:
        """The end of a list: what it does not have is held no more.

        One with something in it that could not be read ends nothing, and confirms nothing.
        """
        spoiled, self._spoiled = self._spoiled, False
        if spoiled:
            self._listed.clear()
            return
        gone = [self.held.pop(name) for name in self.held.keys() - self._listed]
        first, self._complete = not self._complete, True
        settled = self._give_up_waiting()
        if first:
            self._wait_for(gone)
        self._note_held()
        # A list that was on its way when the fill came says nothing of it; the next one does.
        for fill in self._fills.values():
            fill.lists += 1
        doubted = {name: fill for name, fill in self._fills.items() if fill.lists < 2}
        settled |= len(doubted) < len(self._fills)
        self._fills = doubted
        self._listed.clear()
        self._unreadable = None
        self._confirmed_at = self._clock.monotonic()
        if gone or first or settled:
            self._changed()

    def _refused(self, what: str) -> None:
        self._unreadable, self._spoiled = what, True
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._mend(), name="positions-mended")

    def _filled(self, execution: Execution) -> None:
        if execution.exec_id in self._seen_fills:
            return
        self._seen_fills[execution.exec_id] = None
        if len(self._seen_fills) > KNOWN_FILLS:
            self._seen_fills.popitem(last=False)
        contract = execution.contract
        name = execution.account, contract.con_id
        missed = self._missed.get(name)
        if missed is not None and missed.is_explained_by(execution):
            del self._missed[name]
        shown = Unconfirmed(
            account=execution.account,
            con_id=contract.con_id,
            symbol=contract.symbol,
            since=self._clock.now(),
        )
        self._fills[name] = _Fill(shown)
        self.filled_at[execution.account] = self._clock.monotonic()
        self._changed()


class ValuesBook:
    """Account values of one subscription, by account, name and currency."""

    def __init__(
        self, gateway: Gateway, clock: Clock, tags: str, changed: Callable[[], None]
    ) -> None:
        self.values: dict[tuple[str, str, str], AccountValue] = {}
        self.asked_at = float("-inf")  # for the whole list that is shown; monotonic
        self._begun_at = 0.0
        self._gateway = gateway
        self._clock = clock
        self._tags = tags
        self._changed = changed
        self._coming: dict[tuple[str, str, str], AccountValue] | None = None
        self._asked_at = 0.0
        self._confirmed_at = 0.0
        self._complete = False
        self._arrived = asyncio.Event()
        self._error: TwsError | None = None
        self._subscription: Subscription | None = None

    @property
    def complete(self) -> bool:
        """Whether there are all values of this connection."""
        return self._complete

    def age(self) -> float:
        """Seconds since the broker confirmed or changed them."""
        return self._clock.monotonic() - self._confirmed_at

    async def current(self) -> None:
        """Returns when the values can be shown.

        Raises:
            TwsError: there are none of this connection, and none came.
        """
        self.follow()
        if self._complete and self.age() <= FRESH_SECONDS:
            return
        patience = PATIENCE_SECONDS if self._complete else FIRST_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._arrived.wait()
        if self._complete:
            return
        if self._error is not None:
            raise self._error
        self._gateway.require_ready()
        raise RequestTimedOutError(f"no account values came in {FIRST_SECONDS:g} s")

    def follow(self) -> None:
        """Subscribes, or asks anew for what is too old and is not coming already."""
        now = self._clock.monotonic()
        if self._subscription is None or not self._subscription.active:
            self._error, self._asked_at = None, now
            self._arrived.clear()
            self._subscription = self._gateway.subscribe_account_values(self, self._tags)
            return
        wanted = not self._complete or self.age() > FRESH_SECONDS
        pause = FRESH_SECONDS if self._coming is None else ANSWER_SECONDS
        if wanted and now - self._asked_at > pause:
            self._asked_at = now
            self._arrived.clear()
            self._subscription.renew()

    def stop(self) -> None:
        """Gives the subscription back."""
        if self._subscription is not None:
            self._subscription.cancel()

    # what the gateway tells ---------------------------------------------------------------------

    def begun(self) -> None:
        """All of them are coming."""
        self._coming, self._begun_at = {}, self._clock.monotonic()

    def value(self, value: AccountValue) -> None:
        """One value, of a list or a change."""
        name = value.account, value.tag, value.currency
        if self._coming is not None:
            self._coming[name] = value
            return
        self._confirmed_at = self._clock.monotonic()
        if self.values.get(name) != value:
            self.values[name] = value
            self._changed()

    def listed(self) -> None:
        """All of them have come."""
        coming, self._coming = self._coming, None
        if coming is not None and (coming != self.values or not self._complete):
            self.values = coming
            self._changed()
        self._complete, self._error, self.asked_at = True, None, self._begun_at
        self._confirmed_at = self._clock.monotonic()
        self._arrived.set()

    def failed(self, error: TwsError) -> None:
        """The broker refused; the next reader asks again."""
        self._error, self._complete = error, False
        self._arrived.set()

    def interrupted(self) -> None:
        """The connection is gone: what is held is of before."""
        self._complete, self._coming, self._asked_at = False, None, float("-inf")
        self._arrived.clear()
