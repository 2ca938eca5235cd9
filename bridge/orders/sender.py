"""The one way to the wire for orders: number, journal and wire, in the same order for everybody.

The gateway takes order numbers only in rising order (103 otherwise). Whoever holds the turn gets
numbers and a place in the procession to the wire, and asks the journal to write the orders down;
then the next one may. So what comes at once is written with one sync, and each goes on the wire
behind those that came before it, when it is on the disk itself. No more than `MOST_UNDER_WAY` are
between number and wire at a time. What has to know all that works (a closing order, a target, a
preview) waits until the procession has passed, and keeps the turn until it is on the wire itself.
Nothing of this can be cancelled by a client that hangs up.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from msgspec import Struct, structs

from bridge.auditing import Auditor, Trail, note_sending
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import Contract, Order, OrderState
from bridge.orders import order_ids
from bridge.orders.apply_messages import Own
from bridge.orders.cancel import OrderCanceller
from bridge.orders.errors import (
    OrderListedError,
    OrderNotSentError,
    OrderRefusedByRulesError,
    PositionsMovingError,
    TooManyOrdersError,
    TradingHaltedError,
)
from bridge.orders.exposure import NOT_CLOSING, only_reduce, parts_of_order
from bridge.orders.halt import HaltSwitch, halted, stored
from bridge.orders.incomplete import SentInPartError
from bridge.orders.journal import OrderJournal
from bridge.orders.legs import Leg
from bridge.orders.lifecycle import NotSent, Sent, Withdrawn
from bridge.orders.order_ids import OrderNumbers
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.risk import violations
from bridge.store import Database, StoreError, idempotency, orders
from bridge.store.idempotency import KeyRecord
from bridge.store.orders import CLOSES, INTENTION, OrderRecord
from bridge.tws.gateway import Gateway
from bridge.tws.pacing import PORTION

log = structlog.get_logger(__name__)

MOST_UNDER_WAY: Final = PORTION
"""Orders that are numbered and not on the wire yet: as many as the wire takes at once."""
_TURN_SECONDS: Final = 5.0
_PREVIEW_WRITTEN_SECONDS: Final = 1.0
_HELD_SECONDS: Final = 2.0
_SIZED_SECONDS: Final = 4.0


Sized = Callable[[], Awaitable[list[Prepared]]]
_Wanted = tuple[Contract, Leg]
_Numbered = tuple[int, Contract, Leg]


CANCELLED_BEFORE: Final = "cancelledBefore"
"""In an order's first event: the orders that were cancelled for it."""


class KeyTakenError(Exception):
    """Someone else was first with this key."""


class _WithdrawnError(Exception):
    """The order was cancelled while it waited for its slot."""


@dataclass(eq=False)
class _Place:
    """A place in the procession: `over` when its orders are on the wire, or never will be."""

    orders: int
    before: asyncio.Future[None] | None
    over: asyncio.Future[None]

    async def come(self) -> None:
        """Returns when everything with a lower number has gone.

        Raises:
            TooManyOrdersError: that took too long.
        """
        if self.before is None or self.before.done():
            return
        await asyncio.wait({self.before}, timeout=_TURN_SECONDS)
        if not self.before.done():
            raise _too_many()

    def leave(self) -> None:
        """Those behind may go, as soon as those before have gone."""
        if self.before is None or self.before.done():
            self.over.set_result(None)
        else:
            self.before.add_done_callback(lambda _: self.over.set_result(None))


def _too_many() -> TooManyOrdersError:
    return TooManyOrdersError(
        "too many orders wait for their turn; nothing was sent", retry_after=_TURN_SECONDS
    )


class Submission(Struct, frozen=True):
    """Orders that are ready to be written down and sent under one key."""

    claim: KeyRecord
    prepared: list[Prepared]
    trail: Trail
    closing: bool = False
    """Trading is halted, and lets only pass what reduces a position; or nothing else is meant."""
    sized: Sized | None = None
    """Works out what is to be sent, while nobody else sends; nothing: nothing is."""
    only_closing: bool = False
    """Nothing but closing is meant, whether or not trading is halted."""
    cancelled: tuple[str, ...] = ()
    """Orders that were cancelled for these; written down with them, for later answers."""

    @property
    def alone(self) -> bool:
        """Whether what it sends depends on everything that was sent before."""
        reducing = any(each.reduces for each in self.prepared)
        return self.closing or self.sized is not None or reducing


@dataclass(kw_only=True, eq=False)
class OrderSender:
    """Writes orders down and sends them; the only caller of `place_order` for new ones."""

    database: Database
    gateway: Gateway
    preparer: Preparer
    journal: OrderJournal
    canceller: OrderCanceller
    halt: HaltSwitch
    auditor: Auditor
    clock: Clock
    numbers: OrderNumbers
    on_this_connection: set[str] = field(default_factory=set, init=False)
    """Orders that were written to the present one."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _procession: deque[_Place] = field(default_factory=deque, init=False)
    _tasks: set[asyncio.Task[list[OrderRecord]]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.gateway.events.lost.listen(lambda _: self.on_this_connection.clear())

    async def commit(self, submission: Submission) -> list[OrderRecord]:
        """Writes the orders of a submission down and sends them; returns when they are on the wire.

        Raises:
            KeyTakenError: the key is not free.
            OrderRefusedByRulesError, TradingHaltedError: nothing was written down.
            TwsError: nothing was sent, and the key is free again.
            SentInPartError: of several orders some are on the wire; the key stays theirs.
            OrderNotSentError: the process is about to end; nothing was written down.
        """
        if self.journal.given_up:
            raise OrderNotSentError("the bridge is stopping: the order was not sent")
        task = asyncio.create_task(self._commit(submission), name="commit-order")
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        return await asyncio.shield(task)

    async def settle_down(self) -> None:
        """Waits a moment for orders that are just being sent."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=0.5)

    def _landed(self, task: asyncio.Task[list[OrderRecord]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have hung up

    @asynccontextmanager
    async def _in_turn(self, orders: int | None = None) -> AsyncIterator[None]:
        """With room for so many in the procession; None: when all of it has passed."""
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turn.acquire()
                try:
                    await self._room(MOST_UNDER_WAY if orders is None else orders)
                except BaseException:
                    self._turn.release()
                    raise
        except TimeoutError:
            raise _too_many() from None
        try:
            yield
        finally:
            self._turn.release()

    @asynccontextmanager
    async def turn(self, *, alone: bool) -> AsyncIterator[None]:
        """While this is held no new order is numbered; `alone`: all before it are on the wire.

        Raises:
            TooManyOrdersError: it did not come in time.
        """
        async with self._in_turn(None if alone else 0):
            yield

    async def _room(self, orders: int) -> None:
        while self._procession:
            first = self._procession[0]
            if first.over.done():
                self._procession.popleft()
            elif sum(each.orders for each in self._procession) + orders > MOST_UNDER_WAY:
                await asyncio.wait({first.over})
            else:
                return

    def _take_place(self, orders: int) -> _Place:
        """Behind everybody who has a number already."""
        before = self._procession[-1].over if self._procession else None
        place = _Place(orders, before, asyncio.get_running_loop().create_future())
        self._procession.append(place)
        return place

    async def _commit(self, submission: Submission) -> list[OrderRecord]:
        if submission.alone:
            async with self._in_turn():
                return await self._commit_alone(submission)
        legs = _legs(submission.prepared)
        async with self._in_turn(len(legs)):
            place, numbered = self._numbered(legs)
        return await self._deliver(submission, place, numbered)

    async def _commit_alone(self, submission: Submission) -> list[OrderRecord]:
        if submission.sized is not None:
            submission = structs.replace(submission, prepared=await _sized(submission.sized))
            if not submission.prepared:
                return []
        legs = _legs(submission.prepared)
        if submission.closing:
            only_closing = submission.only_closing
            await self.require_reducing(submission.prepared, only_closing=only_closing)
        else:
            submission = await self._still_reducing(submission, legs)
        place, numbered = self._numbered(legs)
        return await self._deliver(submission, place, numbered)

    def _numbered(self, legs: list[_Wanted]) -> tuple[_Place, list[_Numbered]]:
        numbered = [(self.numbers.next(), *leg) for leg in legs]
        return self._take_place(len(legs)), numbered

    async def _deliver(
        self, submission: Submission, place: _Place, numbered: list[_Numbered]
    ) -> list[OrderRecord]:
        """Writes the orders down, and sends them in their place."""
        records: list[OrderRecord] = []
        try:
            records = await self._write_down(submission, numbered)
            await self._send(submission, records, place)
        finally:
            place.leave()
            self._settled(record.id for record in records)
        return records

    def _settled(self, order_ids: Iterable[str]) -> None:
        """They are on the wire by now, or never will be."""
        for order_id in order_ids:
            on_wire = self.journal.sending.pop(order_id, None)
            if on_wire is not None:
                on_wire.set()
            self.journal.withdrawn.discard(order_id)

    async def require_reducing(
        self, prepared: Iterable[Prepared], *, only_closing: bool = False
    ) -> None:
        """Refuses what could open or enlarge a position, as it is at this moment.

        In the sender's turn, where nothing else is sent meanwhile, that holds for what is sent.

        Raises:
            TradingHaltedError: a halt lets only what reduces pass.
            OrderRefusedByRulesError: nothing else is meant (`only_closing`).
        """
        if await self._only_reduce(_legs(prepared)):
            return
        halt = self.halt.halt
        if halt is not None:
            raise halted(halt, "only orders that reduce a position pass")
        if only_closing:
            raise OrderRefusedByRulesError([NOT_CLOSING])

    async def _only_reduce(self, legs: list[_Wanted]) -> bool:
        wanted = [
            part
            for index, (contract, leg) in enumerate(legs)
            for part in parts_of_order(f"new {index}", contract, leg.order, leg.order.quantity)
        ]
        own = self.journal.open.values()
        return await only_reduce(
            self.gateway,
            wanted,
            own,
            confirmed=self.preparer.is_confirmed,
            seconds=_HELD_SECONDS,
        )

    async def _still_reducing(self, submission: Submission, legs: list[_Wanted]) -> Submission:
        """What passes a limit because it only reduces a position does so now, too.

        Two that were looked at in the same moment cannot both.
        """
        if not any(each.reduces for each in submission.prepared):
            return submission
        try:
            still = await self._only_reduce(legs)
        except BridgeError:
            still = False
        prepared = [structs.replace(each, reduces=still) for each in submission.prepared]
        return structs.replace(submission, prepared=prepared)

    async def what_if(self, contract: Contract, order: Order, timeout: float) -> OrderState:
        """Asks what an order would do. It needs a number too, so it keeps to the turns."""
        written = asyncio.Event()
        async with self._in_turn():
            asking = asyncio.create_task(
                self.gateway.queries.what_if(
                    contract,
                    order,
                    order_id=self.numbers.next(),
                    written=written.set,
                    timeout=timeout,
                )
            )
            turn_over = asyncio.create_task(written.wait())
            await asyncio.wait(
                {asking, turn_over},
                timeout=_PREVIEW_WRITTEN_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            turn_over.cancel()
            if not written.is_set() and not asking.done():
                asking.cancel()
        try:
            return await asking
        except asyncio.CancelledError:
            if not written.is_set():
                raise TooManyOrdersError("the gateway is busy; try again", retry_after=1) from None
            raise

    async def _write_down(
        self, submission: Submission, numbered: list[_Numbered]
    ) -> list[OrderRecord]:
        claim, trail = submission.claim, submission.trail
        made: list[str] = []

        def write(connection: sqlite3.Connection) -> list[OrderRecord]:
            taken = not idempotency.claim(
                connection, claim.key_digest, claim.body_digest, claim.created_at
            )
            if taken:
                raise KeyTakenError
            halt = stored(connection)
            if halt is not None and not (submission.closing and halt.allow_closing):
                raise halted(halt)
            prepared = submission.prepared
            before = self.preparer.before(connection, trail.caller, prepared)
            contexts = self.preparer.contexts(prepared, before)
            found = violations(contexts)
            if found:
                raise OrderRefusedByRulesError(found)
            attempt = len({each.group_id for each in orders.by_key(connection, claim.key_digest)})
            notionals = [context.counted_notional for context in contexts]
            records = self._records(claim, numbered, notionals, attempt, trail.caller.key_id)
            listed = [each.order_ref for each in records if each.order_ref in self.journal.listed]
            if listed:
                raise OrderListedError(f"the broker lists {', '.join(listed)} already")
            cancels = {CANCELLED_BEFORE: submission.cancelled} if submission.cancelled else {}
            for record, context in zip(records, contexts, strict=True):
                orders.insert(connection, record)
                closes = context.closes and not context.unattended
                said: dict[str, object] = {**cancels, **({CLOSES: True} if closes else {})}
                orders.add_event(connection, record.id, record.created_at, INTENTION, said)
            trail.target = records[0].id
            note_sending(connection, self.auditor, trail)
            made.extend(record.id for record in records)
            self.journal.sending.update((order_id, asyncio.Event()) for order_id in made)
            return records

        try:
            records = await self.database.write(write)
        except BaseException:
            self._settled(made)
            raise
        self.journal.remember(*records)
        return records

    def _records(
        self,
        claim: KeyRecord,
        numbered: list[_Numbered],
        notionals: list[float],
        attempt: int,
        api_key_id: str,
    ) -> list[OrderRecord]:
        now = self.clock.now()
        group_id = order_ids.new_id(now)
        entry_number = numbered[0][0]
        made = []
        for index, (number, contract, leg) in enumerate(numbered):
            reference = order_ids.order_ref(claim.key_digest, index, attempt)
            parented = leg.role in {"take-profit", "stop-loss"}
            terms = structs.replace(
                leg.order,
                order_id=number,
                client_id=self.gateway.client_id,
                parent_id=entry_number if parented else 0,
                order_ref=reference,
            )
            made.append(
                OrderRecord(
                    id=group_id if index == 0 else f"{group_id}-{index}",
                    order_ref=reference,
                    key_digest=claim.key_digest,
                    role=leg.role,
                    group_id=group_id,
                    parent_id=group_id if parented else None,
                    api_key_id=api_key_id,
                    account=terms.account,
                    symbol=contract.symbol,
                    contract=contract,
                    terms=terms,
                    client_id=self.gateway.client_id,
                    broker_order_id=number,
                    notional=notionals[index],
                    created_at=now,
                    updated_at=now,
                    label=leg.label,
                )
            )
        return made

    def _permit(self, submission: Submission, record: OrderRecord) -> None:
        """Asked in the moment of writing: an order that passes is on the wire."""
        if submission.closing:
            self.halt.require_closing_allowed()
        else:
            self.halt.require_off()
        if record.id in self.journal.withdrawn:
            raise _WithdrawnError

    async def _send(
        self, submission: Submission, records: list[OrderRecord], place: _Place
    ) -> None:
        sent: list[OrderRecord] = []
        try:
            await place.come()
            for record in records:

                def permit(record: OrderRecord = record) -> None:
                    self._permit(submission, record)
                    self.journal.sending[record.id].set()

                self._permit(submission, record)
                self.on_this_connection.add(record.id)
                await self.gateway.place_order(
                    record.broker_order_id,
                    record.contract,
                    record.terms,
                    permit=permit,
                )
                sent.append(record)
                self.journal.note(Own(record.id, Sent(self.clock.now())))
        except Exception as error:
            withdrawn = records[0].id in self.journal.withdrawn
            if withdrawn and not isinstance(error, TradingHaltedError):
                # The key stays the cancelled order's.
                now = self.clock.now()
                self.journal.note(*(Own(record.id, Withdrawn(now)) for record in records))
                return
            unsent = records[len(sent) :]
            reason = error.detail if isinstance(error, BridgeError) else repr(error)
            self._note_not_sent(unsent, reason)
            if sent:
                cancels = await self.canceller.cancel_each(sent)
                raise SentInPartError(records, reason, cancels.failed) from error
            await self._release(submission.claim.key_digest)
            if isinstance(error, BridgeError):
                error.extra.setdefault("orderId", unsent[0].group_id)
            raise

    def _note_not_sent(self, unsent: list[OrderRecord], reason: str) -> None:
        """What `place_order` raises for is certainly not on the wire."""
        now = self.clock.now()
        self.journal.note(*(Own(record.id, NotSent(now, reason)) for record in unsent))

    async def _release(self, digest: str) -> None:
        """Without the journal the key stays taken; a repetition clears that up."""
        try:
            await self.journal.flush()
            await self.database.write(lambda connection: idempotency.release(connection, digest))
        except StoreError as error:
            log.warning("key-not-released", error=error.detail)


def _legs(prepared: Iterable[Prepared]) -> list[_Wanted]:
    return [(each.contract, leg) for each in prepared for leg in each.legs]


async def _sized(sized: Sized) -> list[Prepared]:
    """Within a few seconds, because everybody else waits for their turn meanwhile."""
    try:
        async with asyncio.timeout(_SIZED_SECONDS):
            return await sized()
    except TimeoutError:
        raise PositionsMovingError(
            "the broker does not say in time what is held and working: nothing was sent"
        ) from None
