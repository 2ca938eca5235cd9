"""The simulated Client Portal gateway as a whole: start, stop, and its faults."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.portal.certificate import server_context
from simulator.portal.data import PortalData
from simulator.portal.limits import RequestLimits
from simulator.portal.listener import Listener
from simulator.portal.routes import PortalRoutes
from simulator.portal.session import PortalSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.world import World

FAULTS = (
    "portal-desync",
    "portal-competing",
    "portal-logged-out",
    "portal-500",
    "portal-timeout",
    "portal-429",
    "portal-first-status",
)


async def start_portal(world: World, listen: str, port: int) -> PortalServer:
    """Serves the simulated broker's Client Portal; the result has `port` and `close()`."""
    folder = world.options.portal_certificate
    server = PortalServer(
        world.clock.time,
        world.accounts,
        certificate_folder=Path(folder) if folder else None,
        data=PortalData(world),
    )
    for name in FAULTS:
        world.faults.on_start(name, partial(_begin, server, name))
        world.faults.on_end(name, partial(_end, server, name))
    await server.start(listen, port)
    return server


def _begin(server: PortalServer, name: str, _: object) -> None:
    server.begin_fault(name)


def _end(server: PortalServer, name: str, _: object) -> None:
    server.end_fault(name)


class PortalServer:
    """A Client Portal gateway on one port, HTTP and HTTPS alike.

    Args:
        now: the simulator's clock, in seconds; winding it makes sessions age.
        accounts: account names to report.
        certificate_folder: where the TLS key and certificate are kept; None: not kept.
        data: what answers calls about orders, contracts, prices and positions.
    """

    def __init__(
        self,
        now: Callable[[], float],
        accounts: Sequence[str] = ("DU1234567",),
        *,
        certificate_folder: Path | None = None,
        data: PortalData | None = None,
    ) -> None:
        self.port = 0
        self.session = PortalSession(now)
        self.limits = RequestLimits(now)
        self.routes = PortalRoutes(self.session, self.limits, now, accounts, data)
        self._listener = Listener(self.routes.respond, lambda: server_context(certificate_folder))

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens; returns the port, which is also kept in `port`."""
        self.port = await self._listener.start(host, port)
        return self.port

    async def close(self) -> None:
        """Closes the port and every connection."""
        await self._listener.close()

    def begin_fault(self, name: str) -> None:
        """Starts one of `FAULTS`; a name of another part of the simulator is ignored.

        A desync is an event, not a condition: a recovery mends it even before the fault is over,
        as it would the real thing.  `portal-competing` lasts until it is fought or over.
        """
        starts: dict[str, Callable[[], None]] = {
            "portal-desync": self.session.desync,
            "portal-competing": self.session.compete,
            "portal-logged-out": self.session.logout,
            "portal-500": lambda: setattr(self.routes, "failing", True),
            "portal-timeout": lambda: setattr(self.routes, "hanging", True),
            "portal-429": self.limits.penalise,
            "portal-first-status": self.session.mislead,
        }
        if name in starts:
            starts[name]()

    def end_fault(self, name: str) -> None:
        """Ends a fault; after `portal-logged-out` a person has signed in again."""
        ends: dict[str, Callable[[], None]] = {
            "portal-competing": self.session.leave_competing,
            "portal-logged-out": self.session.login,
            "portal-500": lambda: setattr(self.routes, "failing", False),
            "portal-timeout": lambda: setattr(self.routes, "hanging", False),
            "portal-429": self.limits.forgive,
        }
        if name in ends:
            ends[name]()
