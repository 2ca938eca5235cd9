"""Trading days and hours: NYSE holidays and half days, futures' and currencies' own weeks.

Times are seconds since the epoch; days are dates in New York. Holidays and half days come from the
`holidays` library by way of a file: the library would take a third of the memory.
`scripts/closed-days` writes the file, and a test holds it to the library.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from simulator.clock import EASTERN

FILE = Path(__file__).with_name("closed_days.csv")
YEARS = range(2004, 2046)


class ClosedDays(NamedTuple):
    """Days without regular hours, and days that end at 13:00."""

    holidays: frozenset[date]
    half: frozenset[date]


def from_library() -> ClosedDays:
    """What the library says about `YEARS`."""
    import holidays

    years = list(YEARS)
    return ClosedDays(
        frozenset(holidays.financial_holidays("NYSE", years=years)),
        frozenset(holidays.financial_holidays("NYSE", years=years, categories=("half_day",))),
    )


def written(days: ClosedDays) -> str:
    """The content of the file."""
    rows = [(day, "closed") for day in days.holidays] + [(day, "half") for day in days.half]
    return "".join(f"{day},{kind}\n" for day, kind in sorted(rows))


@lru_cache(maxsize=1)
def closed_days() -> ClosedDays:
    """What the file says."""
    kinds: dict[str, set[date]] = {"closed": set(), "half": set()}
    for line in FILE.read_text().splitlines():
        day, _, kind = line.partition(",")
        kinds[kind].add(date.fromisoformat(day))
    return ClosedDays(frozenset(kinds["closed"]), frozenset(kinds["half"]))


DAY = timedelta(days=1)
SECURITIES = ("STK", "OPT", "IND")
HOURS = {"CONTFUT": "FUT", "FOP": "FUT", "BAG": "OPT", "BOND": "OPT"}
"""Kinds that keep the hours of another kind."""


OVERNIGHT = "OVERNIGHT"
"""The venue where US stocks trade in the night before a trading day; its hours are its own."""


class Span(NamedTuple):
    """A stretch of trading, from `start` up to `end`."""

    start: float
    end: float


def is_trading_day(day: date) -> bool:
    """Whether US exchanges have regular hours on that day."""
    return day.weekday() < 5 and day not in closed_days().holidays


def next_trading_day(day: date) -> date:
    """The first trading day after `day`."""
    day += DAY
    while not is_trading_day(day):
        day += DAY
    return day


def previous_trading_day(day: date) -> date:
    """The last trading day before `day`."""
    day -= DAY
    while not is_trading_day(day):
        day -= DAY
    return day


def stamp(day: date, hour: int, minute: int = 0) -> float:
    """A wall-clock time in New York, daylight saving considered."""
    return datetime.combine(day, time(hour, minute), EASTERN).timestamp()


def day_of(at: float) -> date:
    """The date in New York at that moment."""
    return datetime.fromtimestamp(at, EASTERN).date()


def hours_of(sec_type: str, exchange: str) -> str:
    """What hours go by: the kind of a contract, or a venue that has its own."""
    return OVERNIGHT if exchange == OVERNIGHT else sec_type


@lru_cache(maxsize=2048)
def regular(sec_type: str, day: date) -> Span | None:
    """The regular (liquid) hours that begin on that day."""
    sec_type = HOURS.get(sec_type, sec_type)
    if sec_type == "CASH":
        return trading(sec_type, day)
    if not is_trading_day(day):
        return None
    if sec_type == OVERNIGHT:
        return Span(stamp(day - DAY, 20), stamp(day, 3, 50))
    close = (13, 0) if day in closed_days().half else (16, 0)
    return Span(stamp(day, 9, 30), stamp(day, *close))


@lru_cache(maxsize=2048)
def trading(sec_type: str, day: date) -> Span | None:
    """All hours, with the extended ones, of the session named after that day.

    Sessions of futures (18:00 to 17:00) and currencies (17:15 to 17:00) begin the evening before.
    """
    sec_type = HOURS.get(sec_type, sec_type)
    if sec_type == "STK":
        if not is_trading_day(day):
            return None
        short = day in closed_days().half
        return Span(stamp(day, 4), stamp(day, 17 if short else 20))
    if sec_type in SECURITIES or sec_type == OVERNIGHT:
        return regular(sec_type, day)
    christmas = (day.month, day.day) in ((12, 25), (1, 1))
    if day.weekday() > 4 or christmas:
        return None
    start = stamp(day - DAY, 18) if sec_type == "FUT" else stamp(day - DAY, 17, 15)
    return Span(start, stamp(day, 17))


def span_at(sec_type: str, at: float, *, liquid: bool) -> Span | None:
    """The hours that hold a moment, if any do."""
    hours = regular if liquid else trading
    day = day_of(at)
    for each in (day, day + DAY):
        span = hours(sec_type, each)
        if span and span.start <= at < span.end:
            return span
    return None


def next_span(sec_type: str, at: float, *, liquid: bool) -> Span:
    """The first hours that begin after a moment."""
    hours = regular if liquid else trading
    day = day_of(at)
    while True:
        span = hours(sec_type, day)
        if span and span.start > at:
            return span
        day += DAY


def last_span(sec_type: str, at: float, *, liquid: bool) -> Span:
    """The last hours that ended at or before a moment."""
    hours = regular if liquid else trading
    day = day_of(at) + DAY
    while True:
        span = hours(sec_type, day)
        if span and span.end <= at:
            return span
        day -= DAY


def spans_between(sec_type: str, start: float, end: float, *, liquid: bool) -> list[Span]:
    """All hours that touch a stretch of time, in order."""
    hours = regular if liquid else trading
    found = []
    day, last = day_of(start), day_of(end) + DAY
    while day <= last:
        span = hours(sec_type, day)
        if span and span.start < end and span.end > start:
            found.append(span)
        day += DAY
    return found
