"""A client that speaks the wire and hides nothing."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from simulator.app import Simulator
from simulator.options import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FRIDAY_TEN = 1795186800.0
"""Friday, 20 November 2026, 10:00 in New York."""
PATIENCE = 40.0
OPENED: list[Raw] = []


def framed(*fields: object) -> bytes:
    body = "".join(f"{each}\0" for each in fields).encode()
    return struct.pack(">I", len(body)) + body


class Raw:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.version = 0

    def send(self, *fields: object) -> None:
        self.writer.write(framed(*fields))

    async def read(self) -> list[str]:
        async with asyncio.timeout(PATIENCE):
            length = struct.unpack(">I", await self.reader.readexactly(4))[0]
            body = await self.reader.readexactly(length)
        return body.decode().split("\0")[:-1]

    async def until(self, *message_ids: int) -> list[str]:
        """The next message of one of these kinds; others are passed over."""
        while True:
            message = await self.read()
            if int(message[0]) in message_ids:
                return message

    async def error(self, code: int) -> list[str]:
        while True:
            message = await self.until(4)
            if message[3] == str(code):
                return message

    async def closed(self) -> bytes:
        """What still comes before the end; a reset raises ConnectionResetError."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def handshake(self, highest: int = 178, options: str = "") -> None:
        offer = f"v100..{highest}{options}".encode()
        self.writer.write(b"API\0" + struct.pack(">I", len(offer)) + offer)
        self.version = int((await self.read())[0])

    async def start(self, client_id: int = 1, highest: int = 178, options: str = "") -> None:
        await self.handshake(highest, options)
        self.send(71, 2, client_id, "")
        await self.until(9)

    def close(self) -> None:
        self.writer.close()


async def connected(simulator: Simulator) -> Raw:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.ports["port"])
    client = Raw(reader, writer)
    OPENED.append(client)
    return client


async def ready(
    simulator: Simulator, client_id: int = 1, highest: int = 178, options: str = ""
) -> Raw:
    client = await connected(simulator)
    await client.start(client_id, highest, options)
    return client


@asynccontextmanager
async def simulated(**settings: object) -> AsyncIterator[Simulator]:
    """A simulator at ten o'clock on a trading day, on free ports, without pacing of history."""
    usual: dict[str, object] = {"port": 0, "portal_port": 0, "control_port": 0, "start": FRIDAY_TEN}
    usual |= {"history_pacing": "off"}
    options = Options(**(usual | settings))  # type: ignore[arg-type]
    async with Simulator(options) as simulator:
        try:
            yield simulator
        finally:
            await _close_clients()


async def _close_clients() -> None:
    while OPENED:
        client = OPENED.pop()
        client.close()
        with suppress(OSError):
            await client.writer.wait_closed()


async def until_true(check: object) -> None:
    async with asyncio.timeout(PATIENCE):
        while not check():  # type: ignore[operator]
            await asyncio.sleep(0.01)


STOCK = (0, "AAPL", "STK", "", 0.0, "", "", "SMART", "", "USD", "", "")
"""The twelve contract fields of a stock."""
