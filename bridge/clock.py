"""Time as something that is handed in, so that tests can wind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import structlog

log = structlog.get_logger(__name__)


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
    """The machine's own clock and its loop's sleep."""

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
        await asyncio.sleep(seconds)


T = TypeVar("T")


def passed(since: datetime, now: datetime, seconds: float) -> bool:
    """Whether so many seconds of the wall clock lie between two moments.

    A clock that was set back says nothing about how long it was: then they have passed, because
    whoever waits would else wait for as long as the clock was wrong.
    """
    between = (now - since).total_seconds()
    return between < 0 or between >= seconds


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


@contextmanager
def going_on(look: str) -> Iterator[None]:
    """What one look of many breaks on is logged, and the next one is taken all the same."""
    try:
        yield
    except Exception:
        log.exception("look-failed", look=look)


async def repeat(
    clock: Clock, seconds: float, look: str, work: Callable[[], object], *, at_once: bool = False
) -> None:
    """Calls `work` every so many seconds, until it is cancelled. A call that fails ends nothing.

    `look` is its name in the log.
    """
    if not at_once:
        await clock.sleep(seconds)
    while True:
        with going_on(look):
            work()
        await clock.sleep(seconds)


CANCEL_AGAIN_SECONDS = 3.0


async def settle(*tasks: asyncio.Task[object] | None) -> None:
    """Cancels tasks and waits until they have ended, whatever they raise.

    One that does not end is cancelled again: a library that loses a cancellation holds nobody up.
    """
    given = [task for task in tasks if task is not None]
    while live := [task for task in given if not task.done()]:
        for task in live:
            task.cancel()
        _, late = await asyncio.wait(live, timeout=CANCEL_AGAIN_SECONDS)
        if late:
            log.warning("task-not-ended", tasks=sorted(task.get_name() for task in late))
    for task in given:
        if not task.cancelled():
            task.exception()  # retrieved, so that nothing is said of it later
