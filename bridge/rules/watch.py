"""What the rules look at: positions as holdings, their quotes, their markets' hours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import structlog
from msgspec import Struct, structs

from bridge.broker_time import Session, exchange_zone, is_open, session_of
from bridge.clock import Clock, settle
from bridge.errors import BridgeError
from bridge.market.contracts import ContractService
from bridge.market.quote_line import LineWatcher, QuoteLine
from bridge.market.quotes import QuoteService
from bridge.model import Contract, ContractDetails, Position
from bridge.rules.evaluation import Market, Price
from bridge.rules.holdings import Holding, fits, places_of_key
from bridge.rules.model import RuleSet
from bridge.rules.opening_history import OpeningHistory
from bridge.tws.errors import TwsError
from bridge.tws.gateway import SETTLES_SECONDS, Gateway
from bridge.tws.values import NEGATIVE_PRICES

log = structlog.get_logger(__name__)

DETAILS_SECONDS: Final = 6 * 3600.0
"""The broker's hours are those of the next days."""
ANSWER_SECONDS: Final = 1.0
"""So long a look waits for details; what comes later is of the next one."""
RETRY_SECONDS: Final = 60.0
"""After which details that could not be had are asked for again."""
_PRICES: Final = frozenset({"bid", "ask", "last"})
_TAGS: Final = ("live", "frozen", "delayed", "stale")
"""From the best to the worst."""


class _Hours(Struct, frozen=True, kw_only=True):
    """A holding's market in one minute."""

    minute: datetime
    zone: ZoneInfo
    open: bool
    open_outside: bool
    session: Session | None
    longer: Session | None


class HoldingWatch(LineWatcher):
    """The holdings that some rule is for, with open lines for their quotes.

    `unclear` are those of which nobody can tell whether they are legs that a rule names. `moved` is
    called with a contract's number when its price is another, `answered` when details came late.
    `direction_of` says the direction that a holding was first seen with; 0: not known.
    """

    def __init__(
        self,
        gateway: Gateway,
        contracts: ContractService,
        quotes: QuoteService,
        history: OpeningHistory,
        clock: Clock,
    ) -> None:
        self.holdings: tuple[Holding, ...] = ()
        self.unclear: tuple[Holding, ...] = ()
        self.looked_at: float | None = None
        self.moved: Callable[[int], None] = _nobody
        self.answered: Callable[[], None] = _nothing
        self.direction_of: Callable[[Holding], int] = _new
        self._gateway = gateway
        self._contracts = contracts
        self._quotes = quotes
        self._history = history
        self._clock = clock
        self._details: dict[int, tuple[float, ContractDetails]] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._rests: dict[int, float] = {}
        self._lines: dict[int, QuoteLine] = {}
        self._hours: dict[str, _Hours] = {}
        self._known_sizes: dict[tuple[str, int], float] = {}
        self._listed_here: set[str] = set()
        """What was held in some list of this connection."""
        self._ready_at: float | None = None
        gateway.events.lost.listen(lambda _: self._begin_anew())
        gateway.events.ready.listen(self._begun)
        quotes.watch(self)

    async def look(self, rules: RuleSet, closing: frozenset[str] = frozenset()) -> None:
        """Asks for the positions, and for quotes of what rules are for or what is being closed.

        Raises:
            TwsError: the broker does not say; what is known is as old as before.
        """
        positions = [each for each in await self._gateway.queries.positions() if each.quantity]
        self._known_sizes = {
            (each.account, each.contract.con_id): each.quantity for each in positions
        }
        found = [
            each.facing(self.direction_of(each))
            for each in await self._history.holdings(positions, rules)
        ]
        self._listed_here.update(each.key for each in found)
        wanted = [
            each
            for each in found
            if each.key in closing
            or any(rule.enabled and fits(rule.match, each) for rule in rules.rules)
        ]
        self.unclear = tuple(each for each in found if each.unclear)
        await self._look_at(wanted, rules)
        magnifiers = {
            con_id: max(1, details.price_magnifier)
            for con_id, (_, details) in self._details.items()
        }
        self.holdings = tuple(
            structs.replace(each.magnified(magnifiers), step=self._step(each)) for each in wanted
        )
        self._hours = {}
        self.looked_at = self._clock.monotonic()

    def may_come_yet(self, key: str) -> bool:
        """Whether a holding that is not held may only not be listed yet.

        So it is for a while after each login, unless this connection has listed it before, or lists
        all that it is made of in another size.
        """
        listed = all(place in self._known_sizes for place in places_of_key(key))
        if key in self._listed_here or listed:
            return False
        since = self._ready_at
        return since is None or self._clock.monotonic() - since < SETTLES_SECONDS

    def _begin_anew(self) -> None:
        self._listed_here.clear()
        self._ready_at = None

    def _begun(self) -> None:
        if self._ready_at is None:
            self._ready_at = self._clock.monotonic()

    def is_news(self, position: Position) -> bool:
        """Whether a position that the gateway tells of is another than at the last look."""
        place = (position.account, position.contract.con_id)
        return self._known_sizes.get(place, 0.0) != position.quantity

    def size(self, account: str, con_id: int) -> float:
        """How much of a contract was held at the last look, signed."""
        return self._known_sizes.get((account, con_id), 0.0)

    def age(self) -> float:
        """Seconds since the positions were asked for."""
        if self.looked_at is None:
            return float("inf")
        return self._clock.monotonic() - self.looked_at

    def holding(self, key: str) -> Holding | None:
        """The holding of this name, if it is held."""
        return next((each for each in self.holdings if each.key == key), None)

    async def stop(self) -> None:
        """Gives every line back."""
        await settle(*self._asking.values())
        for line in self._lines.values():
            self._quotes.give(line)
        self._lines.clear()

    def market(self, holding: Holding) -> Market | None:
        """All that a rule looks at; None: the contracts' details are not known."""
        details = [self._known(leg.contract.con_id) for leg in holding.legs]
        first = details[0]
        if not holding.priced or first is None or any(each is None for each in details):
            return None
        hours = self._hours_of(holding, first, [each for each in details if each is not None])
        under = first.under_con_id or first.contract.con_id
        return Market(
            now=self._clock.now(),
            zone=hours.zone,
            open=hours.open,
            open_outside=hours.open_outside,
            session=hours.session,
            longer=hours.longer,
            prices={
                leg.contract.con_id: price
                for leg in holding.legs
                if (price := self.price(leg.contract.con_id)) is not None
            },
            underlying=self.price(under),
        )

    def _hours_of(
        self, holding: Holding, first: ContractDetails, details: list[ContractDetails]
    ) -> _Hours:
        """Worked out once a minute: sessions begin and end on the minute, ticks come between."""
        now = self._clock.now()
        minute = now.replace(second=0, microsecond=0)
        known = self._hours.get(holding.key)
        if known is not None and known.minute == minute:
            return known
        zone = exchange_zone(first.time_zone, first.contract)
        regular = [each.liquid_hours or each.trading_hours for each in details]
        longer = [each.trading_hours or each.liquid_hours for each in details]
        found = self._hours[holding.key] = _Hours(
            minute=minute,
            zone=zone,
            open=all(is_open(hours, zone, now) for hours in regular if hours),
            open_outside=all(is_open(hours, zone, now) for hours in longer if hours),
            session=_common(regular, zone, now),
            longer=_common(longer, zone, now),
        )
        return found

    def day_end(self, holding: Holding, *, outside: bool) -> datetime | None:
        """When a day order of it that is sent now ends by itself; None: not known.

        `outside`: whether it also works outside the regular hours.
        """
        now, ends = self._clock.now(), []
        for leg in holding.legs:
            known = self._known(leg.contract.con_id)
            if known is None:
                return None
            regular, longer = known.liquid_hours, known.trading_hours
            hours = (longer or regular) if outside else (regular or longer)
            running = session_of(hours, exchange_zone(known.time_zone, known.contract), now)
            if running is not None:
                ends.append(running.closes)
        return min(ends, default=None)

    def price(self, con_id: int) -> Price | None:
        """What the contract's open line says; the tag is that of the worse of bid and ask."""
        line = self._lines.get(con_id)
        if line is None:
            return None
        values = line.slot.view(self._clock.monotonic(), _PRICES)
        numbers: dict[str, float | None] = {}
        tags = []
        for name, each in values.items():
            numbers[name] = each.value if isinstance(each.value, float | int) else None
            if name != "last" or not {"bid", "ask"} <= values.keys():
                tags.append(each.tag)
        if not tags:
            return None
        return Price(
            **numbers,
            tag=max(tags, key=_TAGS.index),
            no_bid="bid" in numbers and numbers["bid"] is None,
            signed=line.contract.sec_type in NEGATIVE_PRICES,
        )

    def _step(self, holding: Holding) -> float:
        """Of shares the API takes no fraction, whatever the contract says; units are whole."""
        contract = holding.legs[0].contract
        if holding.combination:
            return 0.0
        known = self._known(contract.con_id)
        least = 1.0 if contract.sec_type == "STK" else 0.0
        return max(least, (known.size_increment if known is not None else None) or 0.0)

    def tick(self, holding: Holding) -> float:
        """The smallest step of its price; the coarsest of its legs'; 0: not known."""
        known = [self._known(leg.contract.con_id) for leg in holding.legs]
        return max((each.min_tick for each in known if each is not None), default=0.0)

    def underlying(self, con_id: int) -> int:
        """The number of what a contract is on; 0: nothing, or not known."""
        details = self._known(con_id)
        return 0 if details is None else details.under_con_id

    # lines --------------------------------------------------------------------------------------

    def changed(self, line: QuoteLine, fields: tuple[str, ...]) -> None:
        """A price of something that is watched."""
        con_id = line.contract.con_id
        if self._lines.get(con_id) is line and not _PRICES.isdisjoint(fields):
            self.moved(con_id)

    def interrupted(self, line: QuoteLine) -> None:
        """Its values are stale."""

    def refused(self, line: QuoteLine, error: TwsError) -> None:
        """There is no quote; asked for again at the next look."""
        if self._lines.get(line.contract.con_id) is line:
            self._drop(line.contract.con_id)

    async def _look_at(self, wanted: Iterable[Holding], rules: RuleSet) -> None:
        legs = [leg.contract for holding in wanted for leg in holding.legs]
        found = await self._learned(legs)
        if any(
            rule.underlying_above is not None or rule.underlying_below is not None
            for rule in rules.rules
        ):
            under = {each.under_con_id for each in found if each.under_con_id}
            found += await self._learned([Contract(con_id=each, sec_type="") for each in under])
        needed = {each.contract.con_id: each.contract for each in found}
        for con_id in self._lines.keys() - needed.keys():
            self._drop(con_id)
        for con_id, contract in needed.items():
            if con_id not in self._lines:
                try:
                    line = self._quotes.take(contract)
                    if line.error is not None:  # refused while it was being asked for
                        self._quotes.give(line)
                        raise line.error
                    self._lines[con_id] = line
                except BridgeError as error:
                    log.warning("rules-without-quote", symbol=contract.symbol, reason=error.detail)

    def _drop(self, con_id: int) -> None:
        line = self._lines.pop(con_id, None)
        if line is not None:
            self._quotes.give(line)

    def _known(self, con_id: int) -> ContractDetails | None:
        found = self._details.get(con_id)
        return None if found is None else found[1]

    async def _learned(self, contracts: Iterable[Contract]) -> list[ContractDetails]:
        """The details that are known once all were asked for; a silent one holds a look up once."""
        asked = set()
        for each in contracts:
            if self._to_ask(each.con_id):
                task = asyncio.create_task(self._ask(each), name="rules-details")
                self._asking[each.con_id] = task
                asked.add(task)
        if asked:
            _, late = await asyncio.wait(asked, timeout=ANSWER_SECONDS)
            for task in late:
                task.add_done_callback(lambda _: self.answered())
        known = (self._known(each.con_id) for each in contracts)
        return [each for each in known if each is not None]

    def _to_ask(self, con_id: int) -> bool:
        now, known = self._clock.monotonic(), self._details.get(con_id)
        if con_id in self._asking or now < self._rests.get(con_id, 0.0):
            return False
        return known is None or now - known[0] >= DETAILS_SECONDS

    async def _ask(self, contract: Contract) -> None:
        con_id = contract.con_id
        named = Contract(con_id=con_id, sec_type=contract.sec_type, exchange="", currency="")
        try:
            details = await self._contracts.named(named)
        except Exception as error:
            self._rests[con_id] = self._clock.monotonic() + RETRY_SECONDS
            if isinstance(error, BridgeError):
                log.warning("rules-without-details", conId=con_id, reason=error.detail)
            else:
                log.exception("rules-without-details", conId=con_id)
        else:
            self._rests.pop(con_id, None)
            self._details[con_id] = (self._clock.monotonic(), details)
        finally:
            self._asking.pop(con_id, None)


def _common(hours: Iterable[str], zone: ZoneInfo, now: datetime) -> Session | None:
    """The session that all legs have; None: one of them has none, or hours that are not known."""
    found = [session_of(each, zone, now) for each in hours]
    running = [each for each in found if each is not None]
    if not running or len(running) < len(found):
        return None
    return Session(max(each.opens for each in running), min(each.closes for each in running))


def _nobody(_: int) -> None:
    pass


def _nothing() -> None:
    pass


def _new(_: Holding) -> int:
    return 0
