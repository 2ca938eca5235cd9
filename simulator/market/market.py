"""Prices: what a contract is quoted at, at any moment.

Prices move in steps of a quarter of a second, the pace at which a gateway bundles them.
"""

from __future__ import annotations

import itertools
import math
from datetime import date
from enum import IntEnum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from simulator.contracts import details
from simulator.contracts.contract import family, legs_of
from simulator.market import calendar, options
from simulator.market.noise import STEP, Course, Path, mixed, uniform

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.contracts.catalog import Catalog
    from simulator.contracts.contract import Contract, Leg

YEAR = 365.0 * 86_400
TRADE = 90
"""Units in a trade, on average."""
ALWAYS, EXCHANGE = "always", "exchange"
QUOTES_KEPT, DAYS_KEPT = 2_000, 1_000
OPTIONS, FUTURES = frozenset({"OPT", "FOP"}), frozenset({"FUT", "CONTFUT"})
WHOLE_DAY = frozenset({"FUT", "CONTFUT", "FOP", "CASH"})
"""Kinds whose regular hours go around the clock."""
VOLUMES = {"STK": 3.5e9, "FUT": 1.2e6, "OPT": 900.0, "BOND": 4_000.0}


@lru_cache(maxsize=512)
def _last_moment(expiry: str) -> float:
    """When a contract that expires on a day, YYYYMMDD, is last traded."""
    day = date(int(expiry[:4]), int(expiry[4:6]), int(expiry[6:]))
    span = calendar.regular("OPT", day)
    return span.end if span else calendar.stamp(day, 16)


class Quote(NamedTuple):
    """The best prices and their sizes at one moment."""

    bid: float
    ask: float
    last: float
    bid_size: float = 100.0
    ask_size: float = 100.0

    @property
    def middle(self) -> float:
        """Half-way between bid and ask."""
        return (self.bid + self.ask) / 2


class Phase(IntEnum):
    """Where a contract's trading day stands."""

    CLOSED = 0
    EXTENDED = 1
    REGULAR = 2


class Day(NamedTuple):
    """A trading day so far; prices, and volume in units of the contract."""

    open: float
    high: float
    low: float
    close: float
    """The close of the day before."""
    volume: float


class Market:
    """Quotes and hours of every listed contract; nothing in it changes but its caches.

    Args:
        catalog: what is listed.
        seed: the same seed is the same market.
        hours: `always` open, or at `exchange` hours.
    """

    def __init__(self, catalog: Catalog, seed: int, hours: str = ALWAYS) -> None:
        self.catalog = catalog
        self.hours = hours
        self._seed = mixed(seed, 1)
        self._paths: dict[tuple[int, str], Path] = {}
        self._quotes: dict[int, tuple[float, Quote]] = {}
        self._days: dict[tuple[int, float], tuple[float, float, float, float, float]] = {}
        self._courses: dict[tuple[int, str], Course] = {}
        self._deviations: dict[tuple[int, date], float] = {}

    # prices

    def quote(self, contract: Contract, at: float) -> Quote:
        """The prices at a moment; while the market is closed, those at its last close."""
        if contract.sec_type == "BAG":
            return combined_quote(self, contract, at)
        moment = self.moment(contract, at)
        known = self._quotes.get(contract.con_id)
        if known and known[0] == moment:
            return known[1]
        quote = self._quote(contract, moment)
        if len(self._quotes) > QUOTES_KEPT:
            self._quotes.clear()
        self._quotes[contract.con_id] = (moment, quote)
        return quote

    def price_quote(self, contract: Contract, at: float) -> Quote:
        """The prices of a past moment, hours aside and not kept."""
        return self._quote(contract, math.floor(at / STEP) * STEP)

    def moment(self, contract: Contract, at: float) -> float:
        """The moment whose prices hold at `at`: the step it lies in, or the last close."""
        if self.hours == EXCHANGE and self.phase(contract, at) is Phase.CLOSED:
            at = calendar.last_span(contract.sec_type, at, liquid=False).end - STEP
        return math.floor(at / STEP) * STEP

    def middle(self, contract: Contract, at: float) -> float:
        """The value between bid and ask at a moment, not rounded and hours aside."""
        return self.course(contract).at(at)

    def course(self, contract: Contract, kind: str = "price") -> Course:
        """A contract's value between bid and ask over time, or its implied volatility."""
        key = (contract.con_id, kind)
        course = self._courses.get(key)
        if course is None:
            if len(self._courses) > QUOTES_KEPT:
                self._courses.clear()
            value = self.implied_volatility if kind == "volatility" else self._raw(contract)
            course = self._courses[key] = Course(partial(value, contract))
        return course

    def _raw(self, contract: Contract) -> Callable[[Contract, float], float]:
        """How a contract's value comes about, before its course bounds it."""
        if contract.sec_type in OPTIONS:
            return lambda option, at: self._model(option, at).price
        return self._future if contract.sec_type in FUTURES else self._listed

    def _listed(self, contract: Contract, at: float) -> float:
        instrument = self.catalog.instruments[contract.con_id]
        moved = self._path(contract.con_id, "price", instrument.volatility).at(at)
        return instrument.price * math.exp(moved)

    def greeks(self, contract: Contract, at: float) -> options.Greeks:
        """The model's price and greeks of an option."""
        return self._model(contract, at)._replace(price=self.middle(contract, at))

    def _model(self, contract: Contract, at: float) -> options.Greeks:
        spot, years = self._raw_spot(contract, at), self.years(contract, at)
        volatility = self.implied_volatility(contract, at)
        return options.greeks(spot, contract.strike, years, volatility, contract.right)

    def spot(self, contract: Contract, at: float) -> float:
        """The price of what an option is about."""
        underlying = self._underlying(contract)
        return self.middle(underlying, at) if underlying else 0.0

    def _raw_spot(self, contract: Contract, at: float) -> float:
        underlying = self._underlying(contract)
        return self._raw(underlying)(underlying, at) if underlying else 0.0

    def years(self, contract: Contract, at: float) -> float:
        """How long an option still lives, in years."""
        return max(_last_moment(contract.expiry) - at, 0.0) / YEAR

    def implied_volatility(self, contract: Contract, at: float) -> float:
        """The volatility of an option's surface, or an underlying's 30-day one."""
        option = contract.sec_type in OPTIONS
        underlying = self._underlying(contract) if option else contract
        instrument = self.catalog.instruments.get(underlying.con_id if underlying else 0)
        base = instrument.volatility if instrument else self._future_volatility(contract)
        key = underlying.con_id if underlying else contract.con_id
        level = base * math.exp(self._path(key, "volatility", 0.8).at(at) * 0.5)
        if not option:
            return max(level, 0.01)
        years = max(self.years(contract, at), 1 / 365)
        distance = math.log(contract.strike / self._raw_spot(contract, at)) / math.sqrt(years)
        smile = max(min(-0.10 * distance + 0.09 * distance * distance, 1.5), -0.3)
        return max(level * (1 + smile), 0.03)

    def _future_volatility(self, option: Contract) -> float:
        root = self.catalog.roots.get(option.symbol)
        under = self.catalog.index_of(root) if root else None
        return (
            self.catalog.instruments[under.con_id].volatility
            if under
            else (root.volatility if root else 0.2)
        )

    def historical_volatility(self, contract: Contract, at: float) -> float:
        """The deviation of daily returns over 30 days, per year; the same all day."""
        day = calendar.day_of(at)
        known = self._deviations.get((contract.con_id, day))
        if known is None:
            begin = calendar.stamp(day, 0)
            closes = [self.middle(contract, begin - 86_400.0 * back) for back in range(31)]
            moves = [math.log(one / two) for one, two in itertools.pairwise(closes)]
            mean = sum(moves) / len(moves)
            known = math.sqrt(sum((move - mean) ** 2 for move in moves) / len(moves) * 365)
            if len(self._deviations) > DAYS_KEPT:
                self._deviations.clear()
            self._deviations[contract.con_id, day] = known
        return known

    def rate(self, currency: str, at: float) -> float:
        """What one unit of a currency is worth in USD."""
        if currency == "USD":
            return 1.0
        for instrument in self.catalog.instruments.values():
            pair = instrument.contract
            if pair.sec_type != "CASH":
                continue
            if (pair.symbol, pair.currency) == (currency, "USD"):
                return self.quote(pair, at).middle
            if (pair.symbol, pair.currency) == ("USD", currency):
                return 1 / self.quote(pair, at).middle
        return 1.0

    def day(self, contract: Contract, at: float) -> Day:
        """The day so far: high and low grow with the clock."""
        moment = self.moment(contract, at)
        start, previous = self._day_bounds(contract, moment)
        key = (contract.con_id, start)
        known = self._days.get(key)
        if known is None or known[0] > moment:
            first, close = self.middle(contract, start), self.middle(contract, previous)
            known = (start, -math.inf, math.inf, first, close)
        seen, high, low, first, close = known
        end = max(moment, start) + STEP
        if seen < end:
            stretch = self.course(contract).over(seen, end)
            high, low = max(high, stretch.high), min(low, stretch.low)
        if len(self._days) > DAYS_KEPT:
            self._days.clear()
        self._days[key] = (end, high, low, first, close)
        first, high, low, close = (
            self.rounded(contract, value) for value in (first, high, low, close)
        )
        return Day(first, high, low, close, self.volume(contract, start, end))

    def volume(self, contract: Contract, start: float, end: float, lot: int = 1) -> float:
        """What is traded between two moments, in whole lots; parts add up to the whole."""
        if family(contract.sec_type) not in VOLUMES:
            return 0.0
        day, last = calendar.day_of(start), calendar.day_of(end)
        total = int(self._traded(contract, end, last)) // lot
        total -= int(self._traded(contract, start, day)) // lot
        while day < last:
            total += int(self._day_volume(contract, day)) // lot
            day += calendar.DAY
        return float(max(total, 0))

    def trades(self, contract: Contract, start: float, end: float) -> int:
        """How often it is traded between two moments."""
        return int(self.volume(contract, start, end, TRADE))

    def rounded(self, contract: Contract, value: float) -> float:
        """A price on the contract's grid, one step at least: nothing is traded for nothing."""
        return max(details.nearest(contract, value), contract.min_tick)

    def around(self, contract: Contract, middle: float) -> tuple[float, float]:
        """Bid and ask around a middle price, both on the grid; they move with it."""
        away = max(self._half_spread(contract, middle) - contract.min_tick / 2, 0.0)
        low, high = (
            details.step_at(contract, middle - away),
            details.step_at(contract, middle + away),
        )
        bid = round(math.floor((middle - away) / low) * low, 8)
        ask = round(max(math.ceil((middle + away) / high) * high, bid + low), 8)
        return max(bid, 0.0), ask

    # hours

    def phase(self, contract: Contract, at: float) -> Phase:
        """Closed, extended or regular hours."""
        kind = calendar.hours_of(contract.sec_type, contract.exchange)
        if self.hours == ALWAYS or calendar.span_at(kind, at, liquid=True):
            return Phase.REGULAR
        if calendar.span_at(kind, at, liquid=False):
            return Phase.REGULAR if kind in WHOLE_DAY else Phase.EXTENDED
        return Phase.CLOSED

    def next_open(self, contract: Contract, at: float) -> float:
        """When regular hours begin next, after `at`."""
        return calendar.next_span(
            calendar.hours_of(contract.sec_type, contract.exchange), at, liquid=True
        ).start

    def next_close(self, contract: Contract, at: float) -> float:
        """When the regular hours that hold `at`, or else the next ones, end."""
        kind = calendar.hours_of(contract.sec_type, contract.exchange)
        return (
            calendar.span_at(kind, at, liquid=True) or calendar.next_span(kind, at, liquid=True)
        ).end

    def day_end(self, contract: Contract, at: float, *, outside: bool) -> float:
        """When a DAY order placed at that moment expires; `outside`: with extended hours."""
        kind = calendar.hours_of(contract.sec_type, contract.exchange)
        liquid = not (outside or kind in WHOLE_DAY)
        span = calendar.span_at(kind, at, liquid=liquid)
        return (span or calendar.next_span(kind, at, liquid=liquid)).end

    def midnight(self, at: float) -> float:
        """When the broker's day that holds `at` began, in New York."""
        return calendar.stamp(calendar.day_of(at), 0)

    # insides

    def _underlying(self, contract: Contract) -> Contract | None:
        return self.catalog.by_id(getattr(contract, "under_id", 0))

    def _path(self, con_id: int, kind: str, volatility: float) -> Path:
        key = (con_id, kind)
        path = self._paths.get(key)
        if path is None:
            salt = sum(ord(letter) * 31**place for place, letter in enumerate(kind))
            path = self._paths[key] = Path(mixed(self._seed, con_id * 8191 + salt), volatility)
        return path

    def _future(self, contract: Contract, at: float) -> float:
        root = self.catalog.roots[contract.symbol]
        carry = math.exp(root.carry * self.years(contract, at))
        underlying = self._underlying(contract)
        if underlying:
            return self._listed(underlying, at) * carry
        return (
            root.price * math.exp(self._path(root.number, "root", root.volatility).at(at)) * carry
        )

    def _quote(self, contract: Contract, moment: float) -> Quote:
        middle = self.middle(contract, moment)
        tick = contract.min_tick
        draw = mixed(self._seed ^ contract.con_id, int(moment / STEP))
        if contract.sec_type == "IND":
            value = self.rounded(contract, middle)
            return Quote(value, value, value, 0.0, 0.0)
        bid, ask = self.around(contract, middle)
        last = self.rounded(contract, middle)
        lot = {"STK": 100, "CASH": 500_000}.get(contract.sec_type, 1)
        sizes = [float(lot * (1 + (draw >> shift) % 20)) for shift in (8, 16)]
        return Quote(bid, ask, max(last, tick), *sizes)

    def _half_spread(self, contract: Contract, middle: float) -> float:
        share = {"STK": 0.00004, "FUT": 0.00002, "CASH": 0.00003, "OPT": 0.008, "BOND": 0.0005}
        return middle * share.get(family(contract.sec_type), 0.0)

    def _day_bounds(self, contract: Contract, at: float) -> tuple[float, float]:
        """When the day of a moment began, and the last close before it."""
        kind = contract.sec_type
        span = calendar.span_at(kind, at, liquid=True) or calendar.last_span(kind, at, liquid=True)
        return span.start, calendar.last_span(kind, span.start, liquid=True).end - STEP

    def _day_volume(self, contract: Contract, day: date) -> float:
        if not calendar.trading(contract.sec_type, day):
            return 0.0
        usual = VOLUMES[family(contract.sec_type)]
        if contract.sec_type == "STK":
            usual /= self.catalog.instruments[contract.con_id].price
        return usual * (0.6 + 0.8 * uniform(self._seed ^ contract.con_id, day.toordinal()))

    def _traded(self, contract: Contract, at: float, day: date) -> float:
        """The volume since the calendar day began; busy at open and close."""
        whole = self._day_volume(contract, day)
        span = calendar.regular(contract.sec_type, day)
        if not whole or not span:
            return 0.0
        part = min(max((at - span.start) / (span.end - span.start), 0.0), 1.0)
        busy = part + 0.13 * math.sin(2 * math.pi * part)
        early = min(max((at - span.start + 19_800) / 19_800, 0.0), 1.0)
        late = min(max((at - span.end) / 14_400, 0.0), 1.0)
        return whole * (0.94 * busy + 0.03 * early + 0.03 * late)


def combined_quote(market: Market, contract: Contract, at: float) -> Quote:
    """A combination's prices, those of its legs together, which may be negative."""
    legs = legs_of(contract)
    quotes = [market.quote(leg.contract, at) for leg in legs]
    bid = ask = last = 0.0
    for leg, quote in zip(legs, quotes, strict=True):
        low, high = (quote.bid, quote.ask) if leg.sign > 0 else (-quote.ask, -quote.bid)
        bid, ask = bid + low * weight(leg, contract), ask + high * weight(leg, contract)
        last += leg.sign * quote.last * weight(leg, contract)
    sizes = zip(legs, quotes, strict=True)
    size = min(min(each.bid_size, each.ask_size) // leg.ratio for leg, each in sizes)
    return Quote(round(bid, 6), round(ask, 6), round(last, 6), max(size, 1.0), max(size, 1.0))


def weight(leg: Leg, contract: Contract) -> float:
    """How often a leg's price counts in the combination's: its ratio, in units of the whole."""
    return leg.ratio * float(leg.contract.multiplier or 1) / float(contract.multiplier or 1)
