"""History: bars and ticks of any stretch of time, and how requests write sizes and durations.

They are read off the same path as live prices.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from simulator.clock import EASTERN
from simulator.market import calendar
from simulator.market.calendar import Span
from simulator.market.market import ALWAYS
from simulator.market.noise import STEP, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market

SIZES: dict[str, float] = {
    "1 secs": 1, "5 secs": 5, "10 secs": 10, "15 secs": 15, "30 secs": 30,
    "1 min": 60, "2 mins": 120, "3 mins": 180, "5 mins": 300, "10 mins": 600, "15 mins": 900,
    "20 mins": 1200, "30 mins": 1800, "1 hour": 3600, "2 hours": 7200, "3 hours": 10800,
    "4 hours": 14400, "8 hours": 28800, "1 day": 86400, "1W": 604800, "1M": 2592000,
}  # fmt: skip
"""Bar size as a client writes it -> seconds."""
ALIASES = {"1 sec": "1 secs", "1 week": "1W", "1 month": "1M", "1 hours": "1 hour"}


def bar_size(text: str) -> tuple[str, float] | None:
    """A bar size and its seconds; None when it is not one."""
    name = " ".join(text.strip().lower().split())
    name = ALIASES.get(name, name)
    name = {"1w": "1W", "1m": "1M"}.get(name, name)
    return (name, SIZES[name]) if name in SIZES else None


def parse_end(text: str, now: float) -> float | None:
    """The end of a request in the forms that clients use; None when it is in none of them.

    `20261120 15:59:00`, the same with two blanks or a time zone behind, `20261120-20:59:00` (UTC),
    or just the day; empty is now.
    """
    text = " ".join(text.split())
    if not text:
        return now
    zone: object = EASTERN
    if len(text) > 8 and text[8] == "-":
        text, zone = text.replace("-", " ", 1), "UTC"
    day, _, rest = text.partition(" ")
    clock, _, name = rest.partition(" ")
    named = {"EST": "America/New_York", "EDT": "America/New_York", "GMT": "UTC"}.get(name, name)
    try:
        where = ZoneInfo(named or "UTC") if named or zone == "UTC" else EASTERN
        shape = {0: "", 5: "%H:%M", 8: "%H:%M:%S"}[len(clock)]
        moment = datetime.strptime(day + clock, "%Y%m%d" + shape)  # noqa: DTZ007
        return moment.replace(tzinfo=where).timestamp()
    except (ValueError, KeyError, OSError):
        return None


def parse_duration(text: str) -> tuple[int, str] | None:
    """`30 S`, `2 D`, `1 W`, `6 M`, `1 Y`: the number and the unit; seconds without one."""
    number, _, unit = text.strip().upper().partition(" ")
    unit = unit.strip()[:1] or "S"
    if not number.isdecimal() or int(number) < 1 or unit not in "SDWMY" or int(number) > 100_000:
        return None
    return int(number), unit


def start_of(
    market: Market, contract: Contract, end: float, count: int, unit: str, *, liquid: bool
) -> float:
    """Where a stretch of `count` units that ends at `end` begins.

    Seconds are wall-clock time, days are trading days, weeks and longer are calendar time.
    """
    day = calendar.day_of(end)
    if unit == "S" and market.hours == ALWAYS and not liquid:
        return end - count
    if unit == "S":
        return _trading_seconds(contract, end, float(count), liquid=liquid)
    if unit == "D":
        return _back_days(contract, end, count, liquid=liquid)
    if unit == "W":
        day -= timedelta(weeks=count)
    else:
        months = day.year * 12 + day.month - 1 - count * (12 if unit == "Y" else 1)
        year, month = divmod(months, 12)
        day = date(max(year, 1990), month + 1, min(day.day, 28))
    moment = datetime.fromtimestamp(end, EASTERN)
    return datetime.combine(day, moment.time(), EASTERN).timestamp()


def _trading_seconds(contract: Contract, end: float, seconds: float, *, liquid: bool) -> float:
    """Walk back over hours of trading; what lies between them does not count."""
    span = calendar.span_at(contract.sec_type, end - STEP, liquid=liquid)
    at = end
    while True:
        span = span or calendar.last_span(contract.sec_type, at, liquid=liquid)
        at = min(at, span.end)
        if at - span.start >= seconds:
            return at - seconds
        seconds -= at - span.start
        at, span = span.start, None


def _back_days(contract: Contract, end: float, count: int, *, liquid: bool) -> float:
    span = calendar.span_at(contract.sec_type, end - STEP, liquid=liquid)
    at = end
    for _ in range(count):
        span = span or calendar.last_span(contract.sec_type, at, liquid=liquid)
        at, span_start = span.start, span.start
        span = None
    return span_start


FIRST_DAY = date(2004, 1, 23)
"""Since when there is history."""
DAILY = 86_400.0
PART = 1800.0
"""Seconds of the parts by whose volumes the average of a longer bar is weighted."""
NEWEST = 20
"""Bars of a subscription that are sent at once when the clock was wound."""


class Bar(NamedTuple):
    """One bar; `start` and `end` are seconds since the epoch, `day` names a daily or longer one."""

    start: float
    end: float
    open: float
    high: float
    low: float
    close: float
    volume: float
    average: float
    trades: int
    day: date | None = None


class Kind(NamedTuple):
    """What whatToShow asks for: how it comes from the value between bid and ask.

    `shown` never falls where that value rises, so that the extremes of the one are the extremes
    of the other; without it the value does not change within a day.
    """

    shown: Callable[[Market, Contract, float], float] | None
    volumes: bool = False
    course: str = "price"


def _last(market: Market, contract: Contract, middle: float) -> float:
    return market.rounded(contract, middle)


def _bid(market: Market, contract: Contract, middle: float) -> float:
    return market.around(contract, middle)[0]


def _ask(market: Market, contract: Contract, middle: float) -> float:
    return market.around(contract, middle)[1]


def _middle(market: Market, contract: Contract, middle: float) -> float:
    return round(sum(market.around(contract, middle)) / 2, 8)


def _plain(market: Market, contract: Contract, value: float) -> float:
    return round(value, 6)


KINDS = {
    "TRADES": Kind(_last, volumes=True),
    "ADJUSTED_LAST": Kind(_last, volumes=True),
    "AGGTRADES": Kind(_last, volumes=True),
    "MIDPOINT": Kind(_middle),
    "BID": Kind(_bid),
    "ASK": Kind(_ask),
    "BID_ASK": Kind(_middle),
    "OPTION_IMPLIED_VOLATILITY": Kind(_plain, course="volatility"),
    "HISTORICAL_VOLATILITY": Kind(None, course="deviation"),
    "FEE_RATE": Kind(None, course="fee"),
}
FEE_RATE = 0.25


def bars(
    market: Market, contract: Contract, kind: str, size: float, stretch: Span, *, liquid: bool
) -> Iterator[Bar]:
    """The bars that begin within a stretch, oldest first, the last perhaps unfinished."""
    for part in grid(market, contract, size, stretch, liquid=liquid):
        yield _bar(market, contract, KINDS[kind], kind, part)


def news(
    market: Market, contract: Contract, kind: str, size: float, stretch: Span, *, liquid: bool
) -> Iterator[Bar]:
    """The bar that was unfinished at the stretch's start, then its newest `NEWEST` bars.

    After a clock that was wound by days, all of them would be too many to send at once.
    """
    parts = grid(market, contract, size, stretch, liquid=liquid)
    first = next(parts, None)
    if market.hours == ALWAYS and not liquid:  # there the newest are simply the last in time
        recent = Span(max(stretch.start, stretch.end - NEWEST * size), stretch.end)
        parts = grid(market, contract, size, recent, liquid=liquid)
    for part in ([first] if first else []) + [one for one in deque(parts, NEWEST) if one != first]:
        yield _bar(market, contract, KINDS[kind], kind, part)


class Place(NamedTuple):
    """Where a bar lies: the hours that it is made of, and the day that names a longer one."""

    spans: list[Span]
    day: date | None = None


def grid(
    market: Market, contract: Contract, size: float, stretch: Span, *, liquid: bool
) -> Iterator[Place]:
    """Where the bars of a stretch lie."""
    first = calendar.stamp(FIRST_DAY, 0)
    stretch = Span(max(stretch.start, first), stretch.end)
    spans = calendar.spans_between(contract.sec_type, *stretch, liquid=liquid)
    if size >= DAILY:
        yield from _days(spans, size, stretch.end)
        return
    if market.hours == ALWAYS and not liquid and stretch.end - stretch.start <= 2 * DAILY:
        spans = _with_gap(spans, stretch)
    for span in spans:
        begin = max(span.start, stretch.start)
        if size > 3600:
            start = span.start + math.floor((begin - span.start) / size) * size
        else:
            start = max(math.floor(begin / size) * size, span.start)
        while start < min(span.end, stretch.end):
            aligned = math.floor(start / size + 1) * size if size <= 3600 else start + size
            end = min(aligned, span.end)
            yield Place([Span(start, min(end, stretch.end))])
            start = end


def _with_gap(spans: list[Span], stretch: Span) -> list[Span]:
    """A market that never closes trades on after its last session, up to the end."""
    last = spans[-1].end if spans else math.floor(stretch.start / 3600) * 3600.0
    return [*spans, Span(last, stretch.end)] if last < stretch.end else spans


def _days(spans: list[Span], size: float, end: float) -> Iterator[Place]:
    group: list[Span] = []
    for span in spans:
        if group and _period(span, size) != _period(group[0], size):
            yield Place(group, calendar.day_of(group[-1].end - STEP))
            group = []
        group.append(span)
    if group:
        day = calendar.day_of(group[-1].end - STEP)
        group[-1] = Span(group[-1].start, min(group[-1].end, end))
        yield Place(group, day)


def _period(span: Span, size: float) -> object:
    day = calendar.day_of(span.end - STEP)
    if size > 7 * DAILY:
        return day.year, day.month
    return day.isocalendar()[:2] if size > DAILY else day


def _bar(market: Market, contract: Contract, kind: Kind, name: str, place: Place) -> Bar:
    spans = [_on_steps(each) for each in place.spans]
    whole = Span(place.spans[0].start, place.spans[-1].end)
    first, last = spans[0].start, spans[-1].end - STEP
    if kind.shown is None:
        value = FEE_RATE
        if kind.course == "deviation":
            value = round(market.historical_volatility(contract, last), 6)
        return Bar(*whole, value, value, value, value, -1.0, -1.0, -1, place.day)
    course = market.course(contract, kind.course)
    pieces = list(_pieces(spans)) if kind.volumes else spans
    parts = [course.over(*piece) for piece in pieces]
    low, high = min(each.low for each in parts), max(each.high for each in parts)
    if name == "BID_ASK":
        return _bid_ask(market, contract, parts, whole, place.day)
    opened, top, bottom, close = (
        kind.shown(market, contract, value)
        for value in (course.at(first), high, low, course.at(last))
    )
    if not kind.volumes:
        return Bar(*whole, opened, top, bottom, close, -1.0, -1.0, -1, place.day)
    volume = sum(market.volume(contract, *span) for span in spans)
    trades = sum(market.trades(contract, *span) for span in spans)
    average = round(min(max(_average(market, contract, pieces, parts), bottom), top), 6)
    return Bar(*whole, opened, top, bottom, close, volume, average, trades, place.day)


def _on_steps(span: Span) -> Span:
    """The steps of a stretch: those that begin in it, the one that it begins in at least."""
    begin = math.floor(span.start / STEP) * STEP
    return Span(begin, max(math.ceil(span.end / STEP) * STEP, begin + STEP))


def _pieces(spans: list[Span]) -> Iterator[Span]:
    """Longer hours in parts of half an hour."""
    for span in spans:
        begin = span.start
        while begin < span.end:
            end = min(math.floor(begin / PART + 1) * PART, span.end)
            yield Span(begin, end)
            begin = end


def _average(market: Market, contract: Contract, pieces: list[Span], parts: list[Stretch]) -> float:
    """The average price: over time in a short bar, by the volumes of its parts in a longer one."""
    if len(parts) == 1:
        return parts[0].mean
    weights = [market.volume(contract, *piece) for piece in pieces]
    traded = sum(weights)
    if not traded:
        return sum(each.total for each in parts) / sum(each.seconds for each in parts)
    weighed = zip(weights, parts, strict=True)
    return sum(weight * part.mean for weight, part in weighed if weight) / traded


def _bid_ask(
    market: Market, contract: Contract, parts: list[Stretch], whole: Span, day: date | None
) -> Bar:
    """Open and close are the averages of bid and ask, high and low their extremes."""
    low = market.around(contract, min(each.low for each in parts))[0]
    high = market.around(contract, max(each.high for each in parts))[1]
    mean = sum(each.total for each in parts) / sum(each.seconds for each in parts)
    bid, ask = market.around(contract, mean)
    opened, close = (min(max(each, low), high) for each in (bid, ask))
    return Bar(*whole, opened, high, low, close, -1.0, -1.0, -1, day)
