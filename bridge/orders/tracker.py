"""Brings what the broker says into the journal, in its order, and wakes whoever waits for it.

One task owns the queue: it takes all that has come, absorbs it in one synced transaction, and only
then tells anyone. So nobody ever hears of something that the journal could lose.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self, TypeVar

import structlog

from bridge.clock import Clock
from bridge.model import CommissionReport, Execution, OpenOrder, OrderStatus
from bridge.orders.absorb import Absorbed, Message, OrderErrorMessage, absorb
from bridge.store import Database
from bridge.store.executions import ExecutionRow
from bridge.store.orders import OrderRecord
from bridge.tws.errors import TwsError
from bridge.tws.gateway import Gateway
from bridge.tws.signals import Signal

log = structlog.get_logger(__name__)

_BATCH: Final = 500
_RETRY_SECONDS: Final = 0.5

Result = TypeVar("Result")


class Tracker:
    """The journal's writer for everything that happens to orders after they were written down."""

    def __init__(self, database: Database, gateway: Gateway, clock: Clock) -> None:
        self.order_changed: Signal[[OrderRecord]] = Signal("order-changed")
        self.execution_changed: Signal[[ExecutionRow]] = Signal("execution-changed")
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._queue: asyncio.Queue[Message | asyncio.Future[None]] = asyncio.Queue()
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None
        self.given_up = False
        self._listen()

    def _listen(self) -> None:
        events = self._gateway.events
        events.open_order.listen(self._open_order)
        events.order_status.listen(self._order_status)
        events.execution.listen(self._execution)
        events.commission.listen(self._commission)
        events.order_error.listen(self._order_error)

    def _open_order(self, message: OpenOrder) -> None:
        if not message.order.what_if:
            self._queue.put_nowait(message)

    def _order_status(self, message: OrderStatus) -> None:
        self._queue.put_nowait(message)

    def _execution(self, message: Execution) -> None:
        self._queue.put_nowait(message)

    def _commission(self, message: CommissionReport) -> None:
        self._queue.put_nowait(message)

    def _order_error(self, order_id: int, error: TwsError) -> None:
        if error.broker_code is not None:
            text = error.broker_text or error.detail
            self._queue.put_nowait(OrderErrorMessage(order_id, error.broker_code, text))

    async def start(self) -> None:
        """Begins to absorb."""
        self._task = asyncio.create_task(self._run(), name="order-tracker")

    async def stop(self) -> None:
        """Absorbs what has come so far, and ends."""
        if self._task is None:
            return
        await self.flush()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    def note(self, *messages: Message) -> None:
        """Queues what the bridge itself knows (or has asked the broker for)."""
        for message in messages:
            self._queue.put_nowait(message)

    async def decide(
        self, work: Callable[[sqlite3.Connection], tuple[Result, Iterable[Message]]]
    ) -> Result:
        """Runs `work`, and absorbs what it wants noted, in one synced transaction.

        So what `work` finds in the journal still holds when its decision is written down. Nothing
        is noted when it raises.
        """
        now, client_id = self._clock.now(), self._gateway.client_id

        def both(connection: sqlite3.Connection) -> tuple[Result, Absorbed]:
            result, messages = work(connection)
            return result, absorb(connection, messages, client_id, now)

        result, changes = await self._database.write(both)
        self._tell(changes)
        return result

    async def flush(self) -> None:
        """Returns when everything that had come before is in the journal."""
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(reached)
        await reached

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
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            messages = [each for each in batch if not isinstance(each, asyncio.Future)]
            if messages:
                await self._absorb(messages)
            for each in batch:
                if isinstance(each, asyncio.Future) and not each.done():
                    each.set_result(None)

    async def _absorb(self, messages: list[Message]) -> None:
        """Never gives a message up: a full disk may be emptied, the broker's word comes once."""
        now, client_id = self._clock.now(), self._gateway.client_id
        while True:
            try:
                changes = await self._database.write(
                    lambda connection: absorb(connection, messages, client_id, now)
                )
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("journal-write-failed", messages=len(messages))
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                self._tell(changes)
                return

    def _tell(self, changes: Absorbed) -> None:
        for record in changes.orders.values():
            for watch in tuple(self._watches):
                watch.changed(record)
            self.order_changed.emit(record)
        for row in changes.executions.values():
            self.execution_changed.emit(row)


class Watch:
    """The newest state of some orders, for one who waits. Use it as a context manager."""

    def __init__(self, order_ids: frozenset[str], forget: Callable[[Watch], None]) -> None:
        self._order_ids = order_ids
        self._forget = forget
        self._changed = asyncio.Event()
        self._given_up = False
        self.records: dict[str, OrderRecord] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget(self)

    def changed(self, record: OrderRecord) -> None:
        """Called by the tracker."""
        if record.id in self._order_ids:
            self.records[record.id] = record
            self._changed.set()

    def give_up(self) -> None:
        """Called by the tracker: nothing is worth waiting for any more."""
        self._given_up = True
        self._changed.set()

    async def until(self, enough: Callable[[dict[str, OrderRecord]], bool], timeout: float) -> bool:
        """Waits until the records satisfy `enough`; False when they did not within `timeout`."""
        try:
            async with asyncio.timeout(timeout):
                while not enough(self.records):
                    if self._given_up:
                        return False
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
