from __future__ import annotations

import asyncio
import time

import pytest

from simulator.clock import Clock


async def test_winding_fires_in_order_each_at_its_own_time() -> None:
    clock = Clock(1000.0)
    fired: list[tuple[str, int]] = []

    def note(name: str) -> None:
        fired.append((name, round(clock.time())))

    clock.later(20, lambda: note("late"))

    def early() -> None:
        note("early")
        clock.later(5, lambda: note("between"))

    clock.later(10, early)
    clock.later(3600, lambda: note("never"))
    clock.advance(60)
    assert fired == [("early", 1010), ("between", 1015), ("late", 1020)]
    assert round(clock.time()) == 1060
    clock.close()


async def test_rounds_missed_while_winding_come_as_one() -> None:
    clock = Clock(0.0)
    rounds: list[float] = []
    timer = clock.every(1.0, lambda: rounds.append(clock.time()))
    clock.advance(3600)
    assert [round(each) for each in rounds] == [3600]
    clock.advance(2)
    assert len(rounds) == 2
    timer.cancel()
    clock.advance(10)
    assert len(rounds) == 2
    clock.close()


async def test_a_cancelled_timer_stays_silent() -> None:
    clock = Clock(0.0)
    fired: list[int] = []
    clock.later(1, lambda: fired.append(1)).cancel()
    clock.advance(5)
    assert fired == []
    clock.close()


async def test_timers_also_fire_as_real_time_passes() -> None:
    clock = Clock(0.0)
    done = asyncio.Event()
    clock.later(0.02, done.set)
    await asyncio.wait_for(done.wait(), 30)
    await asyncio.wait_for(clock.sleep(0.01), 30)
    clock.close()


async def test_winding_ends_a_sleep() -> None:
    clock = Clock(0.0)
    task = asyncio.create_task(clock.sleep(1000))
    await asyncio.sleep(0)
    clock.advance(1001)
    await asyncio.wait_for(task, 30)
    clock.close()


async def test_a_timer_that_fails_does_not_stop_the_clock(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock(0.0)
    fired: list[int] = []
    clock.later(1, lambda: 1 / 0)
    clock.later(2, lambda: fired.append(2))
    clock.advance(5)
    assert fired == [2]
    assert "a timer failed" in caplog.text
    clock.close()


async def test_rounds_that_take_longer_than_their_interval_leave_the_loop_its_turns() -> None:
    """Else a busy machine with many market data lines hears neither a client nor a signal."""
    clock, rounds = Clock(), 0

    def slow() -> None:
        nonlocal rounds
        rounds += 1
        assert rounds < 100, "the loop had no turn"
        time.sleep(0.002)

    for _ in range(3):
        clock.every(0.001, slow)
    turns = 0
    while rounds < 30:
        await asyncio.sleep(0.001)
        turns += 1
    clock.close()
    assert turns >= 5
