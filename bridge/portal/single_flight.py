"""However many ask for a piece of work at once, it runs once and all get its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """One piece of work that is never done twice at the same time."""

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None

    @property
    def running(self) -> bool:
        """Whether the work is being done now."""
        return self._task is not None and not self._task.done()

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Starts the work, or joins the one that runs; a caller that gives up stops nobody."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(work())
            # A failure that nobody waits for any more was recorded where it happened.
            self._task.add_done_callback(_retrieve)
        return await asyncio.shield(self._task)

    async def cancel(self) -> None:
        """Ends the work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
