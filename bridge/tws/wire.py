"""One TCP connection to the gateway: framing, greeting, loss.

The life of a wire: dialled -> greeted (version agreed; needs no client id) -> started (next order
id and accounts are in) -> lost. A wire is never used again after its loss.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

from bridge.clock import TimerClock
from bridge.tws.client import GREETING, MIN_VERSION, Codec

MAX_MESSAGE = 16 * 1024 * 1024  # nothing that the gateway sends comes near


class Wire(asyncio.Protocol):
    """Bytes in, messages out. All methods are called on the event loop."""

    def __init__(self, clock: TimerClock) -> None:
        loop = asyncio.get_running_loop()
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self.codec: Codec | None = None
        self.version = 0
        self.greeted: asyncio.Future[int] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self.opened = False  # a byte came back, or at least the port took the connection
        self.last_read = clock.monotonic()
        self.messages_read = 0
        self.messages_sent = 0
        self.on_message: Callable[[int], None] | None = None

    @property
    def send(self) -> Any:
        """The encoders; one method a request."""
        if self.codec is None:
            raise ConnectionError("not greeted")
        return self.codec.send

    @property
    def alive(self) -> bool:
        """Whether the socket has not been seen to end."""
        return not self.lost.done()

    # asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port took the connection: greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.opened = True
        self._transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Splits what came into messages."""
        self.last_read = self._clock.monotonic()
        self._buffer += data
        start, end = 0, len(self._buffer)
        while end - start > 4:
            (length,) = struct.unpack_from(">I", self._buffer, start)
            if length > MAX_MESSAGE:
                self.drop(f"a message of {length} bytes: no gateway, or a broken stream")
                return
            if end - start - 4 < length:
                break
            message = bytes(self._buffer[start + 4 : start + 4 + length])
            start += 4 + length
            self._message(message)
        if start:
            del self._buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket has ended."""
        self._transport = None
        self._lose(f"connection lost: {exc}" if exc else "the gateway closed the connection")

    # ------------------------------------------------------------------------------------------

    def start(self, callbacks: object, *, client_id: int, time_zone: str) -> None:
        """Takes the client id: from here on the gateway knows this client."""
        self.codec = Codec(
            self.write, callbacks, version=self.version, client_id=client_id, time_zone=time_zone
        )
        self.send.startApi()

    def write(self, data: bytes) -> None:
        """Hands bytes to the socket; nothing when it has ended."""
        if self._transport is not None:
            self._transport.write(data)
            self.messages_sent += 1

    def drop(self, reason: str) -> None:
        """Ends the connection at once, whatever is unsent."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._lose(reason)

    def close(self, reason: str) -> None:
        """Ends the connection after what was written has gone out."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        if not self.greeted.done():
            self.greeted.cancel()

    def _message(self, payload: bytes) -> None:
        self.messages_read += 1
        if not self.version:
            self._greet(payload)
        elif self.codec is not None:
            number = self.codec.receive(payload)
            if self.on_message:
                self.on_message(number)

    def _greet(self, payload: bytes) -> None:
        try:
            self.version = int(payload.split(b"\0", 1)[0])
        except ValueError:
            self.drop("what answers is no gateway")
            return
        if self.version < MIN_VERSION:
            self.drop(f"gateway speaks version {self.version}, at least {MIN_VERSION} is needed")
            return
        if not self.greeted.done():
            self.greeted.set_result(self.version)
