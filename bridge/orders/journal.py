"""Brings what the broker says into the journal, in its order, and wakes whoever waits for it.

One task owns the queue: it takes all that has come, applies it in one synced transaction, and only
then tells anyone. So nobody ever hears of something that the journal could lose.

Only what can heal is tried again (a full disk may be emptied); a message that can never be kept is
set aside (`apply`). Meanwhile nobody waits longer than a moment, and `condition` shows for how
long the oldest message has been waiting. What comes while too much waits is dropped and asked for
again (`missed`): the broker lists its orders and the day's executions as often as it is asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, Self, TypeVar

import msgspec
import structlog

from bridge.auditing import Caller
from bridge.clock import Clock, settle
from bridge.model import Execution, OpenOrder, OrderStatus
from bridge.orders import lifecycle, order_ids
from bridge.orders.apply_messages import (
    Applied,
    Message,
    OrderErrorMessage,
    Own,
    apply_messages,
    apply_own,
)
from bridge.orders.errors import KeyBoundError, OrderNotOpenError, UnknownOrderError
from bridge.orders.lifecycle import BrokerError, Happening, Reported, Sent, StatusReported
from bridge.orders.order_ids import perm_id_of
from bridge.orders.order_types import INSTRUCTIONS
from bridge.orders.views import order_view
from bridge.store import Database, StoreBehindError, StoreError, orders, quarantine
from bridge.store.condition import JournalCondition
from bridge.store.executions import ExecutionRow
from bridge.store.identity import ACCEPT
from bridge.store.orders import OrderRecord
from bridge.tws.errors import TwsError
from bridge.tws.events import Signal
from bridge.tws.gateway import Gateway

log = structlog.get_logger(__name__)

_BATCH: Final = 500
_RETRY_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 2.0
_LAST_FLUSH_SECONDS: Final = 0.7
_MOST_WAITING: Final = 10_000
_HOLD_UP_ABOVE: Final = 1_000
_TOLD_EVERY: Final = 60.0
_MOST_LISTED: Final = 50_000
_WITHDRAWN_ALONE: Final = ("single", "entry")
_LOST: Final = "the broker knows orders of this bridge that the journal does not"

Result = TypeVar("Result")
Queued = Message | asyncio.Future[None]


class OrderJournal:
    """The journal's writer for everything that happens to orders after they were written down."""

    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        clock: Clock,
        condition: JournalCondition,
    ) -> None:
        self.order_changed: Signal[[OrderRecord]] = Signal("order-changed")
        self.execution_changed: Signal[[ExecutionRow]] = Signal("execution-changed")
        self.set_aside: Signal[[quarantine.Entry]] = Signal("message-set-aside")
        self.condition = condition
        self.condition.measure(self.queue_age)
        self.missed = False
        self.listed: set[str] = set()
        """References of ours that the broker has listed: an order with one is never sent."""
        self.open: dict[str, OrderRecord] = {}
        """The open orders as the journal last had them, for when it cannot be asked."""
        self.sending: dict[str, asyncio.Event] = {}
        """Orders between the journal and the wire; the event comes when they are on it."""
        self.withdrawn: set[str] = set()
        """Those of them that are not to be sent any more."""
        self.cancelled_at: dict[str, datetime] = {}
        """Open orders of which a cancel went out: no change from before that may follow it."""
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._queue: deque[tuple[float, Queued]] = deque()
        self._arrived = asyncio.Event()
        self._in_hand: float | None = None
        self._failing_since: float | None = None
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None
        self.given_up = False
        events = gateway.events
        events.open_order.listen(self._open_order)
        events.order_status.listen(self._said)
        events.execution.listen(self._said)
        events.commission.listen(self._said)
        events.unreadable.listen(self._said)
        events.order_error.listen(self._order_error)

    def _open_order(self, message: OpenOrder) -> None:
        if not message.order.what_if:
            self._said(message)

    def _order_error(self, order_id: int, error: TwsError) -> None:
        if error.broker_code is not None:
            text = error.broker_text or error.detail
            self._said(OrderErrorMessage(order_id, error.broker_code, text))

    def _said(self, message: Message) -> None:
        """Queues what the broker says; it can be asked again for what there is no room for."""
        self._note_reference(message)
        for watch in tuple(self._watches):
            if watch.heard is not None:
                watch.hear(message, self._clock.now())
        if len(self._queue) < _MOST_WAITING:
            self._put(message)
        else:
            self.missed = True

    def _note_reference(self, message: Message) -> None:
        reference = ""
        if isinstance(message, OpenOrder):
            reference = message.order.order_ref
        elif isinstance(message, Execution):
            reference = message.order_ref
        ours = reference and order_ids.digest_of(reference) is not None
        if ours and len(self.listed) < _MOST_LISTED:
            self.listed.add(reference)

    def _put(self, queued: Queued) -> None:
        self._queue.append((self._clock.monotonic(), queued))
        self._arrived.set()

    def behind(self) -> bool:
        """Whether the journal needs a moment before more comes."""
        return len(self._queue) > _HOLD_UP_ABOVE

    def queue_age(self) -> float:
        """Seconds that the oldest message has waited for the journal; 0 when none does."""
        oldest = self._in_hand
        if oldest is None and self._queue:
            oldest = self._queue[0][0]
        return 0.0 if oldest is None else max(0.0, self._clock.monotonic() - oldest)

    def require_current(self) -> None:
        """Raises StoreBehindError while what the broker says is not kept in time."""
        trouble = self.condition.trouble
        if trouble is not None:
            raise StoreBehindError(trouble.what, next_step=f"Nothing was sent. {trouble.next_step}")

    async def start(self) -> None:
        self.condition.quarantined = await self._database.read(quarantine.count)
        self.remember(*await self._database.read(orders.open_orders))
        self._task = asyncio.create_task(self._run(), name="order-journal")

    def remember(self, *records: OrderRecord) -> None:
        """Takes over what the journal holds now."""
        for record in records:
            if record.open:
                self.open[record.id] = record
            else:
                self.open.pop(record.id, None)
                self.cancelled_at.pop(record.id, None)

    def open_order(self, order_id: str) -> OrderRecord | None:
        """An open order by the bridge's id, or by the broker's number; without the journal."""
        if order_id in self.open or not _is_number(order_id):
            return self.open.get(order_id)
        name = (self._gateway.client_id, int(order_id))
        numbered = (
            each for each in self.open.values() if (each.client_id, each.broker_order_id) == name
        )
        return max(numbered, key=lambda each: each.created_at, default=None)

    def withdraw(self, record: OrderRecord) -> bool:
        """Keeps an order that still waits for its slot off the wire; False: it is (nearly) there.

        Only what stands alone, or opens a bracket: other legs are sent, and then cancelled.
        """
        on_wire = self.sending.get(record.id)
        if on_wire is None or on_wire.is_set() or record.role not in _WITHDRAWN_ALONE:
            return False
        self.withdrawn.add(record.id)
        return True

    def own_open_orders(self) -> list[OrderRecord]:
        """The open orders of this client id at this gateway, oldest first."""
        return [record for record in self.open.values() if self._whose(record) is None]

    async def find(self, order_id: str) -> OrderRecord:
        """The journal's row of an order, by the bridge's id or one of the broker's numbers.

        Raises:
            UnknownOrderError: there is none.
        """
        client_id, perm_id = self._gateway.client_id, perm_id_of(order_id)

        def read(connection: sqlite3.Connection) -> OrderRecord | None:
            if perm_id is not None:
                return orders.by_perm_id(connection, perm_id)
            if _is_number(order_id):
                return orders.by_broker_order(connection, client_id, int(order_id))
            return orders.get(connection, order_id)

        found = await self._database.read(read)
        if found is None:
            raise UnknownOrderError(f"there is no order {order_id}")
        return found

    async def was_sized_to_close(self, order_id: str) -> bool:
        """Whether an order was made to close what is held, so that the position is its limit."""
        return await self._database.read(
            lambda connection: orders.was_sized_to_close(connection, order_id)
        )

    async def knows(self, order_id: str) -> bool:
        """Whether the journal has an order of this name."""
        try:
            await self.find(order_id)
        except UnknownOrderError:
            return False
        return True

    def require_open(self, record: OrderRecord) -> None:
        """Raises OrderNotOpenError for what has ended, or is not this client's to change."""
        problem, step = self._whose(record) or ("", None)
        if not record.open:
            problem, step = f"order {record.id} is {record.status} already", None
        if problem:
            shown = {"order": msgspec.to_builtins(order_view(record))}
            raise OrderNotOpenError(problem, next_step=step, extra=shown)

    def _whose(self, record: OrderRecord) -> tuple[str, str] | None:
        """Why an order cannot be changed by this client at this gateway; None: it can."""
        accounts, owner = self._gateway.accounts, record.client_id
        if owner != self._gateway.client_id:
            problem = f"order {record.id} belongs to client id {owner}"
            return problem, "Change or cancel it with that client id, or in TWS"
        if accounts and record.account not in accounts:
            account = f"account {record.account}, which this gateway does not manage"
            step = "Make the connection settings of its own gateway active first"
            return f"order {record.id} is of {account}", step
        return None

    async def stop(self) -> None:
        """Applies what has come so far, as far as that goes quickly, and ends."""
        if self._task is None:
            return
        try:
            await self.flush(_LAST_FLUSH_SECONDS)
        except StoreBehindError:
            log.warning("messages-not-kept", count=len(self._queue))
        await settle(self._task)
        self._task = None

    def note(self, *messages: Message) -> None:
        """Queues what the bridge itself knows (or has asked the broker for)."""
        for message in messages:
            if isinstance(message, Own):
                self._put(message)
            else:
                self._said(message)

    async def decide(
        self, work: Callable[[sqlite3.Connection], tuple[Result, Iterable[Message]]]
    ) -> Result:
        """Runs `work`, and applies what it wants noted, in one synced transaction.

        So what `work` finds in the journal still holds when its decision is written down. Nothing
        is noted when it raises.
        """
        now, client_id = self._clock.now(), self._gateway.client_id

        def both(connection: sqlite3.Connection) -> tuple[Result, Applied]:
            result, messages = work(connection)
            return result, apply_own(connection, messages, client_id, now)

        result, changes = await self._database.write(both)
        self._tell(changes)
        return result

    async def flush(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Returns when everything that had come before is in the journal.

        Raises:
            StoreBehindError: it was not within that time.
        """
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(reached)
        try:
            async with asyncio.timeout(seconds):
                await reached
        except TimeoutError:
            raise StoreBehindError(
                f"what the broker says has waited {self.queue_age():.1f} s for the journal"
            ) from None

    def give_up(self) -> None:
        """The process is about to end: who waits is told what is known so far."""
        self.given_up = True
        for watch in tuple(self._watches):
            watch.give_up()

    def watch(self, order_ids: Iterable[str]) -> Watch:
        """Follows orders from now on; begin before sending them."""
        watch = Watch(frozenset(order_ids), self._watches.discard)
        self._watches.add(watch)
        if self.given_up:
            watch.give_up()
        return watch

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._in_hand = self._queue[0][0]
            batch = [self._queue.popleft()[1] for _ in range(min(_BATCH, len(self._queue)))]
            messages = [each for each in batch if not isinstance(each, asyncio.Future)]
            if messages:
                await self._apply(messages)
            for each in batch:
                if isinstance(each, asyncio.Future) and not each.done():
                    each.set_result(None)
            self._in_hand = None
            if not self._queue:
                self._arrived.clear()

    async def _apply(self, messages: list[Message]) -> None:
        """Tries until the disk lets it: a full one may be emptied, the broker's word comes once."""
        now, client_id = self._clock.now(), self._gateway.client_id
        journal = self._database.identity
        # Without the mark that it was sent, an order is as after a crash in the moment of sending.
        durable = not all(map(_is_sent_mark, messages))

        def work(connection: sqlite3.Connection) -> Applied:
            changes = apply_messages(connection, messages, client_id, now)
            if changes.adopted:
                journal.doubt(connection, _LOST)
            return changes

        while True:
            try:
                changes = await self._database.write(work, durable=durable)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._failed(error, len(messages))
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                self._failing_since = None
                self.condition.writable = True
                self._tell(changes)
                return

    def _failed(self, error: Exception, messages: int) -> None:
        """One line when it begins, and one a minute."""
        now = self._clock.monotonic()
        if self._failing_since is None or now - self._failing_since >= _TOLD_EVERY:
            self._failing_since = now
            log.error("journal-write-failed", messages=messages, error=str(error) or repr(error))
        if isinstance(error, StoreError):
            self.condition.hint = error.next_step
            self.condition.writable = False

    def _tell(self, changes: Applied) -> None:
        self.remember(*changes.orders.values())
        for record in changes.orders.values():
            for watch in tuple(self._watches):
                watch.changed(record)
            self.order_changed.emit(record)
        for row in changes.executions.values():
            self.execution_changed.emit(row)
        self.missed |= changes.look
        if changes.adopted:
            log.error("orders-adopted", count=changes.adopted, hint=ACCEPT)
            self._database.identity.why = self._database.identity.why or _LOST
        if changes.quarantined is not None:
            self.condition.quarantined = changes.quarantined
        for entry in changes.set_aside:
            log.error("message-set-aside", kind=entry.kind, name=entry.name, cause=entry.cause)
            self.set_aside.emit(entry)


def _is_sent_mark(message: Message) -> bool:
    return isinstance(message, Own) and isinstance(message.happening, Sent)


def _is_number(order_id: str) -> bool:
    return order_id.isascii() and order_id.isdigit() and len(order_id) < 11


class Listed:
    """The broker's open orders, to look for many of ours in: one step each, not one a pair."""

    def __init__(self, listed: Iterable[OpenOrder]) -> None:
        orders = list(listed)
        self._references = {each.order.order_ref for each in orders}
        self._permanent = {each.order.perm_id for each in orders}
        # An instruction about an option carries no reference: its number stands for it.
        self._numbers = {
            (each.order.client_id, each.order_id) for each in orders if not each.order.order_ref
        }

    def __contains__(self, record: OrderRecord) -> bool:
        return (
            record.order_ref in self._references
            or bool(record.perm_id and record.perm_id in self._permanent)
            or (
                record.terms.order_type in INSTRUCTIONS.values()
                and (record.client_id, record.broker_order_id) in self._numbers
            )
        )


def require_reach(caller: Caller, order_id: str, account: str, symbol: str) -> None:
    """Raises KeyBoundError when the caller's key is bound to other accounts or symbols."""
    if not caller.bounds.reaches(account, symbol):
        raise KeyBoundError(f"this key does not reach order {order_id}")


class Watch:
    """The newest state of some orders, for one who waits. Use it as a context manager.

    `records` is what the journal holds. `heard` is what one order is by the broker's bare word,
    whether or not the journal has taken that yet (`listen`).
    """

    def __init__(self, order_ids: frozenset[str], forget: Callable[[Watch], None]) -> None:
        self._order_ids = order_ids
        self._forget = forget
        self._changed = asyncio.Event()
        self._given_up = False
        self.records: dict[str, OrderRecord] = {}
        self.heard: OrderRecord | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget(self)

    def listen(self, record: OrderRecord, first: Happening) -> None:
        """Follows this order by the broker's word from now on; `first` is what we do to it."""
        self.heard = lifecycle.apply(record, first)

    def hear(self, message: Message, now: datetime) -> None:
        """Called by the journal for what the broker says, before it is kept."""
        if self.heard is None:
            return
        happening = _about(self.heard, message, now)
        if happening is not None:
            self.heard = lifecycle.apply(self.heard, happening)
            self._changed.set()

    def changed(self, record: OrderRecord) -> None:
        """Called by the journal for what it has kept."""
        if record.id in self._order_ids:
            self.records[record.id] = record
            self._changed.set()

    def give_up(self) -> None:
        """Called by the journal: nothing is worth waiting for any more."""
        self._given_up = True
        self._changed.set()

    async def until(self, enough: Callable[[], bool], timeout: float) -> bool:
        """Waits until it is `enough`; False when it was not within `timeout`."""
        try:
            async with asyncio.timeout(timeout):
                while not enough():
                    if self._given_up:
                        return False
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


def _about(record: OrderRecord, message: Message, now: datetime) -> Happening | None:
    """What a message of the broker's says of this order; None: nothing."""
    number = record.broker_order_id
    match message:
        case OrderStatus() if (message.client_id, message.order_id) == (record.client_id, number):
            return StatusReported(now, message)
        case OpenOrder() if message.order.order_ref == record.order_ref:
            return Reported(now, message)
        case OrderErrorMessage() if message.broker_order_id == number:
            return BrokerError(now, message.code, message.text)
        case _:
            return None
