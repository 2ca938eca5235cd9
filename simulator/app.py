"""A whole simulator in one object, for the command and for tests in the same loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simulator.control import start_control
from simulator.portal import start_portal
from simulator.scenario import ScenarioError, schedule, steps, symbols
from simulator.state import StateFile
from simulator.tws.server import TwsServer
from simulator.world import World

if TYPE_CHECKING:
    from types import TracebackType

    from simulator.http import HttpServer
    from simulator.options import Options
    from simulator.portal import PortalServer


class Simulator:
    """`async with Simulator(Options(port=0, portal_port=0, control_port=0)) as simulator: ...`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.world = World(options)
        self.tws = TwsServer(self.world)
        self._state: StateFile | None = None
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
            self._state = StateFile(Path(self.options.state), self.world)
            self._state.open()
            self.world.trading.save = self._state.write
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
        self.world.clock.close()
        await self.tws.close()
        for server in self._servers:
            await server.close()
        if self._state:
            self._state.close()

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
