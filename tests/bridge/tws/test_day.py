"""A day in wound time: the nightly restart, the Sunday reset, and a night without anything to say.

Bridge and simulator are wound together, over a real socket: after every timer of the bridge the
socket gets its turn, so that a heartbeat is answered before the next is due.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from bridge import model
from bridge.api.health import health
from bridge.environment import Environment
from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.services import Services
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.options import Options
from tests.bridge.conftest import quick_target
from tests.bridge.rig import eventually
from tests.bridge.tws.test_faults import Line
from tests.bridge.wound import WoundClock

SATURDAY = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)  # 11:00 in New York
HEARTBEAT = 300.0  # a day of heartbeats every 4 s would be nothing but heartbeats


class Day:
    """Winds both clocks in steps, and writes down the states."""

    def __init__(self, simulator: Simulator, session: TwsSession, clock: WoundClock) -> None:
        self.simulator = simulator
        self.session = session
        self.clock = clock
        self.states: list[tuple[datetime, State]] = []
        session.events.state.listen(lambda old, new: self.states.append((clock.now(), new)))

    async def settle(self) -> None:
        """Lets the sockets speak until nothing waits for an answer that can come."""
        quiet = 0
        context = self.session.context
        read = -1
        for _ in range(500):
            await asyncio.sleep(0.001)
            now = context.wire.messages_read if context.wire else 0
            quiet = quiet + 1 if now == read and context.requests.waiting_since() is None else 0
            read = now
            if quiet >= 4:
                return

    async def wind(self, seconds: float, step: float = HEARTBEAT / 2) -> None:
        while seconds > 0:
            step = min(seconds, step)
            self.simulator.world.clock.advance(step)
            await self.clock.wind(step, settle=self.settle)
            seconds -= step


async def test_a_day_with_the_nightly_restart_and_the_sunday_reset() -> None:
    clock = WoundClock(SATURDAY)
    options = Options(
        port=0,
        portal_port=0,
        control_port=0,
        start=SATURDAY.timestamp(),
        tick_interval=600.0,
        rate_limit=0,  # it counts real seconds, and hours pass in one
    )
    async with Simulator(options) as simulator:
        session = TwsSession(
            quick_target(
                simulator.tws.port,
                heartbeat_interval=HEARTBEAT,
                heartbeat_patience=60.0,
                backoff_cap=10.0,
                restarts=RestartCalendar((RestartRule("auto-restart", "23:45", None, 6),)),
            ),
            clock,
        )
        services = Services(Environment(), session, clock)
        services.provide(TwsSession, session)
        day = Day(simulator, session, clock)
        tasks = len(asyncio.all_tasks())
        await session.start()
        try:
            await eventually(lambda: session.state is State.READY)
            line = Line()
            session.subscribe_market_data(model.Contract(symbol="AAPL"), line)
            await eventually(lambda: line.ticks)

            await day.wind(12.75 * 3600)  # until 23:45 in New York
            assert [state for _, state in day.states] == [State.CONNECTING, State.READY]
            simulator.world.faults.start("nightly-restart", 90.0)
            await day.wind(45, 5)
            said = health(services)
            assert said.restart_under_way
            assert said.next_action.startswith("Nothing: the gateway's planned restart")
            assert said.state == "waiting-for-gateway"
            await day.wind(120, 5)
            assert session.state is State.READY
            assert health(services).status == "ok"
            expected = [
                event.detail["expected"]
                for event in session.context.diagnostics.events
                if event.kind == "disconnected"
            ]
            assert expected == [True]

            await day.wind(75 * 60 - 165)  # until 01:00 on Sunday
            simulator.world.faults.start("sunday-invalidation", 600.0)
            await day.wind(300, 10)
            said = health(services)
            assert said.next_restart
            assert said.next_restart.at > clock.now()
            assert "approve the login on your phone" in said.next_action
            await day.wind(360, 10)
            assert session.state is State.READY

            await day.wind(24 * 3600 - (clock.now() - SATURDAY).total_seconds())
            said = health(services)
            assert said.state == "ready"
            # Away for 90 s and 10 min; the simulator is wound a step ahead, pauses add a little.
            away = (1 - said.metrics.availability24h) * 24 * 3600
            assert 690 - 60 <= away <= 690 + 4 * 60
            assert said.metrics.total_disconnections == 2
            assert said.heartbeat_failures == 0
            seen = len(line.ticks)
            await day.wind(1200)
            assert len(line.ticks) > seen
            assert line.story.count("restored") >= 2
        finally:
            await session.stop()
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
