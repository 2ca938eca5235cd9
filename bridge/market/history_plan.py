"""Cutting a long stretch of history into requests that the broker answers, newest first.

Pure. The first page ends where the caller said (or now); each further page ends at the first bar of
the page after it. So all pages but the newest have fixed ends: asked for again the same day, they
have the same names, and come from the cache.

A count of days means trading days, as it does to the broker; other units are calendar time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from bridge.market.exchange_time import exchange_day, parse_day
from bridge.market.intervals import BarSize, Duration, fits_one_request
from bridge.model import Bar

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
