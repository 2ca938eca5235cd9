"""Time as something that is handed in, so that tests can wind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Handle(Protocol):
    """Something that will happen, and may be called off."""

    def cancel(self) -> None:
        """Calls it off; harmless when it has happened."""


class Clock(Protocol):
    """The wall clock, a monotonic one, and waiting."""

    def now(self) -> datetime:
        """The time of day, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Waits on the monotonic clock."""


class TimerClock(Clock, Protocol):
    """A clock that also calls back, which costs no task for each deadline."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Handle:
        """Calls a plain function on the event loop, that many seconds from now."""


class SystemClock:
    """The machine's own."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Handle:
        """Calls a plain function on the running event loop, that many seconds from now."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)
