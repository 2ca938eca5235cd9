"""Clients that add little of their own: HTTP requests, and the gateway's own protocol."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.rig.processes import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Answer:
    """A status, seconds until it was whole, and the body."""

    status: int
    seconds: float
    body: bytes


class HttpClient:
    """One connection, opened again when the server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(
        self,
        path: str,
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; a connection that the server had closed meanwhile is opened anew."""
        kept = self._writer is not None
        try:
            return await self._send(path, method, body, headers or {})
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            if not kept or method != "GET":
                raise
        return await self._send(path, method, body, headers or {})

    async def _send(
        self, path: str, method: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        begun = time.perf_counter()
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert self._reader is not None
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: bench\r\nX-API-KEY: {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            + "\r\n"
        )
        self._writer.write(head.encode() + body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(
            int(line.partition(":")[2])
            for line in answered.split("\r\n")
            if line.startswith("content-length:")
        )
        content = await self._reader.readexactly(length)
        if "connection: close" in answered or answered.startswith("http/1.0"):
            self.close()
        return Answer(int(answered.split(" ", 2)[1]), time.perf_counter() - begun, content)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def timed(client: HttpClient, path: str, limit: float) -> float:
    """Seconds that one request took; `limit` when it did not end by then."""
    try:
        async with asyncio.timeout(limit):
            answer = await client.send(path)
    except TimeoutError:
        client.close()
        return limit
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:200]!r}")
    return answer.seconds


async def flood(port: int, path: str, count: int) -> list[asyncio.Task[Answer]]:
    """So many requests at once, each on a connection of its own; `{n}` in the path is counted."""
    clients = [HttpClient(port) for _ in range(count)]
    tasks = [
        asyncio.create_task(client.send(path.format(n=number)))
        for number, client in enumerate(clients)
    ]
    await asyncio.sleep(0.5)
    return tasks


END_OF_POSITIONS = b"62\0"
CURRENT_TIME = b"49\0"


class DirectClient:
    """One session; asks one thing at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, client_id: int) -> DirectClient:
        """A session with its next valid id."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        version = b"v157..178"
        writer.write(b"API\0" + struct.pack(">I", len(version)) + version)
        client = cls(reader, writer)
        await client._message()
        client._write(71, 2, client_id, "")
        while not (await client._message()).startswith(b"9\0"):
            pass
        return client

    async def positions(self) -> float:
        """Seconds from asking for positions to their end."""
        return await self._ask(END_OF_POSITIONS, 61, 1)

    async def current_time(self) -> float:
        """Seconds from asking for the gateway's time to its answer."""
        return await self._ask(CURRENT_TIME, 49, 1)

    def cancel_order(self, order_id: int) -> None:
        """Puts the shortest of the order messages on the wire; nobody waits for an answer."""
        self._write(4, 1, order_id, "")

    def close(self) -> None:
        self._writer.close()

    async def _ask(self, end: bytes, *fields: object) -> float:
        begun = time.perf_counter()
        self._write(*fields)
        while not (await self._message()).startswith(end):
            pass
        return time.perf_counter() - begun

    def _write(self, *fields: object) -> None:
        body = "".join(f"{each}\0" for each in fields).encode()
        self._writer.write(struct.pack(">I", len(body)) + body)

    async def _message(self) -> bytes:
        length = struct.unpack(">I", await self._reader.readexactly(4))[0]
        return await self._reader.readexactly(length)
