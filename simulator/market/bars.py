"""History: bars and ticks of any stretch of time, read off the same path as live prices."""

from __future__ import annotations

import math
from collections import deque
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from simulator.market import calendar
from simulator.market.calendar import Span
from simulator.market.market import ALWAYS
from simulator.market.noise import STEP, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market

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
