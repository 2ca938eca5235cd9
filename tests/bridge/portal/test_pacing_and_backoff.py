"""Our own requests stay within the limits that the simulated gateway enforces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.clock import settle
from bridge.portal.client import PortalPacer
from bridge.portal.errors import PortalLimitedError
from bridge.portal.session import DELAYS, STABLE_SECONDS, RecoveryBackoff

if TYPE_CHECKING:
    from bridge.portal.client import PortalClient
    from simulator.portal import PortalServer
    from tests.bridge.portal.conftest import JumpingClock


async def call(
    pacer: PortalPacer,
    path: str,
    timeout: float,
    clock: JumpingClock | None = None,
    took: float = 0,
) -> None:
    async with pacer.turn(path, timeout):
        if clock is not None:
            clock.advance(took)


async def test_a_burst_is_spread_so_that_no_penalty_begins(
    client: PortalClient, portal: PortalServer
) -> None:
    for _ in range(60):
        await client.status()
    for _ in range(5):
        await client.tickle()
    await client.get("/sso/validate")
    await client.get("/sso/validate", timeout=90)
    assert sum(portal.routes.calls.values()) == 67  # the simulator answered each of them with 200


async def test_callers_at_once_get_places_one_after_the_other(clock: JumpingClock) -> None:
    pacer = PortalPacer(clock)
    for _ in range(8):
        await call(pacer, "/iserver/accounts", 1)
    starts = clock.monotonic()
    await asyncio.gather(*(call(pacer, "/iserver/accounts", 30) for _ in range(16)))
    assert clock.monotonic() - starts >= 2


async def test_gaps_are_counted_from_the_end_of_a_call(clock: JumpingClock) -> None:
    pacer = PortalPacer(clock)
    await call(pacer, "/tickle", 5, clock, took=3.0)
    ended = clock.monotonic()
    await call(pacer, "/tickle", 5)
    assert clock.monotonic() - ended == pytest.approx(1.05)


async def test_a_slow_burst_is_not_followed_by_another(clock: JumpingClock) -> None:
    pacer = PortalPacer(clock)
    for _ in range(8):
        await call(pacer, "/iserver/accounts", 5, clock, took=0.125)
    begun = clock.monotonic()
    await call(pacer, "/iserver/accounts", 5)
    assert clock.monotonic() - begun == pytest.approx(1.05 - 7 * 0.125)


async def test_what_would_wait_too_long_is_refused_at_once(clock: JumpingClock) -> None:
    pacer = PortalPacer(clock)
    await call(pacer, "/sso/validate", 1)
    before = clock.monotonic()
    with pytest.raises(PortalLimitedError) as raised:
        await call(pacer, "/sso/validate", 8)
    assert raised.value.retry_after == pytest.approx(63)
    assert clock.monotonic() == before


async def test_a_penalty_closes_everything_until_it_is_over(clock: JumpingClock) -> None:
    pacer = PortalPacer(clock)
    pacer.penalise(120)
    pacer.penalise(30)
    assert pacer.penalty_left == 120
    with pytest.raises(PortalLimitedError):
        await call(pacer, "/tickle", 8)
    clock.advance(120)
    await call(pacer, "/tickle", 0)


async def test_a_penalty_that_begins_while_waiting_counts(clock: JumpingClock) -> None:
    pacer = PortalPacer(clock)
    await call(pacer, "/tickle", 2)
    waiting = asyncio.create_task(call(pacer, "/tickle", 5))
    await asyncio.sleep(0)
    pacer.penalise()
    with pytest.raises(PortalLimitedError):
        await waiting


async def test_a_call_that_was_never_sent_holds_up_none(clock: JumpingClock) -> None:
    pacer, path = PortalPacer(clock), "/iserver/account/orders"
    await call(pacer, path, 1)
    for penalty in (False, True):
        waiting = asyncio.create_task(call(pacer, path, 15))
        await asyncio.sleep(0)
        if penalty:
            pacer.penalise(1)
            with pytest.raises(PortalLimitedError):
                await waiting
        else:
            await settle(waiting)  # whoever asked has gone
        clock.advance(600)
        await call(pacer, path, 0)


def test_attempts_are_spaced_until_the_session_has_held(clock: JumpingClock) -> None:
    backoff = RecoveryBackoff(clock)
    waits = []
    for _ in range(7):
        waits.append(backoff.wait())
        clock.advance(backoff.wait())
        backoff.attempted()
        backoff.connected()
        backoff.lost()
    assert waits == [0, *DELAYS[1:], DELAYS[-1]]
    backoff.connected()
    clock.advance(STABLE_SECONDS)
    backoff.lost()
    assert backoff.wait() == 0
