"""Pages of history that can no longer change, within a bound of memory.

A page is named by everything that decides its bars: contract, bar size, what to show, session,
a fixed end in the past, duration, and the exchange's day on which it was asked for. The last is
there because splits rewrite the past between sessions: a page never outlives the day. Whatever ends
now or lately is not kept here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from msgspec import Struct

from bridge.model import Bar

SETTLED_AFTER = timedelta(minutes=5)
"""Trades are reported and corrected late; what ended longer ago than this is settled."""

_BAR_BYTES = 320
"""A bar held as a struct of floats with its time, measured with tracemalloc and rounded up."""


class PageKey(Struct, frozen=True, kw_only=True):
    """The name of a page."""

    con_id: int
    bar_size: str
    what_to_show: str
    use_rth: bool
    end: datetime
    duration: str
    asked_on: date


def is_settled(end: datetime | None, now: datetime) -> bool:
    """Whether everything before `end` is final."""
    return end is not None and end <= now - SETTLED_AFTER


class HistoryCache:
    """Least recently used pages go first; an entry larger than everything is not kept."""

    def __init__(self, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._most_bars = max_bytes // _BAR_BYTES
        self._pages: OrderedDict[PageKey, tuple[Bar, ...]] = OrderedDict()
        self._bars = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._pages)

    @property
    def bars(self) -> int:
        """How many bars are held; an empty page counts as one."""
        return self._bars

    def get(self, key: PageKey) -> tuple[Bar, ...] | None:
        """The page, or None."""
        page = self._pages.get(key)
        if page is None:
            self.misses += 1
            return None
        self._pages.move_to_end(key)
        self.hits += 1
        return page

    def put(self, key: PageKey, bars: Sequence[Bar]) -> None:
        """Keeps a page, dropping pages of earlier days and then the least recently used."""
        self._forget(key)
        self._drop_earlier_days(key.asked_on)
        size = max(len(bars), 1)
        if size > self._most_bars:
            return
        while self._bars + size > self._most_bars:
            _, page = self._pages.popitem(last=False)
            self._bars -= max(len(page), 1)
        self._pages[key] = tuple(bars)
        self._bars += size

    def _forget(self, key: PageKey) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self._bars -= max(len(page), 1)

    def _drop_earlier_days(self, today: date) -> None:
        for key in [key for key in self._pages if key.asked_on < today - timedelta(days=1)]:
            self._forget(key)
