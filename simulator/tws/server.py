"""The listening side: one port, and the connections that came in by it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from simulator.tws.connection import Connection
from simulator.tws.disturbance import RELAY, Disturbance
from simulator.tws.registry import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.world import World

LARGEST = 4096
"""Connections at a time; further ones are reset."""
REOPEN_SECONDS = 0.2
POLL_SECONDS = 0.05


class TwsServer:
    """Accepts clients on one port; `port` is the one that it got."""

    def __init__(self, world: World) -> None:
        load()
        self.world = world
        self.connections: set[Connection] = set()
        self.port = 0
        self._listen = ""
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._poller: asyncio.TimerHandle | None = None
        self.polled = math.inf
        """When the loop was last known to read what has come; what it reads now came after that.
        Only kept while messages above the rate limit are refused."""
        Disturbance(self)

    async def start(self, listen: str, port: int) -> None:
        """Begin to listen; port 0 takes a free one."""
        self._listen = listen
        self.port = port
        if self.world.options.pacing == "reject":
            self._poll()
        await self._open()

    async def close(self) -> None:
        """Stop listening and drop every client."""
        if self._poller:
            self._poller.cancel()
        self.shut()
        self.each(Connection.abort)
        await asyncio.sleep(0)

    def shut(self) -> None:
        """Stop listening: the next client is refused."""
        if self._opening:
            self._opening.cancel()
            self._opening = None
        if self._server:
            self._server.close()
            self._server = None

    def reopen(self) -> None:
        """Listen again on the same port."""
        if self._server is None and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._keep_opening())

    def each(self, act: Callable[[Connection], None]) -> None:
        """Do something to every connection."""
        for connection in list(self.connections):
            act(connection)

    def accepted(self, connection: Connection) -> None:
        """A client connected: what awaits it depends on the faults of the moment."""
        self.connections.add(connection)
        if len(self.connections) > LARGEST:
            connection.abort()
        elif any(self.world.faults.active(name) for name in RELAY):
            connection.close()
        elif self.world.faults.active("accept-silent"):
            connection.silent = True

    def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        self.polled = loop.time()
        self._poller = loop.call_later(POLL_SECONDS, self._poll)

    async def _keep_opening(self) -> None:
        while self._server is None:
            try:
                await self._open()
            except OSError:  # the kernel has not let go of the port yet
                await asyncio.sleep(REOPEN_SECONDS)
        self._opening = None

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), self._listen, self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
