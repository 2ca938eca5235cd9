"""The WebSocket `/stream`: who may come in, reading what clients say, writing what the hub has.

`install` says what the stream tells, whom it ends and what it counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
import structlog
from prometheus_client import Gauge
from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.account.service import AccountService
from bridge.api import problems
from bridge.api.auth import HEADER, KeyRing, address_of, authenticate_key, mark_known
from bridge.api.connections import WRITE
from bridge.api.health import health
from bridge.api.problems import ForbiddenError, TooManyPendingError, UnauthorizedError
from bridge.api.routing import Principal, RouteTable
from bridge.callers import Scope
from bridge.clock import repeat, settle
from bridge.errors import BridgeError, InvalidRequestError
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.orders.silence import SilenceWatch
from bridge.readiness import readiness
from bridge.services import Services
from bridge.stream.hub import Hub, Session
from bridge.stream.protocol import Authenticate, Heartbeat, Operation, Ping, Subscribe, decode
from bridge.stream.service import StreamService
from bridge.stream.subscriber import ACCOUNT, POSITIONS

log = structlog.get_logger(__name__)
routes = RouteTable("stream")

FIRST_MESSAGE_SECONDS: Final = 5.0
MOST_UNKNOWN, MOST_UNKNOWN_OF_ONE = 32, 16
"""Connections that have not said their key yet: of everyone, and of one address."""

KEY_ENDED: Final = "the key is no longer valid"
MOST_MESSAGE_BYTES: Final = 65_536
MESSAGES_AT_ONCE, MESSAGES_A_SECOND = 60.0, 10.0
MOST_IN_LINE: Final = 60
"""Operations that wait for the one before them; one more is refused, and signs of life are read."""
RETRY_SECONDS: Final = 2.0

GOING_AWAY, TOO_BIG = 1001, 1009
UNAUTHORIZED, TOO_SLOW, TOO_MANY, REPLACED = 4401, 4408, 4429, 4409
_CODES: Final = {
    "too slow": TOO_SLOW,
    "resumed elsewhere": REPLACED,
    "shutting down": GOING_AWAY,
    KEY_ENDED: UNAUTHORIZED,
    "too many messages": TOO_MANY,
    "the message is too large": TOO_BIG,
}
KEY_CHECK_SECONDS: Final = 1.0
"""For what ends by itself: an expiry, a key file that was exchanged."""


class Unknown:
    """The connections that have not said their key yet; the newest push the oldest out.

    So whoever comes with a key gets in, however many hold theirs back: first those go whose address
    has the most.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Timeout, str] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, address: str, limit: asyncio.Timeout) -> None:
        """One more, which ends when `limit` does."""
        counts = Counter(self._waiting.values())
        if counts[address] >= MOST_UNKNOWN_OF_ONE:
            self._push_out(address)
        elif len(self._waiting) >= MOST_UNKNOWN:
            self._push_out(counts.most_common(1)[0][0])
        self._waiting[limit] = address

    def leave(self, limit: asyncio.Timeout) -> None:
        """It has said its key, or has gone."""
        self._waiting.pop(limit, None)

    def _push_out(self, address: str) -> None:
        oldest = next(limit for limit, its in self._waiting.items() if its == address)
        del self._waiting[oldest]
        oldest.reschedule(asyncio.get_running_loop().time())


@routes.websocket("/stream", summary="Quotes, orders, executions and health as they change")
async def stream(services: Services, websocket: WebSocket) -> None:
    """Serves one client until it leaves.

    The key comes in the handshake's `X-API-KEY`, or in the first message. An earlier session is
    resumed by the query parameters `session` and `lastSeq`, or by the same members of that message.
    """
    try:
        connection = await _come_in(services, websocket)
    except WebSocketDisconnect:
        return
    if connection is not None:
        await connection.run()


async def _come_in(services: Services, websocket: WebSocket) -> _Connection | None:
    key = websocket.headers.get(HEADER)
    try:
        if key is None:
            return await _introduce(services, websocket)
        principal = authenticate_key(services, key, address_of(websocket), Scope.READ)
        mark_known(websocket)
        session, last = _resume_of(websocket)
        operation = Authenticate(key=key, session=session, last_seq=last)
        connection = _Connection(services, websocket, principal, operation)
    except BridgeError as error:
        request_id = str(websocket.scope.get("request_id", ""))
        await websocket.send_denial_response(problems.response(error, request_id))
        return None
    await connection.accept()
    return connection


async def _introduce(services: Services, websocket: WebSocket) -> _Connection | None:
    """Lets a client in that will say its key in its first message."""
    await websocket.accept()
    unknown, address = services[Unknown], address_of(websocket)
    limit = asyncio.timeout(FIRST_MESSAGE_SECONDS)
    try:
        async with limit:
            unknown.enter(address, limit)
            text = await _receive(websocket)
        operation = decode(text)
        if not isinstance(operation, Authenticate):
            raise UnauthorizedError("the first message must be the key: {op: auth, key: ...}")
        principal = authenticate_key(services, operation.key, address, Scope.READ)
        mark_known(websocket)
        if operation.session is None:  # the address may say what is resumed as well
            session, last = _resume_of(websocket)
            operation = Authenticate(key=operation.key, session=session, last_seq=last)
        return _Connection(services, websocket, principal, operation)
    except TimeoutError:
        # Slow, or pushed out by others: no word on the key, which its client may well have.
        await _refuse(websocket, UnauthorizedError("no key was sent in time"), TOO_SLOW)
    except BridgeError as error:
        code = TOO_MANY if error.retry_after is not None else UNAUTHORIZED
        await _refuse(websocket, error, code)
    finally:
        unknown.leave(limit)
    return None


async def _refuse(websocket: WebSocket, error: BridgeError, code: int) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        document = problems.members(error, str(websocket.scope.get("request_id", "")))
        await websocket.send_json({"seq": 1, **document, "type": "error"})
        await websocket.close(code, error.detail[:100])


def _resume_of(websocket: WebSocket) -> tuple[str | None, int | None]:
    query = websocket.query_params
    unknown = sorted(set(query) - {"session", "lastSeq"})
    if unknown:
        raise InvalidRequestError(f"{unknown[0]} is not a parameter of the stream")
    if "session" not in query:
        return None, None
    last = query.get("lastSeq", "")
    if not (last.isascii() and last.isdigit() and len(last) < 16):
        raise InvalidRequestError("lastSeq must be the number of the last message received")
    return query["session"], int(last)


async def _receive(websocket: WebSocket) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    text: str | bytes | None = message.get("text")
    return text if text is not None else bytes(message["bytes"])


class _Connection:
    """One client's connection: a reader, a writer, and whoever ends it."""

    def __init__(
        self,
        services: Services,
        websocket: WebSocket,
        principal: Principal,
        operation: Authenticate,
    ) -> None:
        self._services = services
        self._websocket = websocket
        self._service = services[StreamService]
        self._clock = services.clock
        self._principal = principal
        self._holder = principal.holder(address_of(websocket))
        self._ended = asyncio.Event()
        self._reason = ""
        self._allowance = MESSAGES_AT_ONCE
        self._allowed_at = self._clock.monotonic()
        self._in_line: asyncio.Queue[Operation] = asyncio.Queue(MOST_IN_LINE)
        self._session = self._open(operation)
        self._write_text: Callable[..., bool] | None = websocket.scope["extensions"].get(WRITE)
        self._attachment = self._service.hub.attach(self._session, self._end, self._write_now)

    def _open(self, operation: Authenticate) -> Session:
        hub = self._service.hub
        if operation.session is not None:
            back = hub.resume(operation.session, self._holder, operation.last_seq or 0)
            if back is not None:
                session, lost = back
                self._service.greet(session, resumed=True)
                if lost:
                    self._service.tell_gap(session, lost)
                self._service.tell_now(session, lost)
                return session
        session = hub.open(self._holder)
        self._service.greet(session, resumed=False)
        return session

    def _end(self, reason: str) -> None:
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()

    async def accept(self) -> None:
        """Completes the handshake; when that fails the session waits for its client."""
        try:
            await self._websocket.accept()
        except BaseException:
            self._service.hub.detach(self._session, self._attachment)
            raise

    async def run(self) -> None:
        """Until either side ends it."""
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self._ended.wait(), name="stream-end"),
            asyncio.create_task(self._read(), name="stream-reader"),
            asyncio.create_task(self._work(), name="stream-worker"),
            asyncio.create_task(self._write(), name="stream-writer"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._service.hub.detach(self._session, self._attachment)
            await settle(*tasks)
            for task in tasks:
                failure = None if task.cancelled() else task.exception()
                if isinstance(failure, Exception) and not isinstance(failure, WebSocketDisconnect):
                    log.info("stream-ended", error=type(failure).__name__)
        if self._reason:
            await self._close(self._reason)

    async def _close(self, reason: str) -> None:
        with suppress(RuntimeError, WebSocketDisconnect, TimeoutError, OSError):
            async with asyncio.timeout(1.0):
                await self._websocket.close(_CODES.get(reason, GOING_AWAY), reason)

    def _write_now(self) -> bool:
        """What waits, unless the writer has something in hand or the client is slow."""
        if self._write_text is None or self._attachment.sending_since is not None:
            return False
        if not self._write_text():
            return False
        return self._write_text(*self._session.subscriber.take(self._service.hub.cursor))

    async def _write(self) -> None:
        subscriber, attachment, hub = self._session.subscriber, self._attachment, self._service.hub
        send, monotonic = self._websocket.send, self._clock.monotonic
        while True:
            await attachment.wake.wait()
            if self._session.attachment is not attachment:
                return  # what waits is for the connection in its place
            attachment.wake.clear()
            attachment.sending_since = monotonic()
            for text in subscriber.take(hub.cursor):
                await send({"type": "websocket.send", "text": text})
            attachment.sending_since = None
            if subscriber.waiting:
                attachment.wake.set()

    async def _read(self) -> None:
        while True:
            text = await _receive(self._websocket)
            if len(text) > MOST_MESSAGE_BYTES:
                self._end("the message is too large")
            elif not self._may_speak():
                self._end("too many messages")
            else:
                await self._take(text)

    async def _take(self, text: str | bytes) -> None:
        """A sign of life is heeded at once, however much before it waits for the gateway."""
        try:
            operation = decode(text)
        except BridgeError as error:
            self._service.tell_error(self._session, error)
            return
        if isinstance(operation, Ping | Heartbeat):
            await self._obey(operation)
        elif self._in_line.full():
            text = f"{MOST_IN_LINE} operations of this stream wait already: this one was dropped"
            refusal = TooManyPendingError(text, retry_after=RETRY_SECONDS)
            self._service.tell_error(self._session, refusal, operation.id)
        else:
            self._in_line.put_nowait(operation)

    async def _work(self) -> None:
        """All else, one after the other."""
        while True:
            await self._obey(await self._in_line.get())

    async def _obey(self, operation: Operation) -> None:
        try:
            await self._carry_out(operation)
        except BridgeError as error:
            self._service.tell_error(self._session, error, operation.id)

    async def _heartbeat(self, operation: Heartbeat) -> None:
        if self._principal.scope < Scope.TRADE:
            raise ForbiddenError("a heartbeat needs a key of scope trade")
        watch, key = self._services[SilenceWatch], self._principal.key_id
        view = await (watch.leave(key) if operation.off else watch.beat(key))
        members = msgspec.to_builtins(view)
        self._service.hub.tell(self._session, "heartbeat", id=operation.id, **members)

    async def _carry_out(self, operation: Operation) -> None:
        service, session = self._service, self._session
        if isinstance(operation, Authenticate):
            raise InvalidRequestError("this stream knows its key already")
        if isinstance(operation, Ping):
            service.hub.tell(session, "pong", id=operation.id, at=self._clock.now())
        elif isinstance(operation, Heartbeat):
            await self._heartbeat(operation)
        elif isinstance(operation, Subscribe):
            await service.subscribe(session, operation)
        else:
            service.unsubscribe(session, operation)

    def _may_speak(self) -> bool:
        now = self._clock.monotonic()
        grown = self._allowance + (now - self._allowed_at) * MESSAGES_A_SECOND
        self._allowance = min(grown, MESSAGES_AT_ONCE) - 1
        self._allowed_at = now
        return self._allowance >= 0


def install(services: Services) -> None:
    """Provides the stream; its health channel says what `/health` says, ended keys end it."""
    service = StreamService(
        services.gateway,
        services[QuoteService],
        services[ContractService],
        services.clock,
        services.environment.max_streams,
    )
    service.health = lambda: health(services)
    service.state = lambda: readiness(services).state
    account = services[AccountService]

    def positions() -> tuple[object, object | None]:
        known = account.complete[0]
        return account.positions_changed, account.positions_now() if known else None

    def values() -> tuple[object, object | None]:
        known = account.complete[1]
        version = account.values_changed, account.unconfirmed_accounts
        return version, account.accounts_now() if known else None

    service.states = {POSITIONS: positions, ACCOUNT: values}
    services.provide(StreamService, service)
    services.provide(Unknown, Unknown())
    services.on_start(service.start)
    services.on_stop(service.stop)
    _count(services, service.hub)
    _end_with_keys(services, service.hub)


def _count(services: Services, hub: Hub) -> None:
    for name, text, read in (
        ("bridge_streams", "Streams with a client", lambda: hub.attached),
        ("bridge_stream_events", "Events published since the start", lambda: hub.cursor),
        ("bridge_streams_cut_off", "Clients cut off as too slow", lambda: hub.cut_off),
        ("bridge_streams_conflated", "Times that clients were too slow", lambda: hub.conflations),
    ):
        Gauge(name, text, registry=services.metrics).set_function(read)


def _end_with_keys(services: Services, hub: Hub) -> None:
    """A stream ends with its key: at once when that is revoked, else within a second."""
    ring, tasks = services[KeyRing], list[asyncio.Task[None]]()

    def end() -> None:
        hub.end(lambda holder: not ring.holds(holder), KEY_ENDED)

    async def start() -> None:
        looks = repeat(services.clock, KEY_CHECK_SECONDS, "stream-keys", end)
        tasks.append(asyncio.create_task(looks, name="stream-keys"))

    async def stop() -> None:
        await settle(*tasks)

    ring.on_ended(end)
    services.on_start(start)
    services.on_stop(stop)
