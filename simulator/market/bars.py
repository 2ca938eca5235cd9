"""History: bars and ticks of any stretch of time, read off the same path as live prices."""

from __future__ import annotations

import math
from collections import deque
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from simulator.market import calendar
from simulator.market.calendar import Span
from simulator.market.market import ALWAYS, STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market

FIRST_DAY = date(2004, 1, 23)
"""Since when there is history."""
LOOKS = 8
"""How often the path is read within a bar."""
DAILY = 86_400.0
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
    """What whatToShow asks for: how a price comes about, and whether there are volumes."""

    value: Callable[[Market, Contract, float], float]
    volumes: bool = False
    rounded: bool = True


def _last(market: Market, contract: Contract, at: float) -> float:
    return market.middle(contract, at)


def _bid(market: Market, contract: Contract, at: float) -> float:
    return market.price_quote(contract, at).bid


def _ask(market: Market, contract: Contract, at: float) -> float:
    return market.price_quote(contract, at).ask


def _implied(market: Market, contract: Contract, at: float) -> float:
    return market.implied_volatility(contract, at)


def _historical(market: Market, contract: Contract, at: float) -> float:
    return market.historical_volatility(contract, at)


KINDS = {
    "TRADES": Kind(_last, volumes=True),
    "ADJUSTED_LAST": Kind(_last, volumes=True),
    "AGGTRADES": Kind(_last, volumes=True),
    "MIDPOINT": Kind(_last, rounded=False),
    "BID": Kind(_bid),
    "ASK": Kind(_ask),
    "BID_ASK": Kind(_bid),
    "OPTION_IMPLIED_VOLATILITY": Kind(_implied, rounded=False),
    "HISTORICAL_VOLATILITY": Kind(_historical, rounded=False),
    "FEE_RATE": Kind(lambda _market, _contract, _at: 0.25, rounded=False),
}


def bars(
    market: Market, contract: Contract, kind: str, size: float, stretch: Span, *, liquid: bool
) -> Iterator[Bar]:
    """The bars that begin within a stretch, oldest first, the last perhaps unfinished."""
    for part in grid(market, contract, size, stretch, liquid=liquid):
        yield _bar(market, contract, KINDS[kind], kind, *part)


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
        yield _bar(market, contract, KINDS[kind], kind, *part)


def grid(
    market: Market, contract: Contract, size: float, stretch: Span, *, liquid: bool
) -> Iterator[tuple[Span, date | None]]:
    """The bounds of the bars of a stretch, and the day of daily and longer ones."""
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
            yield Span(start, min(end, stretch.end)), None
            start = end


def _with_gap(spans: list[Span], stretch: Span) -> list[Span]:
    """A market that never closes trades on after its last session, up to the end."""
    last = spans[-1].end if spans else math.floor(stretch.start / 3600) * 3600.0
    return [*spans, Span(last, stretch.end)] if last < stretch.end else spans


def _days(spans: list[Span], size: float, end: float) -> Iterator[tuple[Span, date | None]]:
    group: list[Span] = []
    for span in spans:
        if group and _period(span, size) != _period(group[0], size):
            yield Span(group[0].start, group[-1].end), calendar.day_of(group[-1].end - STEP)
            group = []
        group.append(span)
    if group:
        day = calendar.day_of(group[-1].end - STEP)
        yield Span(group[0].start, min(group[-1].end, end)), day


def _period(span: Span, size: float) -> object:
    day = calendar.day_of(span.end - STEP)
    if size > 7 * DAILY:
        return day.year, day.month
    return day.isocalendar()[:2] if size > DAILY else day


def _bar(
    market: Market, contract: Contract, kind: Kind, name: str, span: Span, day: date | None
) -> Bar:
    if day is not None and kind.volumes:
        return _day_bar(market, contract, span, day)
    last = max(span.end - STEP, span.start)
    count = max(min(LOOKS, int((last - span.start) / STEP)), 1)
    width = (last - span.start) / count
    moments = [span.start + width * step for step in range(count + 1)]
    looks = [kind.value(market, contract, moment) for moment in moments]
    looks = [market.rounded(contract, each) if kind.rounded else round(each, 6) for each in looks]
    if name == "BID_ASK":
        return _bid_ask(looks, [_ask(market, contract, each) for each in moments], span, day)
    prices = (looks[0], max(looks), min(looks), looks[-1])
    if not kind.volumes:
        return Bar(*span, *prices, -1.0, -1.0, -1, day)
    volume = market.volume(contract, span.start, span.end)
    average = round(sum(looks) / len(looks), 6)
    return Bar(*span, *prices, volume, average, math.ceil(volume / 90), day)


def _day_bar(market: Market, contract: Contract, span: Span, day: date) -> Bar:
    """A bar of one or more days, from the same figures as the live ticks of a day."""
    days = [market.day(contract, end) for end in _closes(contract, span)]
    volume = sum(each.volume for each in days)
    high, low = max(each.high for each in days), min(each.low for each in days)
    close = market.rounded(contract, market.middle(contract, span.end - STEP))
    average = round((days[0].open + high + low + close) / 4, 6)
    trades = math.ceil(volume / 90)
    return Bar(*span, days[0].open, high, low, close, volume, average, trades, day)


def _closes(contract: Contract, span: Span) -> list[float]:
    """The last moment of each day of a bar."""
    spans = calendar.spans_between(contract.sec_type, *span, liquid=True)
    return [min(each.end, span.end) - STEP for each in spans] or [span.end - STEP]


def _bid_ask(bids: list[float], asks: list[float], span: Span, day: date | None) -> Bar:
    """Open and close are the averages of bid and ask, high and low their extremes."""
    first, close = (round(sum(each) / len(each), 6) for each in (bids, asks))
    return Bar(*span, first, max(asks), min(bids), close, -1.0, -1.0, -1, day)
