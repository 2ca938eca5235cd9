"""A real web hook that counts what reaches it, and a alerts that sends to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bridge.alerts.messages import Sender
from bridge.alerts.service import AlertService
from tests.bridge.portal.conftest import JumpingClock


@dataclass
class WebHook:
    """Takes messages, or refuses them."""

    port: int = 0
    refusing: bool = False
    received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook?secret=do-not-show-me"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.received]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.received) < count:
                await asyncio.sleep(0.02)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.lower().startswith("content-length")
        )
        body = json.loads(await reader.readexactly(length))
        self.received.append(body)
        status = "500 No" if self.refusing else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def hook() -> AsyncIterator[WebHook]:
    hook = WebHook()
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0)
    hook.port = server.sockets[0].getsockname()[1]
    yield hook
    server.close()


class Stuck:
    """Takes connections, and answers nothing until it is let go."""

    def __init__(self) -> None:
        self.port = 0
        self.let_go = asyncio.Event()

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook?rto=600"

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.let_go.wait()
        writer.close()


@pytest.fixture
async def stuck() -> AsyncIterator[Stuck]:
    found = Stuck()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    found.let_go.set()
    server.close()


@pytest.fixture
def address_file(hook: WebHook, tmp_path: Path) -> Path:
    path = tmp_path / "alerts"
    path.write_text(f"# who is told\n\n{hook.address}\n")
    path.chmod(0o400)
    return path


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
async def alerts(
    address_file: Path, clock: JumpingClock, registry: CollectorRegistry
) -> AsyncIterator[AlertService]:
    alerts = AlertService(Sender(address_file), clock, registry, name="gangway (paper)")
    await alerts.start()
    yield alerts
    await alerts.stop()
