"""One socket: handshake, frames in, frames out, the rate limit, and the faults of a transport."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from simulator.clock import EASTERN
from simulator.tws.pacing import RateLimit
from simulator.tws.session import Session
from simulator.tws.wire import (
    FRAME_LIMIT,
    MAXIMUM_SERVER_VERSION,
    MINIMUM_SERVER_VERSION,
    frame,
)

if TYPE_CHECKING:
    from simulator.world import World

PREAMBLE = b"API\0"
HANDSHAKE_SECONDS = 30.0
BACKLOG_LIMIT = 32 * 1024 * 1024
"""Bytes that may wait for a client that does not read, before it is cut off."""
DRIBBLE_SECONDS = 0.001
DRIBBLE_BYTES = 8
"""Bytes, each in a segment of its own, between two pauses."""
DRIBBLE_LIMIT = 2 * 1024 * 1024
WAITING_LIMIT = 1_000
"""Messages held back before no more is read from the client; what it sends then waits in the
network, and nothing is lost."""


class Server(Protocol):
    """What a connection needs of the server that it came to."""

    polled: float
    """When the loop was last known to read what has come."""

    def accepted(self, connection: Connection) -> None:
        """A client connected."""

    def lost(self, connection: Connection) -> None:
        """Its socket is gone."""


class Connection(asyncio.Protocol):
    """A client's socket; owns the session that the handshake makes."""

    def __init__(self, world: World, server: Server) -> None:
        self.world = world
        self._server = server
        self.session: Session | None = None
        self.dead = False
        """Half-open: neither reads nor writes, but the socket stays."""
        self.silent = False
        """Accepted and never answered."""
        self.writable = True
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._preamble = False
        self._out: list[bytes] = []
        self._dribble = bytearray()
        self._dribbling = False
        self._closing = False
        self._paced = self.world.options.pacing == "queue"
        self._rate = RateLimit(self.world.options.rate_limit)
        self._waiting: deque[list[str]] = deque()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        plain = self.transport.get_extra_info("socket")
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport.set_write_buffer_limits(high=1024 * 1024)
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._give_up)
        self._server.accepted(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self._deadline.cancel()
        self._server.lost(self)
        if self.session:
            self.session.lost()

    def pause_writing(self) -> None:
        """The client does not keep up: it is not listened to until it has read."""
        self.writable = False
        self._listen()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writable = True
        self._listen()

    def _listen(self) -> None:
        """Read from the client, or let what it sends wait in the network."""
        if self.writable and not self._full and not self.dead:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    @property
    def _full(self) -> bool:
        """Whether as many messages are held back as may be."""
        return len(self._waiting) >= WAITING_LIMIT

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.dead or self.silent or self._closing:
            return
        self._buffer += data
        if not self._preamble:
            self._take_preamble()
        self._take_frames()

    # incoming

    def _take_frames(self) -> None:
        waiting = self._waiting
        while self._preamble and not self._closing and not self.dead:
            if len(waiting) >= WAITING_LIMIT:
                return
            body = self._next_frame()
            if body is None:
                return
            self._take_frame(body)

    def _take_preamble(self) -> None:
        if PREAMBLE.startswith(bytes(self._buffer[:4])) and len(self._buffer) < 4:
            return
        if self._buffer.startswith(PREAMBLE):
            self._preamble = True
            del self._buffer[:4]
        else:
            self.abort()

    def _next_frame(self) -> bytes | None:
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4])
        if length > FRAME_LIMIT:
            self.abort()
            return None
        if len(self._buffer) < 4 + length:
            return None
        body = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return body

    def _take_frame(self, body: bytes) -> None:
        if self.session is None:
            self._negotiate(body.decode(errors="replace"))
            return
        fields = body.decode(errors="replace").removesuffix("\0").split("\0")
        if self._within_rate(fields):
            self.session.receive(fields)

    def _negotiate(self, offer: str) -> None:
        """Answer `v100..178`, perhaps with options behind it, with the version both speak."""
        versions, _, options = offer.strip("\0 \n").partition(" ")
        low, _, high = versions.removeprefix("v").partition("..")
        if not low.isdecimal() or not (high or low).isdecimal():
            self.abort()
            return
        client_maximum = int(high or low)
        if client_maximum < MINIMUM_SERVER_VERSION:
            message = "The API client is too old: server versions 100 and up are spoken here"
            self.write(frame((4, 2, -1, 503, message)))
            self.close()
            return
        version = min(client_maximum, MAXIMUM_SERVER_VERSION)
        moment = self.world.clock.now().astimezone(EASTERN)
        self.write(frame((version, moment.strftime("%Y%m%d %H:%M:%S %Z"))))
        if int(low) > version:
            self.close()
            return
        self._paced = self._paced or "+PACEAPI" in options
        self._deadline.cancel()
        self.session = Session(self.world, self, version)

    def _within_rate(self, fields: list[str]) -> bool:
        """Count a message; over the limit it is refused, or waits if the client asked for that."""
        now = self._loop.time()
        flooded = self.world.faults.active("rate-exceeded")
        if flooded and self.session and self.session.ready:
            self._warn(now)
            return False
        if self._paced:
            if not self._rate.limit:
                return True
            if self._waiting or not self._rate.fits(now):
                self._wait(fields, now)
                return False
            self._rate.count(now)
            return True
        fits = self._rate.fits(now)
        self._rate.count(min(self._server.polled, now))
        if not fits:
            self._warn(now)
        return fits

    def _wait(self, fields: list[str], now: float) -> None:
        if not self._waiting:
            self._loop.call_later(self._rate.wait(now), self._catch_up)
        self._waiting.append(fields)
        if self._full:
            self._listen()

    def _catch_up(self) -> None:
        if self._closing or self.dead:
            return
        now = self._loop.time()
        while self._waiting and self._rate.fits(now) and self.session and not self._closing:
            self._rate.count(now)
            self.session.receive(self._waiting.popleft())
        if self._waiting and not self._closing:
            self._loop.call_later(max(self._rate.wait(now), 0.001), self._catch_up)
        if not self._closing and not self._full:
            self._listen()
            self._take_frames()

    def _warn(self, now: float) -> None:
        """Say error 100 for each message; a client that goes on regardless is disconnected."""
        warning = self._rate.strike(now)
        if self.session:
            self.session.error(-1, 100, warning)
            if self._rate.ignored:
                self.session.close()

    # outgoing

    def write(self, data: bytes) -> None:
        """Queue bytes; what one turn of the loop produces goes out together."""
        if self.dead or self._closing or self.transport.is_closing():
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        self.world.trading.keep()
        data = b"".join(self._out)
        self._out.clear()
        if self.dead or not data or self.transport.is_closing():
            return
        if self._dribbling or self.world.faults.active("frames-dribbled"):
            self._dribble.extend(data)
            if len(self._dribble) > DRIBBLE_LIMIT:
                self.abort()
            elif not self._dribbling:
                self._dribbling = True
                self._drip()
        elif self._cut_now():
            self.transport.write(data[: max(len(data) - 3, 1)])
            self.transport.close()
        else:
            self.transport.write(data)
        if self.transport.get_write_buffer_size() > BACKLOG_LIMIT:
            self.abort()

    def _cut_now(self) -> bool:
        ready = self.session is not None and self.session.ready
        return ready and self.world.faults.active("frames-cut")

    def _drip(self) -> None:
        if not self.world.faults.active("frames-dribbled"):
            self._undribble()
        if self._dribble and not self.dead and not self.transport.is_closing():
            for place in range(min(DRIBBLE_BYTES, len(self._dribble))):
                self.transport.write(self._dribble[place : place + 1])
            del self._dribble[:DRIBBLE_BYTES]
            self._loop.call_later(DRIBBLE_SECONDS, self._drip)
            return
        self._dribbling = False
        if self._closing:
            self.transport.close()

    def _undribble(self) -> None:
        """The fault is over: what has piled up goes out at once, or it would never catch up."""
        if self._dribble and not self.dead and not self.transport.is_closing():
            self.transport.write(bytes(self._dribble))
        self._dribble.clear()

    def close(self) -> None:
        """Send what is queued, then FIN."""
        if self._closing:
            return
        self._flush()
        self._closing = True
        if not self._dribbling:
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection with RST."""
        self._closing = True
        plain = self.transport.get_extra_info("socket")
        if plain is not None and not self.transport.is_closing():
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def session_ready(self) -> None:
        """The client is ready: some faults strike just then."""
        faults = self.world.faults
        if faults.active("half-open"):
            self.die()
        elif (fault := faults.get("fin")) and fault.seconds:
            self.close()
        elif (fault := faults.get("rst")) and fault.seconds:
            self.abort()

    def die(self) -> None:
        """Become half-open: the socket stays, and nothing moves on it again."""
        if self.session is None or not self.session.ready or self.dead:
            return
        self._flush()
        self.dead = True
        self.transport.pause_reading()
        self.session.lost()

    def _give_up(self) -> None:
        if not self.silent:
            self.abort()
