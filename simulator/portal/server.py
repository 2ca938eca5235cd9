"""The simulated Client Portal gateway: start, stop, its faults, HTTP and HTTPS on one port.

The first byte of a connection tells which it is: a TLS ClientHello starts with 0x16, an HTTP
request with a letter. It is peeked at, not taken, so that the TLS layer sees the whole handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.http import HEAD_LIMIT, Request, Response, serve_connection
from simulator.portal.certificate import server_context
from simulator.portal.data import PortalData
from simulator.portal.routes import PortalRoutes
from simulator.portal.session import PortalSession, RequestLimits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from simulator.world import World

TLS_HANDSHAKE = b"\x16"
FIRST_BYTE_SECONDS = 10.0
MAXIMUM_CONNECTIONS = 256


class Listener:
    """Accepts connections on one address and serves each by `respond`.

    Args:
        respond: answers one request.
        tls: makes the TLS context; called once, when the first TLS client connects.
    """

    def __init__(
        self,
        respond: Callable[[Request], Awaitable[Response]],
        tls: Callable[[], Awaitable[ssl.SSLContext]],
    ) -> None:
        self._respond = respond
        self._make_tls = tls
        self._tls: asyncio.Task[ssl.SSLContext] | None = None
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port (useful with port 0)."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=64)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        """Closes the port and every connection."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        tasks = [*self._tasks, *([] if self._tls is None else [self._tls])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # gone again, or no descriptor is free
            return
        if len(self._tasks) >= MAXIMUM_CONNECTIONS:
            connection.close()
            return
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if done.cancelled():  # perhaps before it had begun
                connection.close()

        task.add_done_callback(ended)

    async def _serve(self, connection: socket.socket) -> None:
        # A client that goes away at any point is no business of the simulator's.
        with contextlib.suppress(OSError, TimeoutError):
            await self._serve_connection(connection)

    async def _serve_connection(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            first = await _peek(connection)
            context = await self._context() if first == TLS_HANDSHAKE else None
        except BaseException:
            connection.close()
            raise
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HEAD_LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        await serve_connection(reader, writer, self._respond)

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = asyncio.ensure_future(self._make_tls())
        return await asyncio.shield(self._tls)


async def _peek(connection: socket.socket) -> bytes:
    """The first byte that the client sends, left in the socket; empty when it closed."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection, wake)
    try:
        async with asyncio.timeout(FIRST_BYTE_SECONDS):
            await readable
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


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
