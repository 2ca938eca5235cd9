"""How clients write bar sizes, durations and ends, and where a stretch of time begins."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from simulator.clock import EASTERN
from simulator.market import calendar
from simulator.market.market import ALWAYS
from simulator.market.noise import STEP

if TYPE_CHECKING:
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
