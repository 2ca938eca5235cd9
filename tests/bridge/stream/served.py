"""A whole bridge behind a real HTTP server, over a simulated gateway, on the test's own loop."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.api.connections import Connections
from bridge.api.middleware import ClientAddress
from bridge.environment import Environment
from bridge.process import Bridge
from bridge.stream.service import StreamService
from bridge.tws.connection_context import Target
from bridge.tws.connection_state import ConnectionState
from simulator.app import Simulator
from simulator.options import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

KEY = "gwk_a-key-for-tests"


class Served:
    """One bridge, its address, and clients of it."""

    def __init__(self, simulator: Simulator, bridge: Bridge, port: int) -> None:
        self.simulator = simulator
        self.bridge = bridge
        self.services = bridge.services
        self.port = port
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"X-API-KEY": KEY}, timeout=30
        )

    @property
    def service(self) -> StreamService:
        return self.services[StreamService]

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        answer = await self.http.get(path, params=query or None)
        return answer.status_code, answer.json()

    @asynccontextmanager
    async def stream(self, query: str = "", key: str | None = KEY) -> AsyncIterator[Client]:
        headers = {} if key is None else {"X-API-KEY": key}
        address = f"ws://127.0.0.1:{self.port}/stream{query}"
        async with connect(address, additional_headers=headers, proxy=None) as connection:
            yield Client(connection)

    async def until(self, happened: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not happened():
                await asyncio.sleep(0.01)

    async def ready(self) -> None:
        await self.until(lambda: self.services.gateway.state is ConnectionState.READY)


class Client:
    """One WebSocket, remembering what it got."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []

    async def say(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            message: dict[str, Any] = json.loads(await self.connection.recv())
        self.seen.append(message)
        return message

    async def next_of(self, *kinds: str) -> dict[str, Any]:
        while True:
            message = await self.next()
            if message["type"] in kinds:
                return message

    async def closed(self) -> int:
        """Reads to the end; the code that the server closed with."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd is not None else 0

    @property
    def numbers(self) -> list[int]:
        return [message["seq"] for message in self.seen]


@asynccontextmanager
async def served(folder: Path, *, ready: bool = True, **options: Any) -> AsyncIterator[Served]:
    key_file = folder / "admin-key"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    settings = {"port": 0, "portal_port": 0, "control_port": 0, "tick_interval": 0.02, **options}
    async with Simulator(Options(**settings)) as simulator:
        environment = Environment(
            listen_port=0,
            tws_port=simulator.tws.port,
            data_dir=folder / "data",
            admin_key_file=key_file,
            max_streams=5,
        )
        target = Target(port=simulator.tws.port, backoff_first=0.02, backoff_cap=0.05)
        async with Bridge(environment, target=target) as bridge, _listening(bridge) as port:
            rig = Served(simulator, bridge, port)
            if ready:
                await rig.ready()
            async with rig.http:
                yield rig


@asynccontextmanager
async def _listening(bridge: Bridge) -> AsyncIterator[int]:
    http, websocket = Connections().protocols()
    config = uvicorn.Config(
        ClientAddress(bridge.app, "127.0.0.1"),
        port=0,
        log_config=None,
        lifespan="off",
        proxy_headers=False,
        http=http,
        ws=websocket,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve(sockets=None))
    try:
        async with asyncio.timeout(30):
            while not server.started:
                await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
