"""The gateway's own protocol without a library: the least that any client takes."""

from __future__ import annotations

import asyncio
import struct
import time

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
        """Ends the session."""
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
