"""Cutting a long stretch of history into requests that the broker answers, newest first.

Pure. The first page ends where the caller said (or now); each further page ends at the first bar of
the page after it. So all pages but the newest have fixed ends: asked for again the same day, they
have the same names, and come from the cache.

A count of days means trading days, as it does to the broker; other units are calendar time. A
duration is `<count> S|D|W|M|Y`. The longest that one request may ask for depends on the bar size;
the table is the broker's "step sizes" page, taken at its careful end. Shorthands (`5m`, `1h`, `1d`,
`30s`; `10d`, `1y`) are understood, and every spelling of one bar size leads to the same cache
entry.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from bridge.broker_time import exchange_day, parse_day
from bridge.market.errors import InvalidFieldError
from bridge.model import Bar

Unit = Literal["S", "D", "W", "M", "Y"]


class Duration(Struct, frozen=True):
    """A count of a unit; `text` is what the gateway reads."""

    count: int
    unit: Unit

    @property
    def text(self) -> str:
        """As in a request."""
        return f"{self.count} {self.unit}"

    @property
    def span(self) -> timedelta:
        """Its length by the calendar; for days a lower bound, as weekends do not count."""
        return _UNIT_SPANS[self.unit] * self.count


class BarSize(Struct, frozen=True):
    """One of the sizes that the broker knows."""

    text: str
    seconds: int
    longest: Duration

    @property
    def daily(self) -> bool:
        """Whether bars are dated by day, not by moment."""
        return self.seconds >= 86_400


_UNIT_SPANS: Final[dict[str, timedelta]] = {
    "S": timedelta(seconds=1),
    "D": timedelta(days=1),
    "W": timedelta(weeks=1),
    "M": timedelta(days=31),
    "Y": timedelta(days=366),
}
_LIMITS: Final[dict[str, int]] = {"S": 86_400, "D": 365, "W": 520, "M": 120, "Y": 30}


def _size(text: str, seconds: int, count: int, unit: Unit) -> BarSize:
    return BarSize(text, seconds, Duration(count, unit))


BAR_SIZES: Final[dict[str, BarSize]] = {
    size.text: size
    for size in (
        _size("1 secs", 1, 1800, "S"),
        _size("5 secs", 5, 3600, "S"),
        _size("10 secs", 10, 14_400, "S"),
        _size("15 secs", 15, 14_400, "S"),
        _size("30 secs", 30, 28_800, "S"),
        _size("1 min", 60, 1, "D"),
        _size("2 mins", 120, 2, "D"),
        _size("3 mins", 180, 1, "W"),
        _size("5 mins", 300, 1, "W"),
        _size("10 mins", 600, 1, "W"),
        _size("15 mins", 900, 1, "W"),
        _size("20 mins", 1200, 1, "W"),
        _size("30 mins", 1800, 1, "M"),
        _size("1 hour", 3600, 1, "M"),
        _size("2 hours", 7200, 1, "M"),
        _size("3 hours", 10_800, 1, "M"),
        _size("4 hours", 14_400, 1, "M"),
        _size("8 hours", 28_800, 1, "M"),
        _size("1 day", 86_400, 1, "Y"),
        _size("1 week", 604_800, 1, "Y"),
        _size("1 month", 2_678_400, 1, "Y"),
    )
}

_BAR_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
    **dict.fromkeys(("mo", "month", "months"), 2_678_400),
}
_BY_SECONDS: Final = {size.seconds: size for size in BAR_SIZES.values()}
_DURATION_UNITS: Final[dict[str, Unit]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "S"),
    **dict.fromkeys(("d", "day", "days"), "D"),
    **dict.fromkeys(("w", "week", "weeks"), "W"),
    **dict.fromkeys(("m", "mo", "month", "months"), "M"),
    **dict.fromkeys(("y", "year", "years"), "Y"),
}
_COUNTED: Final = re.compile(r"([0-9]{1,6})\s*([a-zA-Z]{1,8})")


def _counted(text: str) -> tuple[int, str] | None:
    match = _COUNTED.fullmatch(text.strip())
    return (int(match[1]), match[2].lower()) if match else None


def parse_bar_size(text: str) -> BarSize:
    """The bar size that `text` means.

    Raises:
        InvalidFieldError: when the broker has no such size.
    """
    counted = _counted(text)
    if counted and counted[1] in _BAR_UNITS:
        size = _BY_SECONDS.get(counted[0] * _BAR_UNITS[counted[1]])
        if size:
            return size
    raise InvalidFieldError("barSize", f"{text!r} is none of: {', '.join(BAR_SIZES)}")


def parse_duration(text: str) -> Duration:
    """The duration that `text` means.

    Raises:
        InvalidFieldError: when it is not a count and a unit, or is out of bounds.
    """
    counted = _counted(text)
    if not counted or counted[1] not in _DURATION_UNITS:
        raise InvalidFieldError(
            "duration", f"{text!r} is not a count and a unit of S, D, W, M or Y, such as '5 D'"
        )
    count, unit = counted[0], _DURATION_UNITS[counted[1]]
    if not 1 <= count <= _LIMITS[unit]:
        raise InvalidFieldError(
            "duration", f"a count of {unit} lies between 1 and {_LIMITS[unit]}, not {count}"
        )
    return Duration(count, unit)


def fits_one_request(duration: Duration, size: BarSize) -> bool:
    """Whether the broker answers this in one request: five trading days fill a calendar week."""
    span = duration.span
    if duration.unit == "D" and size.longest.unit in {"W", "M", "Y"}:
        span = span * 7 / 5
    return span <= size.longest.span


LONGEST_GAP = timedelta(days=4)
"""Pages without bars may be a night, a long weekend or a halt; beyond this there is no more."""


class HistoryPlan:
    """The pages of one request: ask `next_page`, fetch it, tell `took`."""

    def __init__(
        self,
        duration: Duration,
        size: BarSize,
        end: datetime | None,
        now: datetime,
        zone: ZoneInfo,
        *,
        whole: bool = False,
    ) -> None:
        """`whole`: it has to be one request, however long."""
        self.duration = duration
        self.size = size
        self.zone = zone
        self.single = whole or fits_one_request(duration, size)
        self._end = end
        self._earliest_wanted = (end or now) - duration.span
        self._whole_days = duration.unit == "D" and size.longest.unit == "D"
        self._days_left = duration.count
        self._done = False
        self._empty = 0
        self._gap = timedelta()
        self._days: set[date] = set()
        self._pages: list[tuple[Bar, ...]] = []

    def next_page(self) -> tuple[datetime | None, str] | None:
        """End (None: now) and duration of the next request; None when everything is there."""
        if self._done:
            return None
        return self._end, self._page().text

    def _page(self) -> Duration:
        if self.single:
            return self.duration
        if self._whole_days:
            return Duration(min(self._days_left, self.size.longest.count), "D")
        return self.size.longest

    def took(self, bars: tuple[Bar, ...], end: datetime | None, now: datetime) -> None:
        """The page that ended at `end` had these bars, oldest first."""
        if self.single:
            self._pages.append(bars)
            self._done = True
        elif bars:
            self._took_bars(bars, end)
        else:
            self._took_nothing(end or now)
        self._done = self._done or self._reached()

    def _took_bars(self, bars: tuple[Bar, ...], end: datetime | None) -> None:
        self._empty = 0
        self._gap = timedelta()
        self._pages.append(bars)
        self._days_left -= self.size.longest.count
        self._days.update(self.day_of(bar) for bar in bars)
        earliest = self.start_of(bars[0])
        # A page that does not reach further back would be asked for for ever.
        self._done = end is not None and earliest >= end
        self._end = earliest

    def _took_nothing(self, end: datetime) -> None:
        span = self.size.longest.span
        self._empty += 1
        self._gap += span
        self._end = end - span
        all_days = self.duration.unit == "D" and len(self._days) >= self.duration.count
        self._done = all_days or (self._empty > 1 and self._gap > LONGEST_GAP)

    def bars(self) -> tuple[Bar, ...]:
        """Everything taken, oldest first, each bar once, nothing before what was asked for."""
        ordered: dict[datetime, Bar] = {}
        for page in reversed(self._pages):
            for bar in page:
                ordered[bar.time] = bar
        bars = tuple(ordered[moment] for moment in sorted(ordered))
        return bars if self.single or self._whole_days else self._trimmed(bars)

    def day_of(self, bar: Bar) -> date:
        """The exchange's day of a bar."""
        return parse_day(bar.date) if bar.date else exchange_day(self.zone, bar.time)

    def start_of(self, bar: Bar) -> datetime:
        """When a bar starts: for daily bars midnight at the exchange."""
        if bar.date:
            midnight = datetime.combine(parse_day(bar.date), time(), self.zone)
            return midnight.astimezone(UTC)
        return bar.time

    def _reached(self) -> bool:
        if self._whole_days:
            return self._days_left <= 0
        if self.duration.unit == "D":
            # The oldest day may be cut by the page's start: one more must have been seen.
            return len(self._days) > self.duration.count
        return self._end is not None and self._end <= self._earliest_wanted

    def _trimmed(self, bars: tuple[Bar, ...]) -> tuple[Bar, ...]:
        if self.duration.unit == "D":
            days = sorted({self.day_of(bar) for bar in bars})[-self.duration.count :]
            return tuple(bar for bar in bars if days and self.day_of(bar) >= days[0])
        return tuple(bar for bar in bars if self.start_of(bar) >= self._earliest_wanted)


def pages_needed(duration: Duration, size: BarSize) -> int:
    """About how many requests this takes, for saying no before the first one."""
    if fits_one_request(duration, size):
        return 1
    calendar = duration.span * 7 / 5 if duration.unit == "D" else duration.span
    page = size.longest.span
    if size.longest.unit == "D":
        # Such pages are trading days: weekends cost nothing.
        calendar = calendar * 5 / 7
    return -(-int(calendar / timedelta(seconds=1)) // int(page / timedelta(seconds=1)))
