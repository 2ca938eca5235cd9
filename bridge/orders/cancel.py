"""Cancelling: one order, or the open orders that a halt or a silent client leaves behind.

A cancel goes out whatever the journal's state; what the journal does not take at once follows.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
import structlog
from msgspec import Struct, structs

from bridge.account.held_before import HeldBefore
from bridge.auditing import SENDING, Auditor, Caller, Trail, note_sending
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import OpenOrder
from bridge.orders import lifecycle
from bridge.orders.apply_messages import Message, Own
from bridge.orders.errors import (
    ChangeRejectedError,
    OrderFateUnknownError,
    OrderNotOpenError,
    OrderPendingError,
)
from bridge.orders.exposure import Place, held, opening, parts_of_record
from bridge.orders.journal import OrderJournal, Watch, require_reach
from bridge.orders.lifecycle import ChangeDropped, ChangeSent, Happening, Withdrawn
from bridge.orders.views import OrderView, order_view
from bridge.store import StoreBehindError
from bridge.store.orders import OrderRecord, PendingChange, State, Status
from bridge.store.urgent import WAIT_SECONDS
from bridge.tws.gateway import Gateway
from bridge.tws.pacing import Lane

log = structlog.get_logger(__name__)

_POSITIONS_SECONDS: Final = 0.25
_LATE_SECONDS: Final = 3.0
"""How often it is looked whether what is not listed yet has come."""
_ONE_BY_ONE: Final = 10
"""So many cancels find room at once in a burst of orders; for more one global cancel is faster."""
_SENT_SECONDS: Final = 2.0
"""How long a cancel waits for an order ahead of it that the pace holds back."""

Cancelling = Literal["none", "opening", "own", "all"]
"""Which open orders to cancel: none, those that open or enlarge a position, all of this client
id's, everybody's."""


class CancelResult(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of cancelling several orders; `kept` are those that only close a position.

    Cancels of `queued` ones follow by themselves, as fast as the broker's message limit lets them.
    """

    requested: tuple[str, ...] = ()
    queued: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(kw_only=True, eq=False)
class OrderCanceller:
    """The one place that cancels orders of this client id."""

    gateway: Gateway
    journal: OrderJournal
    auditor: Auditor
    clock: Clock
    answer_seconds: float
    late: Callable[[], tuple[HeldBefore, ...]] = tuple
    """What was held before a login, and may only not be listed again yet."""
    _unjournaled: set[str] = field(default_factory=set, init=False)
    """Open orders whose cancel the journal does not know."""
    _noting: set[asyncio.Task[Any]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.journal.order_changed.listen(lambda record: self._unjournaled.discard(record.id))

    # one order ----------------------------------------------------------------------------------

    async def cancel(self, order_id: str, caller: Caller) -> OrderView:
        """Cancels an order and waits for the broker's word; one that is cancelled stays so.

        `journaled` in the answer says whether the journal holds what the answer says; if not the
        entry follows.
        """
        async with self.auditor.trail(caller, "order.cancel", None) as trail:
            record = self.journal.open_order(order_id) or await self.journal.find(order_id)
            trail.target = record.id
            require_reach(caller, record.id, record.account, record.symbol)
            if record.status is Status.CANCELLED:
                return order_view(record)
            trail.reserve = True
            self.journal.require_open(record)
            if self.journal.withdraw(record):
                return await self._withdrawn(record, trail)
            self.gateway.require_ready()
            with self.journal.watch([record.id]) as watch:
                now = self.clock.now()
                change = ChangeSent(now, PendingChange(at=now))
                watch.listen(record, change)
                journaled = await self._note(record, change, trail)
                try:
                    await self._send(record)
                except Exception:
                    self.journal.note(Own(record.id, ChangeDropped(self.clock.now(), now)))
                    raise
                after = await self._answer(watch, record.id, kept=journaled)
            trail.journaled = journaled and after is not watch.heard
            return _cancelled(after, journaled=trail.journaled)

    async def _withdrawn(self, record: OrderRecord, trail: Trail) -> OrderView:
        """It still waits for its slot, and is not sent at all."""
        happening = Withdrawn(self.clock.now())
        trail.journaled = await self._note(record, happening, trail)
        return _cancelled(lifecycle.apply(record, happening), journaled=trail.journaled)

    async def _send(self, record: OrderRecord) -> None:
        """Puts a cancel on the wire, behind the order and ahead of changes of it."""
        on_wire = self.journal.sending.get(record.id)
        if on_wire is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SENT_SECONDS):
                    await on_wire.wait()
        self.journal.cancelled_at[record.id] = self.clock.now()
        await self.gateway.cancel_order(record.broker_order_id)

    async def _note(self, record: OrderRecord, happening: Happening, trail: Trail) -> bool:
        """Writes down what becomes of the order first, if the journal takes it in a moment.

        Else it follows; one such entry for each order is enough.
        """
        if record.id in self._unjournaled:
            return False
        if not self.journal.condition.writable:
            self._note_later(record.id, happening, trail)
            return False
        noting = asyncio.create_task(
            self.journal.decide(
                lambda connection: self._write_down(connection, record.id, happening, trail)
            ),
            name="note-cancel",
        )
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)
        noting.add_done_callback(lambda ended: self._noted(ended, record.id, happening, trail))
        await asyncio.wait({noting}, timeout=WAIT_SECONDS)
        return noting.done() and noting.exception() is None

    def _write_down(
        self, connection: sqlite3.Connection, order_id: str, happening: Happening, trail: Trail
    ) -> tuple[None, list[Message]]:
        note_sending(connection, self.auditor, trail)
        return None, [Own(order_id, happening)]

    def _noted(
        self, noting: asyncio.Task[None], order_id: str, happening: Happening, trail: Trail
    ) -> None:
        if noting.cancelled() or (error := noting.exception()) is None:
            return
        log.error("cancel-not-journaled", order=order_id, error=str(error))
        self._note_later(order_id, happening, trail)

    def _note_later(self, order_id: str, happening: Happening, trail: Trail) -> None:
        self._unjournaled.add(order_id)
        self.journal.note(Own(order_id, happening))
        entry = self.auditor.entry(trail, SENDING)
        writing = asyncio.create_task(
            self.auditor.keep(entry, reserve=True), name="note-cancel-audit"
        )
        self._noting.add(writing)
        writing.add_done_callback(self._noting.discard)

    async def _answer(self, watch: Watch, order_id: str, *, kept: bool) -> OrderRecord:
        """The record in the journal; the broker's bare word when that is not there in a moment."""

        def in_journal() -> bool:
            return kept and order_id in watch.records and _answered(watch.records[order_id])

        def spoken() -> bool:
            return watch.heard is not None and not _waits(watch.heard)

        await watch.until(lambda: in_journal() or spoken(), self.answer_seconds)
        if kept and spoken():
            await watch.until(in_journal, WAIT_SECONDS)
        if in_journal():
            return watch.records[order_id]
        if kept and not spoken():
            with suppress(StoreBehindError):
                await self.journal.flush()
            return await self.journal.find(order_id)
        assert watch.heard is not None  # noqa: S101 - it listens since before the cancel went out
        return watch.heard

    # several ------------------------------------------------------------------------------------

    async def cancel_open(
        self, which: Cancelling, seconds: float | None = None, *, patience: float | None = None
    ) -> CancelResult:
        """Puts cancels on the wire for these open orders; what could not be sent is `failed`.

        After `seconds` it returns, and the rest follows. `patience`: how long what is held is
        waited for; None: a moment.
        """
        own = self.journal.own_open_orders()
        match which:
            case "none":
                return CancelResult()
            case "own":
                return await self.cancel_each(own, seconds)
            case "opening":
                cancel, stay = opening(own, await self._positions(patience))
                self._look_again_at(stay)
                result = await self.cancel_each(cancel, seconds)
                return structs.replace(result, kept=tuple(each.id for each in stay))
            case "all":
                if await self._cancel_all(own):
                    return CancelResult(requested=tuple(record.id for record in own))
                result = await self.cancel_each(own, seconds)
                return structs.replace(result, failed=(*result.failed, "other clients"))

    async def cancel_each(
        self, records: Iterable[OrderRecord], seconds: float | None = None
    ) -> CancelResult:
        """The same for orders that somebody has chosen."""
        chosen = sorted(records, key=lambda each: each.id in self.journal.sending)
        requested: list[str] = []
        failed: list[str] = []
        sending = asyncio.create_task(self._cancel_many(chosen, requested, failed), name="cancels")
        self._noting.add(sending)
        sending.add_done_callback(self._noting.discard)
        await asyncio.wait({sending}, timeout=seconds)
        if sending.done():
            sending.result()
        known = {*requested, *failed}
        return CancelResult(
            requested=tuple(requested),
            failed=tuple(failed),
            queued=tuple(each.id for each in chosen if each.id not in known),
        )

    async def _cancel_many(
        self, records: list[OrderRecord], requested: list[str], failed: list[str]
    ) -> None:
        """One message for all of them where that is the same, else one for each."""
        on_wire = [each for each in records if each.id not in self.journal.sending]
        many = len(on_wire) > _ONE_BY_ONE
        if many and await self._are_alone(on_wire) and await self._cancel_all(on_wire):
            requested += [each.id for each in on_wire]
        for record in records:
            if record.id in requested:
                continue
            try:
                if not self.journal.withdraw(record):
                    await self._send(record)
            except BridgeError as error:
                log.warning("cancel-not-sent", order=record.id, reason=error.detail)
                failed.append(record.id)
            else:
                requested.append(record.id)

    async def _cancel_all(self, records: Iterable[OrderRecord]) -> bool:
        """Everything that is open in the account, these among it; False: it could not be sent."""
        now = self.clock.now()
        self.journal.cancelled_at.update((each.id, now) for each in records)
        try:
            await self.gateway.cancel_all_orders()
        except BridgeError as error:
            log.warning("global-cancel-not-sent", reason=error.detail)
            return False
        return True

    def _look_again_at(self, stay: Iterable[OrderRecord]) -> None:
        """What stays for a position that may come yet is judged anew when that is known."""
        late = {each.name for each in self.late()}
        chosen = {
            each.id: places
            for each in stay
            if (places := late & {part.place for part in parts_of_record(each)})
        }
        if chosen:
            looking = asyncio.create_task(self._judge_anew(chosen), name="late-cancels")
            self._noting.add(looking)
            looking.add_done_callback(self._noting.discard)

    async def _judge_anew(self, chosen: dict[str, set[Place]]) -> None:
        """Cancels those of these orders whose position has not come."""
        while any(each.name in places for each in self.late() for places in chosen.values()):
            await self.clock.sleep(_LATE_SECONDS)
        positions = await self._positions(None)
        if positions is not None:  # else the next connect cancels anew
            cancel, _ = opening(self.journal.own_open_orders(), positions)
            await self.cancel_each(each for each in cancel if each.id in chosen)

    async def is_heard(self) -> bool:
        """Whether the gateway answers in a moment: then it has read all that was sent before."""
        return await self._listed() is not None

    async def _are_alone(self, records: list[OrderRecord]) -> bool:
        """Whether the broker lists no other order that a global cancel would reach as well."""
        ours = {each.order_ref for each in records}
        listed = await self._listed()
        return listed is not None and all(each.order.order_ref in ours for each in listed)

    async def _listed(self) -> tuple[OpenOrder, ...] | None:
        """The broker's open orders; None when it does not say them in a moment."""
        try:
            async with asyncio.timeout(_POSITIONS_SECONDS):
                return await self.gateway.queries.all_open_orders(
                    lane=Lane.CANCEL, timeout=_POSITIONS_SECONDS
                )
        except (BridgeError, TimeoutError):
            return None

    async def _positions(self, patience: float | None) -> dict[Place, float] | None:
        """What is held now; None when the broker does not say it in time."""
        seconds = _POSITIONS_SECONDS if patience is None else patience
        try:
            async with asyncio.timeout(seconds):
                asked = self.gateway.queries.positions(lane=Lane.CANCEL, timeout=seconds)
                listed = held(await asked)
                return {each.name: each.quantity for each in self.late()} | listed
        except (BridgeError, TimeoutError):
            log.warning("positions-unknown", hint="only brackets' closing legs are kept")
            return None


def _waits(record: OrderRecord) -> bool:
    """Whether the broker has neither ended the order nor refused to."""
    return record.open and record.pending is not None


def _answered(record: OrderRecord) -> bool:
    """Whether the broker has said what became of a cancel."""
    return not record.open or (record.pending is None and record.state is not State.UNKNOWN)


def _cancelled(after: OrderRecord, *, journaled: bool) -> OrderView:
    view = structs.replace(order_view(after), journaled=journaled)
    shown = {"order": msgspec.to_builtins(view)}
    if after.status is Status.CANCELLED:
        return view
    if not after.open:
        raise OrderNotOpenError(f"order {after.id} is {after.status} already", extra=shown)
    if after.state is State.UNKNOWN:
        raise OrderFateUnknownError(
            f"a cancel was sent, and the fate of order {after.id} is still unknown", extra=shown
        )
    if after.pending is not None:
        raise OrderPendingError(
            f"the cancel of order {after.id} is sent, the gateway has not answered in time",
            next_step="Read the order again, or repeat the request",
            extra=shown,
        )
    raise ChangeRejectedError(
        f"the broker refused the cancel: {after.warning or 'no reason given'}",
        extra={"brokerText": after.warning, **shown},
    )
