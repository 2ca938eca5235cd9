"""A clock that tests wind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)


class WoundClock:
    """Both clocks move together, by `wind` only; sleepers wake when their time has come."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._seconds = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds - 1000.0)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self._seconds + seconds, event))
        await event.wait()

    def advance(self, seconds: float) -> None:
        """Moves on without giving anyone a turn."""
        self._seconds += seconds
        due = [item for item in self._sleepers if item[0] <= self._seconds]
        for item in due:
            self._sleepers.remove(item)
            item[1].set()

    async def wind(self, seconds: float) -> None:
        """Moves on, and lets everything that became due run."""
        self.advance(seconds)
        for _ in range(10):
            await asyncio.sleep(0)
