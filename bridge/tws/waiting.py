"""Bounded waiting on an injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from bridge.clock import TimerClock

T = TypeVar("T")


async def within(clock: TimerClock, seconds: float, awaitable: Awaitable[T]) -> T:
    """The result, or ``TimeoutError`` after so many seconds of the clock.

    The awaitable is cancelled then.
    """
    task = asyncio.ensure_future(awaitable)
    expired = False

    def expire() -> None:
        nonlocal expired
        if not task.done():
            expired = True
            task.cancel()

    handle = clock.call_later(seconds, expire)
    try:
        return await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if expired and not (current and current.cancelling()):
            raise TimeoutError from None
        raise
    finally:
        handle.cancel()


async def settle(*tasks: asyncio.Task[object] | None) -> None:
    """Cancels tasks and waits until they have ended, whatever they raise."""
    live = [task for task in tasks if task is not None and not task.done()]
    for task in live:
        task.cancel()
    await asyncio.gather(*live, return_exceptions=True)
