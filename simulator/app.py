"""A whole simulator in one object, for the command and for tests in the same loop.

`World` is what every part of it shares: clock, faults, contracts, market, trading, clients.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.clock import Clock
from simulator.contracts.catalog import Catalog
from simulator.control import start_control
from simulator.faults import Faults
from simulator.market.market import Market
from simulator.portal import start_portal
from simulator.rewriting import Rewriting
from simulator.scenario import ScenarioError, schedule, steps, symbols
from simulator.state import StateFile
from simulator.tws.pacing import HistoryPacing
from simulator.tws.server import TwsServer
from simulator.tws.trading import Trading

if TYPE_CHECKING:
    from types import TracebackType

    from simulator.http import HttpServer
    from simulator.options import Options
    from simulator.portal import PortalServer
    from simulator.tws.session import Session

DEPARTED, DEPARTED_MESSAGES = 30, 100


class World:
    """One simulated broker. Everything in it happens on one event loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock(options.start)
        self.faults = Faults(self.clock)
        self.rewriting = Rewriting(self)
        self.catalog = Catalog()
        self.market = Market(self.catalog, options.seed, options.hours)
        self.pacing = HistoryPacing()
        self.sessions: list[Session] = []
        """Clients that are ready, in the order in which they came."""
        self.state: StateFile | None = None
        """What keeps accounts and orders between two runs; None: nothing does."""
        self._changed = False
        self.trading = Trading(self, self.market, self.catalog)
        self.history: list[dict[str, Any]] = []
        """What clients that have left had sent, at most of the last `DEPARTED` clients."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts of this login, as in managedAccounts."""
        return self.options.accounts

    def session_ready(self, session: Session) -> None:
        """Take a client in, and give it what it has open."""
        self.sessions.append(session)
        self.trading.session_ready(session)

    def session_closed(self, session: Session) -> None:
        """Let a client go; its orders stay."""
        self.history = [*self.history[1 - DEPARTED :], session.record(DEPARTED_MESSAGES)]
        if session in self.sessions:
            self.sessions.remove(session)
            self.trading.session_closed(session)

    def changed(self) -> None:
        """Something happened that a later run has to know: keep it before anybody hears of it."""
        if self.state is not None and not self._changed:
            self._changed = True
            asyncio.get_running_loop().call_soon(self.keep)

    def keep(self) -> None:
        """Write what changed since the last time, if anything did."""
        if self.state is not None and self._changed:
            self._changed = False
            self.state.write()

    def book(self) -> dict[str, Any]:
        """The simulator's own record, as `GET /book` gives it."""
        return {
            "time": self.clock.now().isoformat(),
            "seed": self.options.seed,
            "accounts": list(self.accounts),
            "clients": [session.record() for session in self.sessions],
            "departed": self.history,
            **self.trading.book(),
        }


class Simulator:
    """`async with Simulator(Options(port=0, portal_port=0, control_port=0)) as simulator: ...`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.world = World(options)
        self.tws = TwsServer(self.world)
        self._servers: list[HttpServer | PortalServer] = []

    async def start(self) -> dict[str, int]:
        """Listen on every port; gives the ports by name.

        Raises:
            ScenarioError: a scenario or a fault of the options is wrong.
            InUseError: another simulator has the state file.
            OSError: a port is taken, or the state file cannot be read; none stays open.
        """
        planned = steps(self.options)
        for instrument in symbols(self.options):
            try:
                self.world.catalog.add(instrument)
            except ValueError as error:
                raise ScenarioError(f"{self.options.scenario}: {error}") from None
        if self.options.state:
            state = StateFile(Path(self.options.state), self.world)
            state.open()
            self.world.state = state
        try:
            self.ports = await self._listen()
        except OSError:
            await self.close()
            raise
        schedule(self.world, planned)
        return self.ports

    async def _listen(self) -> dict[str, int]:
        options, world = self.options, self.world
        await self.tws.start(options.listen, options.port)
        portal = await start_portal(world, options.listen, options.portal_port)
        self._servers.append(portal)
        control = await start_control(world, options.listen, options.control_port)
        self._servers.append(control)
        return {"port": self.tws.port, "portalPort": portal.port, "controlPort": control.port}

    async def close(self) -> None:
        """Stop everything."""
        self.world.clock.close()
        await self.tws.close()
        for server in self._servers:
            await server.close()
        if self.world.state:
            self.world.state.close()

    async def __aenter__(self) -> Simulator:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()
