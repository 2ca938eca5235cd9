"""A clock that stands still until it is wound."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)  # a Monday, the market open


class Timer:
    """Something that is due at a time of the wound clock."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class WoundClock:
    """Monotonic and wall time move together, only by `advance` and `wind`."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._seconds = 1000.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds - 1000.0)

    def monotonic(self) -> float:
        return self._seconds

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._heap, (self._seconds + seconds, next(self._count), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: done.done() or done.set_result(None))  # type: ignore[func-returns-value]
        try:
            await done
        finally:
            timer.cancel()

    @property
    def next_due(self) -> float | None:
        """Seconds until the next timer; None when there is none."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] - self._seconds if self._heap else None

    def advance(self, seconds: float) -> None:
        """Moves on and fires what is due, in order, without giving tasks a turn."""
        target = self._seconds + seconds
        while (due := self.next_due) is not None and self._seconds + due <= target:
            at, _, timer = heapq.heappop(self._heap)
            self._seconds = max(self._seconds, at)
            callback, timer.callback = timer.callback, None
            if callback:
                callback()
        self._seconds = target

    async def wind(self, seconds: float, *, settle: Callable[[], object] | None = None) -> None:
        """Moves on from timer to timer; after each, tasks (and sockets) get their turn."""
        target = self._seconds + seconds
        while self._seconds < target:
            due = self.next_due
            step = target - self._seconds if due is None else min(due, target - self._seconds)
            self.advance(max(step, 0.0))
            for _ in range(12):
                await asyncio.sleep(0)
            if settle:
                await settle()  # type: ignore[misc]
