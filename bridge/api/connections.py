"""Connections and their budgets, from the first byte on: uvicorn's protocols, with an end to each.

Who has not shown a key may open only so much, send only so many bytes and frames (control frames
and empty ones count), and take only so long. When there are too many connections, an unknown one is
the first to go. Nothing more is read from a peer that does not read what it was answered.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, Protocol

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from bridge.api.middleware import ALWAYS
from bridge.api.turns import Turns

log = structlog.get_logger(__name__)

MOST_CONNECTIONS: Final = 512
HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 10.0
MOST_PIPELINED: Final = 32
"""Requests that a peer may send ahead of the answers; each of them is kept whole until its turn."""
CLOSING_SECONDS: Final = 5.0
"""So long a peer may take to read the last words."""

UNKNOWN_BYTES, UNKNOWN_FRAMES = 8 * 1024, 32
"""All that a stream may send before its key."""

KNOWN_BYTES, KNOWN_BYTES_A_SECOND = 1024 * 1024, 128 * 1024
KNOWN_FRAMES, KNOWN_FRAMES_A_SECOND = 240, 60
MESSAGE_SECONDS: Final = 10.0
"""From a message's first frame to its last."""

READS: Final = ("GET", "HEAD")
_SLICE: Final = 4096
POLICY_VIOLATION: Final = 1008
KNOWN: Final = "gangway.known"
"""In a scope's extensions: to be called when a key was shown."""

WRITE: Final = "gangway.write"
"""In a stream's: writes a text without waiting; False when the peer has to be waited for."""


class Connection(Protocol):
    """What the list of connections has to know of each."""

    transport: asyncio.Transport

    @property
    def waits(self) -> bool:
        """Whether nothing of it is being worked on."""


class Connections:
    """All connections of one server, the oldest first.

    `kinds` are the first parts of the addresses that there are; None: any is one.
    """

    def __init__(self, most: int = MOST_CONNECTIONS, kinds: Collection[str] | None = None) -> None:
        self._most = most
        self._kinds = kinds
        self._unknown: dict[Connection, None] = {}
        self._known: set[Connection] = set()
        self.dropped = 0
        self.turns = Turns()

    def __len__(self) -> int:
        return len(self._unknown) + len(self._known)

    def opened(self, connection: Connection) -> None:
        """One more; another one goes if there are too many."""
        self._unknown[connection] = None
        if len(self) <= self._most:
            return
        waiting = (each for each in self._unknown if each.waits)
        victim = next(waiting, None) or next(iter(self._unknown))
        self.ended(victim)
        self.dropped += 1
        victim.transport.abort()

    def known(self, connection: Connection) -> None:
        """It has shown a key."""
        if self._unknown.pop(connection, self) is None:
            self._known.add(connection)

    def ended(self, connection: Connection) -> None:
        self._unknown.pop(connection, None)
        self._known.discard(connection)

    def line_of(self, path: str) -> str:
        """In which line a read stands; nobody makes more lines by asking for what there is not."""
        kind = path.partition("/")[2].partition("/")[0]
        return kind if self._kinds is None or kind in self._kinds else ""

    def protocols(self) -> tuple[type[asyncio.Protocol], type[asyncio.Protocol]]:
        """The classes for uvicorn's `http` and `ws`."""
        connections = self

        class Http(BoundedHttp):
            connected = connections

        class WebSocket(BoundedWebSocket):
            connected = connections

        return Http, WebSocket


def end_soon(transport: asyncio.Transport) -> None:
    """Closes; what the peer has not read after a while is thrown away."""
    transport.close()
    asyncio.get_running_loop().call_later(CLOSING_SECONDS, transport.abort)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP, with an end to heads: their bytes, and the time until they are whole."""

    connected: Connections

    def connection_made(self, transport: BaseTransport) -> None:
        """The peer has connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._head_bytes = 0
        self._in_head = True
        self._hurries = False
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(
            HEAD_SECONDS, self._give_up
        )
        self.connected.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._stop_timer()
        self._calm()
        self.connected.ended(self)
        super().connection_lost(exc)

    @property
    def waits(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer's."""
        for start in range(0, len(data), _SLICE):
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            if not self._in_head:
                super().data_received(data[start:])
                return
            part = data[start : start + _SLICE]
            self._head_bytes += len(part)
            if self._head_bytes > HEAD_BYTES:
                self._give_up()
                return
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)
            super().data_received(part)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_timer()
        self._head_bytes, self._in_head = 0, False
        if len(self.pipeline) >= MOST_PIPELINED:
            self._give_up()  # what is left of this piece is still parsed: none of it is kept
            return
        super().on_headers_complete()
        scope = getattr(self, "scope", None)
        if scope is not None:
            changes = scope["method"] not in READS
            scope.setdefault("extensions", {})[KNOWN] = partial(self._key_shown, changes)

    def on_message_complete(self) -> None:
        """The body is whole: what comes next is another head."""
        self._in_head = True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """From here on it is a stream."""
        self._stop_timer()
        self.connected.ended(self)
        super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        """Answered."""
        self._calm()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Orders, cancels and looks at the bridge's health at once; other reads in their turn."""
        scope = cycle.scope
        if scope["method"] not in READS or scope["path"] in ALWAYS:
            super()._start_asgi_task(cycle, app)
        else:
            line = self.connected.line_of(scope["path"])
            self.connected.turns.read(partial(self._begin, cycle, app), line)

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:  # else nobody waits for what it would read
            super()._start_asgi_task(cycle, app)

    def _key_shown(self, changes: bool) -> None:
        """Reads of others are held back only for whom the bridge knows."""
        self.connected.known(self)
        if changes and not self._hurries:
            self._hurries = True
            self.connected.turns.hurry()

    def _calm(self) -> None:
        if self._hurries:
            self._hurries = False
            self.connected.turns.calm()

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _head_of(length: int) -> bytes:
    """The head of a text that is sent whole (RFC 6455, section 5.2); a server does not mask."""
    if length < 126:
        return bytes((0x81, length))
    if length < 0x10000:
        return b"\x81\x7e" + length.to_bytes(2)
    return b"\x81\x7f" + length.to_bytes(8)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with budgets of bytes, frames and time that a key makes larger."""

    connected: Connections

    def connection_made(self, transport: BaseTransport) -> None:
        """The handshake has begun."""
        super().connection_made(transport)
        self._bytes = float(UNKNOWN_BYTES)
        self._frames = float(UNKNOWN_FRAMES)
        self._known = self._over = False
        self._counted_at = self.loop.time()
        self._message_timer: asyncio.TimerHandle | None = None
        self.connected.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._message_whole()
        self.connected.ended(self)
        super().connection_lost(exc)

    @property
    def waits(self) -> bool:
        """Always, while its key is not known."""
        return not self._known

    def handle_connect(self, event: Any) -> None:
        """Hands the application a way to say that the key is good."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][KNOWN] = self._key_shown
            scope["extensions"][WRITE] = self.write_now

    def _key_shown(self) -> None:
        self._known = True
        self._bytes, self._frames = float(KNOWN_BYTES), float(KNOWN_FRAMES)
        self._counted_at = self.loop.time()
        self.connected.known(self)

    # what comes ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """In small parts, so that budgets are looked at before a thousand frames were read."""
        if not self.handshake_initiated:
            super().data_received(data)
            return
        self._refill()
        self._bytes -= len(data)
        if self._bytes < 0:
            self._exceeded("too many bytes")
        for start in range(0, len(data), _SLICE):
            if self._over or self.transport.is_closing():
                return
            super().data_received(data[start : start + _SLICE])

    def _refill(self) -> None:
        if self._known:
            now = self.loop.time()
            passed, self._counted_at = now - self._counted_at, now
            self._bytes = min(KNOWN_BYTES, self._bytes + passed * KNOWN_BYTES_A_SECOND)
            self._frames = min(KNOWN_FRAMES, self._frames + passed * KNOWN_FRAMES_A_SECOND)

    def _may(self) -> bool:
        """Books a frame, whatever it holds."""
        if self._over:
            return False
        self._frames -= 1
        if self._frames < 0:
            self._exceeded("too many frames")
        return not self._over

    def _exceeded(self, why: str) -> None:
        if self._over:
            return
        self._over = True
        log.info("stream-over-budget", why=why, known=self._known)
        self._message_whole()
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(POLICY_VIOLATION, why)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.frames = []
        self.queue.put_nowait({"type": "websocket.disconnect", "code": POLICY_VIOLATION})
        end_soon(self.transport)

    def _message_begun(self) -> None:
        if self._message_timer is None:
            self._message_timer = self.loop.call_later(
                MESSAGE_SECONDS, self._exceeded, "a message took too long"
            )

    def _message_whole(self) -> None:
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None

    def _data_frame(self, event: Frame, handle: Callable[[Frame], None]) -> None:
        if not self._may():
            return
        if event.fin:
            self._message_whole()
        else:
            self._message_begun()
        handle(event)

    def handle_text(self, event: Frame) -> None:
        """The first frame of a text."""
        self._data_frame(event, super().handle_text)

    def handle_bytes(self, event: Frame) -> None:
        """The first frame of bytes."""
        self._data_frame(event, super().handle_bytes)

    def handle_cont(self, event: Frame) -> None:
        """A further frame; empty ones are counted, not kept."""
        if not event.data and not event.fin:
            self._may()
            return
        self._data_frame(event, super().handle_cont)

    def handle_ping(self) -> None:
        """Answered, as far as the budget goes."""
        if self._may():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Heeded, as far as the budget goes."""
        if self._may():
            super().handle_pong(event)

    # back-pressure ------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The peer does not read: nothing more of it is read, either."""
        super().pause_writing()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def write_now(self, *texts: str) -> bool:
        """All of them, or none: a fan-out has no time for a task and a queue for each client."""
        if not (self._is_open() and self.writable.is_set()):
            return False
        for text in texts:
            content = text.encode()
            self.transport.write(_head_of(len(content)) + content)
        return True

    def _is_open(self) -> bool:
        return self.handshake_complete and not self.close_sent and self.conn.state is State.OPEN

    async def receive(self) -> Any:
        """The next event for the application."""
        message = await super().receive()
        if not self.writable.is_set() and not self.transport.is_closing():
            self.transport.pause_reading()
        return message

    async def send(self, message: Any) -> None:
        """An event of the application's; after the last one the peer has a little time."""
        if message["type"] == "websocket.send" and self._is_open():
            await self.writable.wait()
            if self.write_now(message["text"]):
                return
        await super().send(message)
        if message["type"] == "websocket.close" and self.close_sent:
            if self._known:
                self.loop.call_later(CLOSING_SECONDS, self.transport.abort)
            else:
                end_soon(self.transport)  # it is not waited for
