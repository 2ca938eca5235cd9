"""One client: what it may ask, its subscriptions, start and time, how messages get to it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from simulator.rewriting import TO_CLIENT, TO_GATEWAY
from simulator.tws.wire import Layout, MalformedError, Reader, frame, unframed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from simulator.world import World

LOG = logging.getLogger("simulator")
START_API = 71
ERROR_MESSAGE = 4
RECORD_LIMIT = 1_000
RECORD_FIELDS, RECORD_CHARACTERS = 120, 1_000
BATCH = 100
PAUSE_SECONDS = 0.01


Handler = Callable[["Session", Reader], None]
HANDLERS: dict[int, Handler] = {}
UPSTREAM: set[int] = set()
"""Requests that the broker's servers answer: nothing comes while the link to them is lost."""


def handles(message_id: int, *, upstream: bool = False) -> Callable[[Handler], Handler]:
    """Register the decorated function as the answer to a request.

    Args:
        message_id: the request.
        upstream: only the broker's servers can answer it.
    """

    def register(handler: Handler) -> Handler:
        if message_id in HANDLERS:
            raise RuntimeError(f"two handlers for message {message_id}")
        HANDLERS[message_id] = handler
        if upstream:
            UPSTREAM.add(message_id)
        return handler

    return register


class Pipe(Protocol):
    """What a session needs of its connection."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""

    def close(self) -> None:
        """Send what is queued, then close."""

    def abort(self) -> None:
        """Drop the connection at once; what is queued is lost."""

    def session_ready(self) -> None:
        """The client has got its next valid id."""

    writable: bool
    """False while the client does not read what it was sent."""


class Session:
    """A connected client after the handshake."""

    def __init__(self, world: World, pipe: Pipe, version: int) -> None:
        self.world = world
        self.pipe = pipe
        self.version = version
        self.client_id = -1
        self.started = False
        """startApi was accepted."""
        self.ready = False
        """The client has its next valid id."""
        self.closed = False
        self.market_data_type = 1
        self.last_current_time = 0.0
        self.subscriptions: dict[tuple[str, int], Callable[[], object]] = {}
        """(kind, request id) -> what ends it; also what upstream-restored-data-lost drops."""
        self.received: deque[tuple[float, str]] = deque(maxlen=RECORD_LIMIT)
        self.counts: Counter[int] = Counter()
        """Message id -> how often it came, unknown ids as 0."""

    @property
    def is_master(self) -> bool:
        """Whether this client sees every client's orders and executions."""
        return self.client_id == self.world.options.master_client_id

    def send(self, *values: object) -> None:
        """Send one message of these fields."""
        if not self.closed:
            self.write(frame(values))

    def write(self, data: bytes) -> None:
        """Send whole frames, as the fault `wire-rewrite` lets them through."""
        if not self.world.rewriting.active:
            self.pipe.write(data)
            return
        for fields in unframed(data):
            self.world.rewriting.pass_on(self, TO_CLIENT, fields, self.put)

    def put(self, fields: list[str]) -> None:
        """Send one message as it is, whatever the rules of `wire-rewrite` say."""
        if not self.closed:
            self.pipe.write(frame(fields))

    def send_layout(self, layout: Layout, content: Mapping[str, Any]) -> None:
        """Send a message as its layout has it at this client's version."""
        self.send(*layout.values(self.version, content))

    def stream(self, messages: Iterator[bytes]) -> None:
        """Send many frames without holding up other clients or outrunning this one."""
        if self.closed:
            return
        if self.pipe.writable:
            for count, message in enumerate(messages, 1):
                self.write(message)
                if count == BATCH:
                    break
            else:
                return
        wait = 0.0 if self.pipe.writable else PAUSE_SECONDS
        asyncio.get_running_loop().call_later(wait, self.stream, messages)

    def error(self, request_id: int, code: int, message: str, advanced: str = "") -> None:
        """Send an error or a notice; request id -1 concerns the connection."""
        tail = (advanced,) if self.version >= 166 else ()
        self.send(ERROR_MESSAGE, 2, request_id, code, message, *tail)

    def subscribe(self, kind: str, request_id: int, end: Callable[[], object]) -> None:
        """Remember what runs, so that it ends with its cancel or with the client."""
        self.unsubscribe(kind, request_id)
        self.subscriptions[kind, request_id] = end

    def unsubscribe(self, kind: str, request_id: int) -> bool:
        """End a subscription; whether there was one."""
        end = self.subscriptions.pop((kind, request_id), None)
        if end:
            end()
        return end is not None

    def drop_subscriptions(self, kinds: Collection[str] | None = None) -> None:
        """End every subscription, or those of some kinds, without a word to the client."""
        for kind, request_id in list(self.subscriptions):
            if kinds is None or kind in kinds:
                self.unsubscribe(kind, request_id)

    def receive(self, fields: list[str]) -> None:
        """Answer one request, as the fault `wire-rewrite` lets it through."""
        if self.world.rewriting.active:
            self.world.rewriting.pass_on(self, TO_GATEWAY, fields, self.take)
        else:
            self.take(fields)

    def take(self, fields: list[str]) -> None:
        """Answer one request; a client that has left gets none."""
        if self.closed:
            return
        message_id = int(fields[0]) if fields[0].isdecimal() and len(fields[0]) < 9 else 0
        self._record(message_id, fields)
        if not self.started and message_id != START_API:
            self.error(-1, 320, "Error reading request. startApi must come first")
            return
        if message_id in UPSTREAM and self.world.faults.active("upstream-lost"):
            return
        handler = HANDLERS.get(message_id)
        try:
            if handler is None:
                self._refuse(fields)
            else:
                handler(self, Reader(fields[1:], self.version))
        except MalformedError as error:
            self.error(_request_id(fields), 320, f"Error reading request. {error}")
        except Exception:  # a client must never be able to stop the gateway
            LOG.exception("message %s failed: %s", message_id, self.received[-1][1])
            self.error(
                _request_id(fields), 322, "Error processing request.-'xx' : cause - internal"
            )

    def _refuse(self, fields: list[str]) -> None:
        text = f"Error reading request. Unknown message id {fields[0][:20]!r}"
        self.error(_request_id(fields), 320, text)

    def _record(self, message_id: int, fields: list[str]) -> None:
        self.counts[message_id if message_id in HANDLERS else 0] += 1
        text = "|".join(fields[:RECORD_FIELDS])[:RECORD_CHARACTERS]
        self.received.append((self.world.clock.time(), text))

    def close(self) -> None:
        """The gateway ends the connection."""
        self.pipe.close()

    def lost(self) -> None:
        """The connection is gone."""
        if not self.closed:
            self.closed = True
            self.drop_subscriptions()
            self.world.session_closed(self)

    def record(self, limit: int = RECORD_LIMIT) -> dict[str, Any]:
        """What `GET /book` shows of this client, with its last messages."""
        received = list(self.received)[-limit:]
        return {
            "clientId": self.client_id,
            "serverVersion": self.version,
            "ready": self.ready,
            "messages": self.counts.total(),
            "counts": dict(self.counts),
            "subscriptions": len(self.subscriptions),
            "received": [{"time": at, "fields": text.split("|")} for at, text in received],
        }


def _request_id(fields: list[str]) -> int:
    """The id that an error about this message carries: its second or third field."""
    for each in fields[1:3][::-1]:
        if each.lstrip("-").isdecimal():
            return int(each)
    return -1


NEXT_VALID_ID = 9
MANAGED_ACCOUNTS = 15
CURRENT_TIME = 49

FARMS = (
    (2104, "Market data farm connection is OK:usfarm.nj"),
    (2104, "Market data farm connection is OK:usfuture"),
    (2104, "Market data farm connection is OK:cashfarm"),
    (2104, "Market data farm connection is OK:usopt"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefnj"),
)
IN_USE = "Unable to connect as the client id is already in use. Retry with a unique client id."
UPSTREAM_BROKEN = (
    "Connectivity between Trader Workstation and server is broken. "
    "It will be restored automatically."
)
CLOSE_AFTER_START_SECONDS = 0.5
SLOW_LOGIN_SECONDS = 20.0
READ_ONLY = "Error validating request.-'xx' : cause - API interface is currently in Read-Only mode."


@handles(71)
def start_api(session: Session, fields: Reader) -> None:
    """Give the client its accounts and next valid id, unless its id is taken."""
    fields.integer()
    client_id = fields.integer()
    world = session.world
    if session.started:
        return
    taken = any(each.client_id == client_id for each in world.sessions)
    if taken or world.faults.active("client-id-in-use"):
        session.error(-1, 326, IN_USE)
        session.close()
        return
    session.client_id = client_id
    session.started = True
    if world.faults.active("close-after-start"):
        world.clock.later(CLOSE_AFTER_START_SECONDS, session.close)
    slow = world.faults.get("slow-login")
    if slow:
        wait = float(slow.parameters.get("delay", SLOW_LOGIN_SECONDS))
        hold = world.clock.later(wait, lambda: greet(session))
        session.subscribe("login", 0, hold.cancel)
    else:
        greet(session)


def greet(session: Session) -> None:
    """What a gateway says unasked once the client has started."""
    if session.ready or session.closed:
        return
    session.ready = True
    world = session.world
    session.send(MANAGED_ACCOUNTS, 1, ",".join(world.accounts))
    session.send(NEXT_VALID_ID, 1, world.trading.next_order_id)
    if world.faults.active("upstream-lost"):
        session.error(-1, 2110, UPSTREAM_BROKEN)
    else:
        for code, message in FARMS:
            session.error(-1, code, message)
    world.session_ready(session)
    session.pipe.session_ready()


@handles(8)
def request_ids(session: Session, fields: Reader) -> None:
    """Give the next valid id again."""
    fields.skip(2)
    session.send(NEXT_VALID_ID, 1, session.world.trading.next_order_id)


@handles(17)
def request_managed_accounts(session: Session, fields: Reader) -> None:
    """List the accounts of this login."""
    fields.skip(1)
    session.send(MANAGED_ACCOUNTS, 1, ",".join(session.world.accounts))


@handles(49)
def request_current_time(session: Session, fields: Reader) -> None:
    """Give the broker's time in whole seconds; a second request within a second is ignored."""
    fields.skip(1)
    now = session.world.clock.time()
    if now - session.last_current_time >= 1.0:
        session.last_current_time = now
        session.send(CURRENT_TIME, 1, int(now))


@handles(14)
def set_server_log_level(session: Session, fields: Reader) -> None:
    """Take the log level, 1 to 5; there is no answer."""
    fields.skip(1)
    level = fields.integer()
    if not 1 <= level <= 5:
        session.error(-1, 319, f"Invalid log level {level}")
