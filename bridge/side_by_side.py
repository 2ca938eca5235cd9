"""What waits for the broker's answers, a few at a time: the last one does not wait for all others.

An answer may take as long as an order waits for one, and a fall of the market sets off many orders
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

AT_ONCE: Final = 4
"""Each may need the sender's turn, for which nobody waits long."""

T = TypeVar("T")


async def side_by_side(
    works: Iterable[Callable[[], Awaitable[T]]], at_once: int = AT_ONCE
) -> list[T]:
    """Does all of it, so many `at_once`, and gives what came of each, in their order.

    Whatever one of them raises, the others are done; then the first that was raised is.
    """
    places = asyncio.Semaphore(at_once)

    async def done(work: Callable[[], Awaitable[T]]) -> T:
        async with places:
            return await work()

    found = await asyncio.gather(*(done(work) for work in works), return_exceptions=True)
    results: list[T] = []
    for each in found:
        if isinstance(each, BaseException):
            raise each
        results.append(each)
    return results
