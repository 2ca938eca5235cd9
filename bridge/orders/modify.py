"""Changing and cancelling orders that are working, and settling those that nobody knows about."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Literal

import msgspec
import structlog
from msgspec import Struct, structs

from bridge.auditing import SENDING, Caller, Trail, note_sending
from bridge.errors import BridgeError
from bridge.model import Order
from bridge.orders.apply_messages import Message, Own
from bridge.orders.errors import (
    ChangeRejectedError,
    ChangeReplacedError,
    KeyBoundError,
    OrderFateUnknownError,
    OrderNotOpenError,
    OrderPendingError,
    OrderRefusedByRulesError,
    UnknownOrderError,
    Violation,
)
from bridge.orders.exposure import Place, held, opening
from bridge.orders.halt import halted, stored
from bridge.orders.journal import Watch
from bridge.orders.legs import CHANGEABLE, changed, named, order_type, same
from bridge.orders.lifecycle import ChangeDropped, ChangeSent, Settled
from bridge.orders.other_clients import perm_id_of
from bridge.orders.prepare import Prepared
from bridge.orders.request import ChangeRequest, number_problem, text_problem
from bridge.orders.risk import violations
from bridge.orders.views import OrderView, order_view
from bridge.orders.word import BrokersWord
from bridge.orders.worker import Tools, Worker
from bridge.store import StoreBehindError, orders
from bridge.store.order_status import State, Status
from bridge.store.orders import OrderRecord, PendingChange
from bridge.store.urgent import WAIT_SECONDS

log = structlog.get_logger(__name__)

_POSITIONS_SECONDS: Final = 0.25

Enough = Callable[[OrderRecord], bool]


class Settlement(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person found out about an order whose fate was unknown."""

    status: Literal["Filled", "Cancelled", "NotSent"]
    note: str = ""


class CancelResult(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of cancelling several orders; `kept` are those that only close a position."""

    requested: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class OrderModifier(Worker):
    """Modifies, cancels and settles."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._newest: dict[str, object] = {}  # by order: the change that was noted last
        self._unjournaled: set[str] = set()  # open orders whose cancel the journal does not know
        self._noting: set[asyncio.Task[Any]] = set()
        tools.journal.order_changed.listen(lambda record: self._unjournaled.discard(record.id))

    async def record(self, order_id: str) -> OrderRecord:
        """The journal's row of an order, by the bridge's id or one of the broker's numbers."""
        client_id, perm_id = self._gateway.client_id, perm_id_of(order_id)

        def read(connection: sqlite3.Connection) -> OrderRecord | None:
            if perm_id is not None:
                return orders.by_perm_id(connection, perm_id)
            if order_id.isascii() and order_id.isdigit() and len(order_id) < 11:
                return orders.by_broker_order(connection, client_id, int(order_id))
            return orders.get(connection, order_id)

        found = await self._database.read(read)
        if found is None:
            raise UnknownOrderError(f"there is no order {order_id}")
        return found

    async def knows(self, order_id: str) -> bool:
        """Whether the journal has an order of this name."""
        try:
            await self.record(order_id)
        except UnknownOrderError:
            return False
        return True

    # modifying ----------------------------------------------------------------------------------

    async def modify(self, order_id: str, request: ChangeRequest, caller: Caller) -> OrderView:
        """OrderModifier a working order and waits for the broker's word."""
        async with self._auditor.trail(caller, "order.modify", request) as trail:
            record = await self.record(order_id)
            trail.target = record.id
            _require_reach(record, caller)
            self._require_changeable(record)
            self._halt.require_off()
            self._gateway.require_ready()
            self._tracker.require_current()
            record = await self._as_the_broker_has_it(record)
            wanted = structs.replace(
                record.terms, quantity=request.quantity or record.terms.quantity
            )
            prepared = await self._preparer.prepare_change(record.contract, wanted)
            with self._tracker.watch([record.id]) as watch:
                change, terms = await self._tracker.decide(
                    lambda connection: self._reserve(
                        connection, record.id, request, prepared, trail
                    )
                )
                turn = self._newest[record.id] = object()
                after = await self._carry_out(
                    change,
                    record,
                    watch,
                    lambda: self._gateway.place_order(
                        record.broker_order_id,
                        record.contract,
                        terms,
                        permit=self._halt.require_off,
                    ),
                    lambda now: now.pending is None or not now.open,
                )
            replaced = self._newest.get(record.id) is not turn
            if not replaced:
                del self._newest[record.id]
            return self._modified(after, terms, request, replaced=replaced)

    async def _as_the_broker_has_it(self, record: OrderRecord) -> OrderRecord:
        """The order with the terms that the broker has now: a change carries all of them.

        What it said last may have been overtaken on its way, or lost.

        Raises:
            RequestTimedOutError, OrderPendingError: it does not say so; then nothing is changed.
        """
        seconds = self._preparer.rules.answer_within_seconds
        listed = await self._gateway.queries.all_open_orders(timeout=seconds)
        await self._tracker.flush()
        record = await self.record(record.id)
        self._require_changeable(record)
        if not any(
            each.order.order_ref == record.order_ref
            or (record.perm_id and each.order.perm_id == record.perm_id)
            for each in listed
        ):
            raise OrderPendingError(
                f"the broker does not list order {record.id} at this moment: it was not changed",
                next_step="Read the order, and repeat the change if it is still open",
                extra={"order": msgspec.to_builtins(order_view(record))},
            )
        return record

    def _reserve(
        self,
        connection: sqlite3.Connection,
        order_id: str,
        request: ChangeRequest,
        prepared: Prepared,
        trail: Trail,
    ) -> tuple[tuple[PendingChange, Order], list[Message]]:
        """Judges the change and writes it down, in one transaction.

        So changes (and new orders) of the same moment cannot pass a limit together.
        """
        halt = stored(connection)
        if halt is not None:
            raise halted(halt)
        record = _present(connection, order_id)
        self._require_changeable(record)
        found = _shape(record, request)
        if found:
            raise OrderRefusedByRulesError(found)
        terms = changed(_newest_terms(record), request, prepared.ladder)
        closing = record.parent_id is not None
        before = self._preparer.before(connection, trail.caller)
        context = self._preparer.change_context(
            prepared, terms, record.notional, before, closing=closing
        )
        found = violations([context])
        if found:
            raise OrderRefusedByRulesError(found)
        now = self._clock.now()
        money = 0.0 if closing else context.notional or 0.0
        note_sending(connection, self._auditor, trail)
        change = PendingChange(at=now, terms=terms, fields=_fields(record, request), notional=money)
        return (change, terms), [Own(record.id, ChangeSent(now, change))]

    @staticmethod
    def _modified(
        after: OrderRecord, wanted: Order, request: ChangeRequest, *, replaced: bool
    ) -> OrderView:
        view = order_view(after)
        shown = {"order": msgspec.to_builtins(view)}
        if after.pending is not None:
            raise OrderPendingError(
                f"the change to order {after.id} is sent, the gateway has not answered in time",
                extra=shown,
            )
        if _has_taken(after.terms, wanted, request):
            return view
        if not after.open:
            raise OrderNotOpenError(f"order {after.id} is {after.status} already", extra=shown)
        if replaced:
            raise ChangeReplacedError(
                f"a later change of order {after.id} has replaced this one", extra=shown
            )
        raise ChangeRejectedError(
            f"the broker refused the change: {after.warning or 'no reason given'}",
            extra={"brokerText": after.warning, **shown},
        )

    # cancelling ---------------------------------------------------------------------------------

    async def cancel(self, order_id: str, caller: Caller) -> OrderView:
        """Cancels an order and waits for the broker's word; one that is cancelled stays so.

        It goes out whatever the journal's state. `journaled` in the answer says whether the journal
        holds what the answer says; if not the entry follows.
        """
        async with self._auditor.trail(caller, "order.cancel", None) as trail:
            record = self._tracker.open_order(order_id) or await self.record(order_id)
            trail.target = record.id
            _require_reach(record, caller)
            if record.status is Status.CANCELLED:
                return order_view(record)
            self._require_open(record)
            self._gateway.require_ready()
            with (
                self._tracker.watch([record.id]) as watch,
                BrokersWord(self._gateway.events, record, self._clock) as word,
            ):
                change, journaled = await self._noted(record, trail)
                try:
                    await self._gateway.cancel_order(record.broker_order_id)
                except Exception:
                    self._tracker.note(Own(record.id, ChangeDropped(self._clock.now(), change.at)))
                    raise
                after = await self._heard(watch, word, kept=journaled)
            trail.journaled = journaled and after is not word.record
            return self._cancelled(after, journaled=trail.journaled)

    async def _noted(self, record: OrderRecord, trail: Trail) -> tuple[PendingChange, bool]:
        """Writes the cancel down before it goes out, if the journal takes it in a moment.

        Else it follows; one such entry for each order is enough.
        """
        change = PendingChange(at=self._clock.now())
        if record.id in self._unjournaled:
            return change, False
        if not self._tracker.condition.writable:
            self._note_later(record.id, change, trail)
            return change, False
        noting = asyncio.create_task(
            self._tracker.decide(
                lambda connection: self._note_cancel(connection, record.id, change, trail)
            ),
            name="note-cancel",
        )
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)
        noting.add_done_callback(lambda ended: self._noted_or_not(ended, record.id, change, trail))
        await asyncio.wait({noting}, timeout=WAIT_SECONDS)
        return change, noting.done() and noting.exception() is None

    def _noted_or_not(
        self, noting: asyncio.Task[None], order_id: str, change: PendingChange, trail: Trail
    ) -> None:
        if noting.cancelled() or (error := noting.exception()) is None:
            return
        log.error("cancel-not-journaled", order=order_id, error=str(error))
        self._note_later(order_id, change, trail)

    def _note_later(self, order_id: str, change: PendingChange, trail: Trail) -> None:
        self._unjournaled.add(order_id)
        self._tracker.note(Own(order_id, ChangeSent(change.at, change)))
        entry = self._auditor.entry(trail, SENDING)
        writing = asyncio.create_task(self._auditor.keep(entry), name="note-cancel-audit")
        self._noting.add(writing)
        writing.add_done_callback(self._noting.discard)

    async def _heard(self, watch: Watch, word: BrokersWord, *, kept: bool) -> OrderRecord:
        """The record in the journal; the broker's bare word when that is not there in a moment."""
        order_id, seconds = word.record.id, self._preparer.rules.answer_within_seconds
        in_journal = asyncio.create_task(
            watch.until(lambda found: order_id in found and _answered(found[order_id]), seconds)
        )
        spoken = asyncio.create_task(word.answered())
        try:
            waiting = {in_journal, spoken} if kept else {spoken}
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if kept and spoken.done():
                await asyncio.wait({in_journal}, timeout=WAIT_SECONDS)
            if kept and in_journal.done() and in_journal.result():
                return watch.records[order_id]
        finally:
            in_journal.cancel()
            spoken.cancel()
        if kept and not spoken.done():
            with suppress(StoreBehindError):
                await self._tracker.flush()
            return await self.record(order_id)
        return word.record

    def _note_cancel(
        self,
        connection: sqlite3.Connection,
        order_id: str,
        change: PendingChange,
        trail: Trail,
    ) -> tuple[None, list[Message]]:
        note_sending(connection, self._auditor, trail)
        return None, [Own(order_id, ChangeSent(change.at, change))]

    @staticmethod
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

    def own_open_orders(self) -> list[OrderRecord]:
        """The open orders of this client id at this gateway, oldest first."""
        client_id, accounts = self._gateway.client_id, self._gateway.accounts
        return [
            record
            for record in self._tracker.open.values()
            if record.client_id == client_id and (not accounts or record.account in accounts)
        ]

    async def cancel_own(self) -> CancelResult:
        """Puts a cancel on the wire for every open order of this client id."""
        return await self._cancel_each(self.own_open_orders(), ())

    async def cancel_opening(self, api_key_id: str | None = None) -> CancelResult:
        """The same for those that open or enlarge a position; of one API key, or of all."""
        cancel, stay = opening(self.own_open_orders(), await self._positions())
        if api_key_id is not None:
            cancel = [each for each in cancel if each.api_key_id == api_key_id]
            stay = [each for each in stay if each.api_key_id == api_key_id]
        return await self._cancel_each(cancel, tuple(each.id for each in stay))

    async def _positions(self) -> dict[Place, float] | None:
        """What is held now; None when the broker does not say it in a moment."""
        try:
            async with asyncio.timeout(_POSITIONS_SECONDS):
                return held(await self._gateway.queries.positions(timeout=_POSITIONS_SECONDS))
        except (BridgeError, TimeoutError):
            log.warning("positions-unknown", hint="only brackets' closing legs are kept")
            return None

    async def _cancel_each(self, records: list[OrderRecord], kept: tuple[str, ...]) -> CancelResult:
        requested: list[str] = []
        failed: list[str] = []
        for record in records:
            try:
                await self._gateway.cancel_order(record.broker_order_id)
            except BridgeError:
                failed.append(record.id)
            else:
                requested.append(record.id)
        return CancelResult(requested=tuple(requested), failed=tuple(failed), kept=kept)

    # settling -----------------------------------------------------------------------------------

    async def settle(self, order_id: str, settlement: Settlement, caller: Caller) -> OrderView:
        """Takes a person's word for the end of an order whose fate is unknown."""
        async with self._auditor.trail(caller, "order.settle", settlement) as trail:
            record = await self.record(order_id)
            trail.target = record.id
            if record.state is not State.UNKNOWN:
                raise OrderNotOpenError(
                    f"the fate of order {record.id} is known: {record.status}",
                    next_step="Nothing needs settling; cancel the order if it is open",
                )
            happening = Settled(self._clock.now(), Status(settlement.status))
            self._tracker.note(Own(record.id, happening))
            await self._tracker.flush()
            return order_view(await self.record(record.id))

    # ----------------------------------------------------------------------------------------------

    def _require_open(self, record: OrderRecord) -> None:
        shown = {"order": msgspec.to_builtins(order_view(record))}
        if not record.open:
            raise OrderNotOpenError(f"order {record.id} is {record.status} already", extra=shown)
        if record.client_id != self._gateway.client_id:
            raise OrderNotOpenError(
                f"order {record.id} belongs to client id {record.client_id}",
                next_step="Change or cancel it with that client id, or in TWS",
                extra=shown,
            )
        accounts = self._gateway.accounts
        if accounts and record.account not in accounts:
            raise OrderNotOpenError(
                f"order {record.id} is of account {record.account}, which this gateway does not"
                " manage",
                next_step="Make the connection settings of its own gateway active first",
                extra=shown,
            )

    def _require_changeable(self, record: OrderRecord) -> None:
        """A change carries the whole order: it could place one that the broker never got."""
        self._require_open(record)
        shown = {"order": msgspec.to_builtins(order_view(record))}
        if record.state is State.UNKNOWN:
            raise OrderFateUnknownError(
                f"the fate of order {record.id} is unknown: it was not changed", extra=shown
            )
        if record.state is not State.ACKNOWLEDGED:
            raise OrderPendingError(
                f"the broker has not acknowledged order {record.id} yet: it was not changed",
                next_step="Read the order, and change it when its state is acknowledged",
                extra=shown,
            )

    async def _carry_out(
        self,
        change: PendingChange,
        record: OrderRecord,
        watch: Watch,
        send: Callable[[], Awaitable[None]],
        enough: Enough,
    ) -> OrderRecord:
        """Puts what was noted on the wire, waits until it is `enough` or time is up."""
        try:
            await send()
        except Exception:  # a caller that is cancelled may have got it written: the broker tells
            self._tracker.note(Own(record.id, ChangeDropped(self._clock.now(), change.at)))
            raise
        answered = await watch.until(
            lambda found: record.id in found and enough(found[record.id]),
            self._preparer.rules.answer_within_seconds,
        )
        if answered:  # as it was then: the next change may be pending already
            return watch.records[record.id]
        with suppress(StoreBehindError):  # sent, and then it is as the journal knows it
            await self._tracker.flush()
        return await self.record(record.id)


def _require_reach(record: OrderRecord, caller: Caller) -> None:
    """A bound key touches no order of other accounts or symbols."""
    if not caller.bounds.reaches(record.account, record.contract.symbol):
        raise KeyBoundError(f"this key does not reach order {record.id}")


def _answered(record: OrderRecord) -> bool:
    """Whether the broker has said what became of a cancel."""
    return not record.open or (record.pending is None and record.state is not State.UNKNOWN)


def _present(connection: sqlite3.Connection, order_id: str) -> OrderRecord:
    record = orders.get(connection, order_id)
    assert record is not None  # noqa: S101 - orders are never removed
    return record


def _newest_terms(record: OrderRecord) -> Order:
    """What the broker last said, with what the changes before this one have asked for since."""
    pending = record.pending
    if pending is None or pending.terms is None:
        return record.terms
    asked = {name: getattr(pending.terms, name) for name in pending.fields or CHANGEABLE}
    return structs.replace(record.terms, **asked)


def _fields(record: OrderRecord, request: ChangeRequest) -> tuple[str, ...]:
    """What this change and those before it that have no answer yet are about."""
    asked = set(named(request))
    if "tif" in asked:
        asked.add("good_till_date")  # a date belongs to GTD alone
    if record.pending is not None and record.pending.terms is not None:
        asked.update(record.pending.fields or CHANGEABLE)
    return tuple(name for name in CHANGEABLE if name in asked)


def _shape(record: OrderRecord, request: ChangeRequest) -> list[Violation]:
    found = [*_values(record, request), *_dates(record, request)]
    if request == ChangeRequest(round_to_tick=request.round_to_tick):
        found.append(Violation(code="missing-field", message="name at least one thing to change"))
    if request.quantity is not None and request.quantity <= record.filled:
        found.append(
            Violation(
                code="quantity-filled",
                message=f"{record.filled:g} are filled already: cancel the order instead",
                field="quantity",
                value=request.quantity,
                limit=record.filled,
            )
        )
    return found


def _values(record: OrderRecord, request: ChangeRequest) -> Iterator[Violation]:
    kind = order_type(record.terms.order_type)
    taken = {"limitPrice": kind in {"LMT", "STP_LMT"}, "stopPrice": kind in {"STP", "STP_LMT"}}
    values = {
        "quantity": request.quantity,
        "limitPrice": request.limit_price,
        "stopPrice": request.stop_price,
    }
    for field, value in values.items():
        if value is None:
            continue
        if not taken.get(field, True):
            yield Violation(
                code="unexpected-field", message=f"{kind} takes no {field}", field=field
            )
        may_be_negative = record.contract.sec_type == "FUT" and field != "quantity"
        if problem := number_problem(value, positive=not may_be_negative):
            yield Violation(code="invalid-field", message=f"{field} {problem}", field=field)


def _dates(record: OrderRecord, request: ChangeRequest) -> Iterator[Violation]:
    field, date = "goodTillDate", request.good_till_date
    if date is not None and (problem := text_problem(date)):
        yield Violation(code="invalid-field", message=f"{field} {problem}", field=field)
    held = _newest_terms(record)
    tif = request.tif or held.tif
    if tif == "GTD" and not (held.good_till_date if date is None else date):
        yield Violation(code="missing-field", message=f"tif GTD needs {field}", field=field)
    if tif != "GTD" and date:
        yield Violation(code="unexpected-field", message=f"tif {tif} takes no {field}", field=field)


def _has_taken(held: Order, wanted: Order, request: ChangeRequest) -> bool:
    """Whether the order has what this request asked for; a change beside it may ask for more."""
    return all(same(name, getattr(held, name), getattr(wanted, name)) for name in named(request))
