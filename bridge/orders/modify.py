"""Changing orders that are working: judged, written down, sent, and followed to the answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import structs

from bridge.auditing import Auditor, Caller, Trail, note_sending
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import Order
from bridge.orders.apply_messages import Message, Own
from bridge.orders.bracket_changes import bracket_problems, enlarged
from bridge.orders.contradictions import (
    amount_problem,
    date_problem,
    number_problem,
    tif_problems,
)
from bridge.orders.errors import (
    ChangeRejectedError,
    ChangeReplacedError,
    OrderFateUnknownError,
    OrderNotOpenError,
    OrderPendingError,
    OrderRefusedByRulesError,
    Violation,
)
from bridge.orders.exposure import NOT_CLOSING, only_reduce, parts_of_order
from bridge.orders.halt import HaltSwitch, halted, stored
from bridge.orders.journal import Listed, OrderJournal, Watch, require_reach
from bridge.orders.legs import CHANGEABLE, changed, named, newest_terms, taken
from bridge.orders.lifecycle import ChangeDropped, ChangeSent
from bridge.orders.order_types import INSTRUCTIONS, KINDS, kind_of_type, order_type
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.request import ChangeRequest
from bridge.orders.risk import violations
from bridge.orders.sender import OrderSender
from bridge.orders.views import OrderView, order_view
from bridge.quantity import exact, plain
from bridge.store import StoreBehindError, orders
from bridge.store.orders import OrderRecord, PendingChange, State
from bridge.tws.gateway import Gateway

_HELD_SECONDS: Final = 2.0


@dataclass(kw_only=True, eq=False)
class OrderModifier:
    """Changes orders that work at the broker: checked as a new order is, sent once, kept first."""

    gateway: Gateway
    journal: OrderJournal
    sender: OrderSender
    preparer: Preparer
    halt: HaltSwitch
    auditor: Auditor
    clock: Clock
    _newest: dict[str, object] = field(default_factory=dict, init=False)
    """By order: the change that was noted last."""

    async def modify(
        self,
        order_id: str,
        request: ChangeRequest,
        caller: Caller,
        *,
        only_closing: bool = False,
    ) -> OrderView:
        """Changes a working order and waits for the broker's word.

        `only_closing`: of a rule, which closes; no limit binds it, because it is sent only where it
        reduces what is held, or where it makes the order smaller and nothing else.
        """
        async with self.auditor.trail(caller, "order.modify", request) as trail:
            record = await self.journal.find(order_id)
            trail.target = record.id
            require_reach(caller, record.id, record.account, record.symbol)
            self._require_changeable(record)
            self.halt.require_off()
            self.gateway.require_ready()
            self.journal.require_current()
            record = await self._as_the_broker_has_it(record)
            wanted = changed(record.terms, structs.replace(request, round_to_tick=False), ())
            prepared = await self.preparer.prepare_change(record.contract, wanted)
            closes = only_closing or await self.journal.was_sized_to_close(record.id)
            prepared = structs.replace(prepared, closes=closes, unattended=only_closing)
            with self.journal.watch([record.id]) as watch:
                change, terms = await self._noted(record, request, prepared, trail, wanted)
                turn = self._newest[record.id] = object()
                after = await self._carry_out(record, change, terms, watch)
            replaced = self._newest.get(record.id) is not turn
            if not replaced:
                del self._newest[record.id]
            return _modified(record, after, terms, request, replaced=replaced)

    async def _noted(
        self,
        record: OrderRecord,
        request: ChangeRequest,
        prepared: Prepared,
        trail: Trail,
        wanted: Order,
    ) -> tuple[PendingChange, Order]:
        """Judges the change and writes it down.

        What was sized to close, or passes a limit only because it reduces what is held, is looked
        at in the sender's turn, which is kept until it is written down: of two of one moment each
        finds the other. So one that makes an order larger keeps to the turn as well. One that only
        makes it smaller adds nothing: there is nothing to look at.
        """
        smaller = _only_smaller(record, request)
        may_pass = self.preparer.may_pass_by_reducing(prepared, wanted, record)
        looked_at = (prepared.closes or may_pass) and not smaller
        most = None if smaller else wanted.quantity

        async def decided(judged: Prepared) -> tuple[PendingChange, Order]:
            return await self.journal.decide(
                lambda connection: self._reserve(
                    connection, record.id, request, judged, trail, most
                )
            )

        if not looked_at and not enlarged(record, wanted):
            return await decided(prepared)
        async with self.sender.turn(alone=looked_at):
            if looked_at:
                prepared = await self._looked_at(prepared, record, wanted)
            return await decided(prepared)

    async def _looked_at(self, prepared: Prepared, record: OrderRecord, wanted: Order) -> Prepared:
        """With whether the changed order only reduces what is held, beside all that works.

        Raises:
            OrderRefusedByRulesError: a rule's order could open a position.
            TwsError, PositionsMovingError: nobody can tell whether a rule's order could.
        """
        present = self.journal.open.get(record.id, record)  # it may have filled since it was read
        left = exact(wanted.quantity - present.filled)
        parts = parts_of_order(record.id, record.contract, wanted, left)
        own = [each for each in self.journal.open.values() if each.id != record.id]
        try:
            reduces = await only_reduce(
                self.gateway,
                parts,
                own,
                replaced=record.order_ref,
                confirmed=self.preparer.is_confirmed,
                seconds=_HELD_SECONDS,
            )
        except BridgeError:
            if prepared.unattended:
                raise
            reduces = False  # nobody can tell: it is held against the limits as any change
        if prepared.unattended and not reduces:
            raise OrderRefusedByRulesError([NOT_CLOSING])
        return structs.replace(prepared, reduces=reduces, closes=prepared.closes and reduces)

    async def _as_the_broker_has_it(self, record: OrderRecord) -> OrderRecord:
        """The order with the terms that the broker has now: a change carries all of them.

        What it said last may have been overtaken on its way, or lost.

        Raises:
            RequestTimedOutError, OrderPendingError: it does not say so; then nothing is changed.
        """
        seconds = self.preparer.rules.answer_within_seconds
        listed = await self.gateway.queries.all_open_orders(timeout=seconds)
        await self.journal.flush()
        record = await self.journal.find(record.id)
        self._require_changeable(record)
        if record not in Listed(listed):
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
        most: float | None,
    ) -> tuple[tuple[PendingChange, Order], list[Message]]:
        """Judges the change and writes it down, in one transaction.

        So changes (and new orders) of the same moment cannot pass a limit together. `most` is the
        quantity that was looked at; None: none was, as the change only made the order smaller.
        """
        halt = stored(connection)
        if halt is not None:
            raise halted(halt)
        record = _present(connection, order_id)
        self._require_changeable(record)
        found = _contradictions(record, request)
        if found:
            raise OrderRefusedByRulesError(found)
        terms = changed(newest_terms(record), request, prepared.ladder)
        shrinks = _only_smaller(record, request)
        larger = not shrinks if most is None else terms.quantity > most
        if larger:  # than what was looked at: somebody else has changed it since
            if prepared.unattended:
                raise OrderRefusedByRulesError([NOT_CLOSING])
            prepared = structs.replace(prepared, closes=False, reduces=False)
        before = self.preparer.before(connection, trail.caller)
        context = structs.replace(
            self.preparer.change_context(prepared, terms, record, before),
            shrinks=shrinks,
            stop_named=request.trail_stop_price is not None,
            trail_named=(request.trail_amount, request.trail_percent) != (None, None),
        )
        family = orders.by_group(connection, record.group_id)
        beside = bracket_problems(record, terms, family, prepared.reference)
        found = [*beside, *violations([context])]
        if found:
            raise OrderRefusedByRulesError(found)
        now = self.clock.now()
        note_sending(connection, self.auditor, trail)
        change = PendingChange(
            at=now,
            terms=terms,
            fields=_fields(record, request),
            notional=context.counted_notional,
        )
        return (change, terms), [Own(record.id, ChangeSent(now, change))]

    def _require_changeable(self, record: OrderRecord) -> None:
        """A change carries the whole order: it could place one that the broker never got."""
        self.journal.require_open(record)
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
        self, record: OrderRecord, change: PendingChange, terms: Order, watch: Watch
    ) -> OrderRecord:
        """Puts what was noted on the wire, waits until it is answered or time is up."""

        def permit() -> None:
            self.halt.require_off()
            cancelled_at = self.journal.cancelled_at.get(record.id)
            if record.id not in self.journal.open or (cancelled_at and cancelled_at >= change.at):
                raise OrderNotOpenError(f"order {record.id} was cancelled, or ended, before that")

        try:
            await self.gateway.place_order(
                record.broker_order_id, record.contract, terms, permit=permit
            )
        except Exception:  # a caller that is cancelled may have got it written: the broker tells
            self.journal.note(Own(record.id, ChangeDropped(self.clock.now(), change.at)))
            raise

        def answered() -> bool:
            present = watch.records.get(record.id)
            return present is not None and (present.pending is None or not present.open)

        if await watch.until(answered, self.preparer.rules.answer_within_seconds):
            return watch.records[record.id]  # as it was then: the next change may be pending
        with suppress(StoreBehindError):  # sent, and then it is as the journal knows it
            await self.journal.flush()
        return await self.journal.find(record.id)


def _modified(
    before: OrderRecord,
    after: OrderRecord,
    wanted: Order,
    request: ChangeRequest,
    *,
    replaced: bool,
) -> OrderView:
    view = order_view(after)
    shown = {"order": msgspec.to_builtins(view)}
    if after.pending is not None:
        raise OrderPendingError(
            f"the change to order {after.id} is sent, the gateway has not answered in time",
            extra=shown,
        )
    if all(taken(name, wanted, after.terms, before.terms) for name in named(request)):
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


def _only_smaller(record: OrderRecord, request: ChangeRequest) -> bool:
    """Whether a change makes the order smaller and nothing else, whatever becomes of those before.

    A change on its way that makes it larger may be refused yet.
    """
    quantity = request.quantity
    held = min(record.terms.quantity, newest_terms(record).quantity)
    return named(request) == ("quantity",) and quantity is not None and quantity <= held


def _present(connection: sqlite3.Connection, order_id: str) -> OrderRecord:
    record = orders.get(connection, order_id)
    assert record is not None  # noqa: S101 - orders are never removed
    return record


def _fields(record: OrderRecord, request: ChangeRequest) -> tuple[str, ...]:
    """What this change and those before it that have no answer yet are about."""
    asked = set(named(request))
    if "tif" in asked:
        asked.add("good_till_date")  # a date belongs to GTD alone
    if record.pending is not None and record.pending.terms is not None:
        asked.update(record.pending.fields or CHANGEABLE)
    return tuple(name for name in CHANGEABLE if name in asked)


def _contradictions(record: OrderRecord, request: ChangeRequest) -> list[Violation]:
    if record.terms.order_type in INSTRUCTIONS.values():
        text = "an instruction about an option is not changed: cancel it and send another"
        return [Violation("unexpected-field", text, field="orderType")]
    found = [*_values(record, request), *_dates(record, request)]
    if request == ChangeRequest(round_to_tick=request.round_to_tick):
        found.append(Violation("missing-field", "name at least one thing to change"))
    if request.quantity is not None and request.quantity <= record.filled:
        found.append(
            Violation(
                "quantity-filled",
                f"{plain(record.filled)} are filled already: cancel the order instead",
                field="quantity",
                value=request.quantity,
                limit=record.filled,
            )
        )
    return found


def _values(record: OrderRecord, request: ChangeRequest) -> Iterator[Violation]:
    terms, kind = record.terms, kind_of_type(record.terms.order_type)
    limited = kind.limit_price != "no" or terms.limit_price is not None
    taken = {
        "quantity": terms.cash_quantity is None,
        "limitPrice": limited,
        "stopPrice": kind.stop_price == "yes",
        "trailAmount": kind.trail == "yes" and terms.trail_percent is None,
        "trailPercent": kind.trail == "yes" and terms.trail_percent is not None,
        "trailStopPrice": kind.trail == "yes",
        "limitOffset": kind.limit_offset != "no",
    }
    values = {
        "quantity": request.quantity,
        "limitPrice": request.limit_price,
        "stopPrice": request.stop_price,
        "trailAmount": request.trail_amount,
        "trailPercent": request.trail_percent,
        "trailStopPrice": request.trail_stop_price,
        "limitOffset": request.limit_offset,
    }
    negative = record.contract.sec_type in {"FUT", "BAG"}
    for name, value in values.items():
        if value is None:
            continue
        if not taken[name]:
            what = order_type(terms.order_type)
            yield Violation("unexpected-field", f"{what} takes no {name}", field=name)
        problem = (
            number_problem(value, positive=not negative or name == "quantity")
            if name in {"quantity", "limitPrice", "stopPrice", "trailStopPrice"}
            else amount_problem(name, value)
        )
        if problem:
            yield Violation("invalid-field", f"{name} {problem}", field=name)


def _dates(record: OrderRecord, request: ChangeRequest) -> Iterator[Violation]:
    name, date = "goodTillDate", request.good_till_date
    if date and (problem := date_problem(date)):
        yield Violation("invalid-field", f"{name} {problem}", field=name)
    held = newest_terms(record)
    tif = request.tif or held.tif
    if tif == "GTD" and not (held.good_till_date if date is None else date):
        yield Violation("missing-field", f"tif GTD needs {name}", field=name)
    if tif != "GTD" and date:
        yield Violation("unexpected-field", f"tif {tif} takes no {name}", field=name)
    kind = order_type(record.terms.order_type)
    if request.tif is not None and kind in KINDS:
        yield from tif_problems(request.tif, kind, record.contract.exchange)
