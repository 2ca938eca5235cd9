"""The desks over a real session with a simulated gateway, on one loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from bridge.account.service import AccountService
from bridge.clock import SystemClock
from bridge.market.contracts import ContractService
from bridge.market.history import HistoryService
from bridge.market.options import OptionService
from bridge.market.quotes import QuoteService
from bridge.stream.service import StreamService
from bridge.tws.connection_context import Target
from bridge.tws.connection_state import ConnectionState
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.options import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Wired:
    """Everything that one test needs."""

    def __init__(self, simulator: Simulator, session: TwsSession, lines: int) -> None:
        self.simulator = simulator
        self.session = session
        clock = SystemClock()
        self.contracts = ContractService(session, clock)
        self.quotes = QuoteService(session, self.contracts, clock, lines)
        self.options = OptionService(session, self.contracts, self.quotes, clock)
        self.history = HistoryService(session, self.contracts, clock)
        self.account = AccountService(session, clock)
        self.stream = StreamService(session, self.quotes, self.contracts, clock)

    def fault(self, name: str, seconds: float | None = None) -> None:
        self.simulator.world.faults.start(name, seconds)

    async def until(self, happened: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not happened():
                await asyncio.sleep(0.01)

    async def ready(self) -> None:
        await self.until(lambda: self.session.state is ConnectionState.READY)


@asynccontextmanager
async def wired(lines: int = 100, **options: Any) -> AsyncIterator[Wired]:
    settings = {"port": 0, "portal_port": 0, "control_port": 0, "tick_interval": 0.02, **options}
    async with Simulator(Options(**settings)) as simulator:
        target = Target(port=simulator.tws.port, backoff_first=0.02, backoff_cap=0.05)
        session = TwsSession(target, SystemClock())
        rig = Wired(simulator, session, lines)
        await session.start()
        try:
            await rig.ready()
            await rig.quotes.start()
            yield rig
        finally:
            await rig.account.stop()
            await rig.stream.stop()
            await rig.quotes.stop()
            await session.stop()
