"""Trials of settings against the simulated gateway, beside a session that runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bridge.clock import SystemClock
from bridge.settings.probe import STEPS, Probe, ProbeReport
from bridge.settings.profile import Profile
from bridge.tws.connection_context import Target
from bridge.tws.connection_state import ConnectionState
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.options import Options
from tests.bridge.rig import eventually
from tests.closed_port import closed_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(Options(port=0, portal_port=0, control_port=0)) as simulator:
        yield simulator


async def try_settings(simulator: Simulator, **fields: Any) -> ProbeReport:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": simulator.ports["port"],
        "connect_timeout": 5.0,
    }
    profile = Profile(**{**values, **fields})
    return await Probe(profile, SystemClock(), frozenset({17}), "AAPL").run()


async def ready(session: TwsSession) -> None:
    async with asyncio.timeout(30):
        while session.state is not ConnectionState.READY:
            await asyncio.sleep(0.01)


async def test_good_settings_pass_every_step_with_its_time(simulator: Simulator) -> None:
    report = await try_settings(simulator, account="DU1234567")
    assert report.ok, report
    assert [step.name for step in report.steps] == list(STEPS)
    assert all(step.seconds is not None for step in report.steps)
    details = {step.name: step.detail for step in report.steps}
    assert details["handshake"].startswith("API version ")
    assert details["accounts"] == "DU1234567"
    assert details["marketData"] == "live data"
    assert report.seconds >= sum(step.seconds or 0 for step in report.steps) - 0.01


async def test_the_running_session_is_not_disturbed_and_nothing_is_left_behind(
    simulator: Simulator,
) -> None:
    clock = SystemClock()
    running = TwsSession(Target(port=simulator.ports["port"], client_id=17), clock)
    lost: list[str] = []
    running.events.lost.listen(lost.append)
    await running.start()
    await ready(running)
    report = await try_settings(simulator, client_id=17)
    assert report.ok
    assert report.client_id != 17
    assert running.state is ConnectionState.READY
    assert lost == []
    await eventually(lambda: [each.client_id for each in simulator.world.sessions] == [17])
    await running.stop()


async def test_a_closed_port_fails_at_connect_and_skips_the_rest(simulator: Simulator) -> None:
    with closed_port() as port:
        report = await try_settings(simulator, port=port)
    assert [step.ok for step in report.steps] == [True, False, None, None, None]
    assert "does not take connections" in report.steps[1].detail
    assert report.steps[1].next_step
    assert not report.ok


async def test_a_name_that_does_not_resolve_fails_first(simulator: Simulator) -> None:
    report = await try_settings(simulator, host="gateway.invalid")
    assert [step.ok for step in report.steps] == [False, None, None, None, None]


async def test_a_forwarder_without_a_gateway_fails_at_the_handshake(simulator: Simulator) -> None:
    simulator.world.faults.start("relay-closes")
    report = await try_settings(simulator)
    assert [step.ok for step in report.steps] == [True, True, False, None, None]
    assert "login" in (report.steps[2].next_step or "")


async def test_an_account_of_another_login_fails_at_the_accounts(simulator: Simulator) -> None:
    report = await try_settings(simulator, account="U7654321")
    assert [step.ok for step in report.steps] == [True, True, True, False, None]
    assert "DU1234567" in report.steps[3].detail


async def test_a_running_session_moves_to_other_settings(simulator: Simulator) -> None:
    async with Simulator(Options(port=0, portal_port=0, control_port=0)) as other:
        session = TwsSession(Target(port=simulator.ports["port"], client_id=17), SystemClock())
        await session.start()
        await ready(session)
        assert session.reconfigure(Target(port=other.ports["port"], client_id=18))
        async with asyncio.timeout(30):
            while not other.world.sessions:
                await asyncio.sleep(0.01)
        await ready(session)
        assert [each.client_id for each in other.world.sessions] == [18]
        await eventually(lambda: simulator.world.sessions == [])
        assert not session.reconfigure(
            Target(port=other.ports["port"], client_id=18, heartbeat_interval=9)
        )
        assert session.state is ConnectionState.READY
        await session.stop()
