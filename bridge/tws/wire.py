"""One TCP connection to the gateway: reaching it, framing, greeting, loss.

The life of a wire: dialled -> greeted (version agreed; needs no client id) -> started (next order
id and accounts are in) -> lost. A wire is never used again after its loss.

What comes is worked on for a few milliseconds at a time, and nothing more is read meanwhile: a
gateway that floods is held up by TCP, and everyone else has their turn. No message may be larger
than its kind ever is; one that is gets skipped as it comes in, without being kept.

A connection that is taken and then met with silence says nothing about the next one (a gateway that
hung at start leaves such sockets behind), so while one waits for its greeting `greet` dials another
every ``STAGGER`` seconds; the first to be greeted wins. A greeting takes no client id, so these
never conflict with one another.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, cast

import structlog

from bridge.clock import TimerClock, settle, within
from bridge.tws.client import GREETING, MIN_VERSION, Codec, Readings
from bridge.tws.connection_state import DialProblem

MAX_MESSAGE = 16 * 1024 * 1024  # nothing that the gateway sends comes near
LARGEST: Final = 256 * 1024
LARGEST_OF_KIND: Final[Mapping[bytes, int]] = MappingProxyType(
    {
        b"4": 16 * 1024,  # a text for people
        b"17": 4 * 1024 * 1024,  # the bars of one request
        b"75": 1024 * 1024,  # the strikes of an underlying
    }
)
_CUT_OFF: Final = b"4"  # what is cut after its largest size instead of skipped: who waits is told
_GREETING_BYTES: Final = 1024
_KIND_BYTES: Final = 8
TURN_SECONDS: Final = 0.005
HELD_UP_SECONDS: Final = 0.02
LONGEST_HELD_UP: Final = 2.0  # longer, and a heartbeat's answer would be taken for lost
log = structlog.get_logger(__name__)
STAGGER = 1.0
PATIENCE = 10.0  # a machine that swaps may take this long to greet
TCP_SECONDS = 3.0
SILENT_ATTEMPTS = 3  # unanswered at once: then it is worth saying so
MOST_KNOWN = 8
_known: dict[tuple[str, int], str] = {}  # where a name was reached last


class CloseReason(StrEnum):
    """Why a connection ended, as ``lastDisconnectReason`` shows it."""

    UNANSWERED = "two heartbeats in a row got no answer: half-open or hung"
    LET_GO = "the bridge has let go of the connection"
    NOT_STARTED = "the session was not started"
    SETTINGS_CHANGED = "the connection settings have changed"
    ANOTHER_GREETED = "another attempt was greeted first"
    GIVEN_UP = "given up"
    NO_GATEWAY = "what answers is no gateway"
    CLOSED_BY_GATEWAY = "the gateway closed the connection"
    STOPPING = "the bridge is stopping"


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
        self.on_size: Callable[[int], None] | None = None
        self.held_up: Callable[[], bool] = lambda: False
        """Whether those who keep what comes need a moment."""
        self.skipped = 0
        self._skip = 0
        self._cut: bytes | None = None
        self._again: asyncio.Handle | None = None
        self._held_since: float | None = None

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
        """Takes in what came; works on it now, or when it is its turn again."""
        self.last_read = self._clock.monotonic()
        self._buffer += data
        if self._again is None:
            self._work()

    def _work(self) -> None:
        """Splits what came into messages, for one turn."""
        self._again = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._must_wait(now):
            self._again = loop.call_later(HELD_UP_SECONDS, self._work)
            self._pause()
            return
        turn_ends, start = now + TURN_SECONDS, 0
        while self.alive and (taken := self._one(start)):
            start += taken
            if loop.time() > turn_ends:
                break
        else:
            del self._buffer[:start]
            self._resume()
            return
        del self._buffer[:start]
        self._pause()
        self._again = loop.call_later(0.0005, self._work)  # others come first, once each

    def _must_wait(self, now: float) -> bool:
        if not self._buffer or not self.held_up():
            self._held_since = None
            return False
        if self._held_since is None:
            self._held_since = now
        return now - self._held_since < LONGEST_HELD_UP

    def _one(self, start: int) -> int:
        """Works on the next message; the bytes that it took, 0 when it is not whole yet."""
        end = len(self._buffer)
        if self._skip:
            return self._skipped(end - start)
        if end - start <= 4:
            return 0
        length: int = struct.unpack_from(">I", self._buffer, start)[0]
        if length > MAX_MESSAGE or (not self.version and length > _GREETING_BYTES):
            self.drop(f"a message of {length} bytes: no gateway, or a broken stream")
            return 0
        there = end - start - 4
        kind = bytes(self._buffer[start + 4 : start + 4 + _KIND_BYTES]).split(b"\0", 1)[0]
        largest = LARGEST_OF_KIND.get(kind, LARGEST)
        if length > largest and there >= _KIND_BYTES:
            if kind == _CUT_OFF and there < largest:
                return 0
            head = bytes(self._buffer[start + 4 : start + 4 + largest])
            self._begin_skipping(kind, length, head)
            return 4
        if there < length:
            return 0
        message = bytes(self._buffer[start + 4 : start + 4 + length])
        self._message(message)
        return 4 + length

    def _begin_skipping(self, kind: bytes, length: int, head: bytes) -> None:
        self.skipped += 1
        if self.skipped & (self.skipped - 1) == 0:  # the first, second, fourth ... of them
            log.warning(
                "message-too-large",
                kind=kind.decode("latin-1"),
                bytes=length,
                times=self.skipped,
            )
        self._skip = length
        self._cut = head + b"\0" if kind == _CUT_OFF else None

    def _skipped(self, there: int) -> int:
        taken = min(self._skip, there)
        self._skip -= taken
        if not self._skip and self._cut is not None:
            cut, self._cut = self._cut, None
            self._message(cut)
        return taken

    def _pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def _resume(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing() and not transport.is_reading():
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket has ended."""
        self._transport = None
        self._lose(f"connection lost: {exc}" if exc else CloseReason.CLOSED_BY_GATEWAY)

    # ------------------------------------------------------------------------------------------

    def start(self, callbacks: object, *, client_id: int, readings: Readings | None = None) -> None:
        """Takes the client id: from here on the gateway knows this client."""
        version = self.version
        self.codec = Codec(
            self.write, callbacks, version=version, client_id=client_id, readings=readings
        )
        self.send.startApi()

    def write(self, data: bytes) -> None:
        """Hands bytes to the socket; nothing when it has ended."""
        if self._transport is not None:
            self._transport.write(data)

    def drop(self, reason: str) -> None:
        """Ends the connection at once, whatever is unsent."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._buffer.clear()
        if not self.lost.done():
            self.lost.set_result(reason)
        if not self.greeted.done():
            self.greeted.cancel()

    def _message(self, payload: bytes) -> None:
        self.messages_read += 1
        if not self.version:
            self._greet(payload)
        elif self.codec is not None:
            if self.on_size:
                self.on_size(len(payload))
            self.codec.receive(payload)

    def _greet(self, payload: bytes) -> None:
        try:
            self.version = int(payload.split(b"\0", 1)[0])
        except ValueError:
            self.drop(CloseReason.NO_GATEWAY)
            return
        if self.version < MIN_VERSION:
            self.drop(f"gateway speaks version {self.version}, at least {MIN_VERSION} is needed")
            return
        if not self.greeted.done():
            self.greeted.set_result(self.version)


class DialError(Exception):
    """One attempt to reach the gateway that failed, with the step and its reason."""

    def __init__(self, problem: DialProblem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail


async def greet(
    host: str, port: int, clock: TimerClock, on_silence: Callable[[], None] | None = None
) -> Wire:
    """A greeted wire, or ``DialError``; bounded by ``PATIENCE``.

    ``on_silence`` is called when a connection was taken and nobody has greeted for a while.
    """
    attempts: set[asyncio.Task[Wire]] = set()
    winner: asyncio.Task[Wire] | None = None
    deadline = clock.monotonic() + PATIENCE
    try:
        while clock.monotonic() < deadline:
            attempts.add(asyncio.ensure_future(_attempt(host, port, clock)))
            done = await _first(attempts, clock, min(STAGGER, deadline - clock.monotonic()))
            if done is not None:
                wire = done.result()
                winner = done
                return wire
            if on_silence and len(attempts) == SILENT_ATTEMPTS:
                on_silence()
        raise DialError(DialProblem.SILENT, f"{host}:{port} takes connections but does not answer")
    finally:
        if winner:
            attempts.discard(winner)
        await settle(*attempts)
        for task in attempts:
            if not task.cancelled() and task.exception() is None:
                task.result().drop(CloseReason.ANOTHER_GREETED)


async def _first(
    attempts: set[asyncio.Task[Wire]], clock: TimerClock, seconds: float
) -> asyncio.Task[Wire] | None:
    timer = asyncio.ensure_future(clock.sleep(max(0.001, seconds)))
    try:
        done, _ = await asyncio.wait({*attempts, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await settle(timer)
    finished = [task for task in attempts if task in done]
    return min(finished, key=lambda task: task.exception() is not None, default=None)


async def _attempt(host: str, port: int, clock: TimerClock) -> Wire:
    wire = Wire(clock)
    try:
        await within(clock, TCP_SECONDS, _connect(wire, host, port))
        ends: set[asyncio.Future[Any]] = {wire.greeted, wire.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if wire.lost.done():
            detail = wire.lost.result()
            raise DialError(DialProblem.CLOSED, f"{host}:{port} took the connection, but {detail}")
    except TimeoutError:
        raise DialError(
            DialProblem.UNREACHABLE,
            f"{host}:{port} did not take the connection in {TCP_SECONDS:g} s",
        ) from None
    except OSError as error:
        raise _network_problem(host, port, error) from None
    except asyncio.CancelledError:
        wire.drop(CloseReason.GIVEN_UP)
        raise
    return wire


async def _connect(wire: Wire, host: str, port: int) -> None:
    """Opens it to the host, or, while nobody answers for names, to where the host was last.

    In a container the engine answers for names, and is away while it is upgraded. A name that is
    answered to be unknown (EAI_NONAME) is a host that has gone: its address may be another's now.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(lambda: wire, host, port)
    except socket.gaierror as error:
        if error.errno != socket.EAI_AGAIN or (host, port) not in _known:
            raise
        await loop.create_connection(lambda: wire, _known[host, port], port)
        return
    peer = transport.get_extra_info("peername")
    if peer is not None:
        _known.pop((host, port), None)
        _known[host, port] = str(peer[0])
        while len(_known) > MOST_KNOWN:
            del _known[next(iter(_known))]


def _network_problem(host: str, port: int, error: OSError) -> DialError:
    if isinstance(error, ConnectionRefusedError):
        return DialError(DialProblem.REFUSED, f"{host}:{port} refused the connection")
    if isinstance(error, ConnectionError):
        return DialError(DialProblem.CLOSED, f"{host}:{port} reset the connection")
    return DialError(
        DialProblem.UNREACHABLE, f"{host}:{port} cannot be reached: {error.strerror or error}"
    )
