"""Ending tasks, and deadlines that keep a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from bridge import clock
from bridge.clock import settle
from tests.bridge.wound import WoundClock


async def careless(lost: int, begun: list[int]) -> None:
    """Loses so many cancellations, as a library may."""
    for number in range(lost + 1):
        try:
            begun.append(number)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if number == lost:
                raise


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_what_loses_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    monkeypatch.setattr(clock, "CANCEL_AGAIN_SECONDS", 0.01)
    begun: list[int] = []
    task = asyncio.create_task(careless(lost, begun))
    other = asyncio.create_task(asyncio.sleep(1000))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await settle(task, None, other)
    assert (task.cancelled(), other.cancelled()) == (True, True)
    assert begun == list(range(lost + 1))


async def test_what_a_task_raises_at_its_end_is_nobodys() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("at its end")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await settle(task)
    assert isinstance(task.exception(), ValueError)
    await settle(task)
    await settle()


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_fails_once_is_called_again(at_once: bool) -> None:
    wound, calls = WoundClock(), list[float]()

    def work() -> None:
        calls.append(wound.monotonic())
        if len(calls) == 1:
            raise RuntimeError("once")

    begun = wound.monotonic()
    task = asyncio.create_task(clock.repeat(wound, 2.0, "work", work, at_once=at_once))
    await asyncio.sleep(0)
    await wound.wind(5)
    await settle(task)
    assert calls == [begun + after for after in ((0, 2, 4) if at_once else (2, 4))]
