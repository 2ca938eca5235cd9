"""An order's life as a pure function: (record, what happened) -> record.

    intention ── Sent ──> sent ── broker's word ──> acknowledged ── Filled, Cancelled ──> terminal
        │                  │                             │  201, 203 ... ──> terminal (Rejected)
        │ NotSent          │ Missing                     │ Missing
        │ Withdrawn        v                             v
     terminal            unknown  ── broker's word ──> acknowledged / terminal

Messages may come twice, late, in the wrong order or never. So: what has been filled never shrinks;
Filled is for ever; a cancelled order only changes when it turns out to have filled; the broker's
word always beats the bridge's own guesses (NotSent, Unknown, and Rejected where the broker lists
the order as open again).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from bridge.model import Contract, OpenOrder, Order, OrderStatus
from bridge.orders import order_ids
from bridge.orders.legs import CHANGEABLE, same_moment, taken
from bridge.orders.order_types import INSTRUCTIONS
from bridge.quantity import SLACK, multiplier_in
from bridge.store.orders import (
    ENDED,
    WORKING,
    OrderRecord,
    PendingChange,
    State,
    Status,
    from_broker,
)
from bridge.tws.broker_codes import Effect, effect_of

WITHDRAWN: Final = "cancelled before it was sent: the broker never got it"
_INSTRUCTION_REFUSED: Final = 322
"""What a gateway says that does not carry out an instruction about an option."""


class Sent(Struct, frozen=True):
    """It was put on the wire."""

    at: datetime


class NotSent(Struct, frozen=True):
    """It is certain that it never reached the gateway."""

    at: datetime
    reason: str


class Withdrawn(Struct, frozen=True):
    """It was cancelled before it was put on the wire, and never will be."""

    at: datetime


class Reported(Struct, frozen=True):
    """An openOrder or completedOrder message."""

    at: datetime
    report: OpenOrder


class StatusReported(Struct, frozen=True):
    """What the broker's orderStatus message says of one order; prices in its currency."""

    at: datetime
    report: OrderStatus


class BrokerError(Struct, frozen=True):
    """An error message that names the order.

    `changed`: a change of it was sent a moment ago, and may be answered by now.
    """

    at: datetime
    code: int
    text: str
    changed: bool = False


class Executed(Struct, frozen=True):
    """What the executions of this order add up to."""

    at: datetime
    quantity: float
    average_price: float


class Missing(Struct, frozen=True):
    """The broker was asked for everything it knows, twice, and this order was not in it."""

    at: datetime


class ChangeSent(Struct, frozen=True):
    """A change or a cancel is about to be put on the wire."""

    at: datetime
    change: PendingChange


class ChangeDropped(Struct, frozen=True):
    """The change that was noted then was certainly not sent after all."""

    at: datetime
    noted_at: datetime


class ChangeUnanswered(Struct, frozen=True):
    """The broker lists the order long after the change, and has never answered that."""

    at: datetime


class Settled(Struct, frozen=True):
    """A person has looked, and says what became of an order whose fate was unknown."""

    at: datetime
    status: Status


Happening = (
    Sent
    | NotSent
    | Withdrawn
    | Reported
    | StatusReported
    | BrokerError
    | Executed
    | Missing
    | ChangeSent
    | ChangeDropped
    | ChangeUnanswered
    | Settled
)


def apply(record: OrderRecord, happening: Happening) -> OrderRecord:
    """What the journal holds after this; the same object when nothing has changed."""
    changed = _apply(record, happening)
    if changed == record:
        return record
    return structs.replace(changed, updated_at=max(record.updated_at, happening.at))


def _apply(record: OrderRecord, happening: Happening) -> OrderRecord:
    match happening:
        case StatusReported(at, report):
            return _status(record, at, report)
        case Reported(at, report):
            return _report(record, at, report)
        case BrokerError():
            return _error(record, happening)
        case Executed(at, quantity, average_price):
            return _executed(record, at, quantity, average_price)
        case ChangeSent(_, change):
            return _changing(record, change) if record.open else record
        case ChangeDropped(_, noted_at):
            if record.pending is None or record.pending.at != noted_at:
                return record  # another change has come in its place
            money = record.notional - record.pending.added
            return structs.replace(record, pending=None, notional=money)
        case ChangeUnanswered():
            return _unanswered(record)
        case Settled(at, status):
            return _end(record, at, status) if record.state is State.UNKNOWN else record
        case _:
            return _own_knowledge(record, happening)


def adopted(now: datetime, digest: str, contract: Contract, order: Order) -> OrderRecord:
    """An order of this bridge's that only the broker knows; `digest` is what is left of its key."""
    order_id = order_ids.new_id(now)
    price = order.limit_price or order.stop_price or 0.0
    return OrderRecord(
        id=order_id,
        order_ref=order.order_ref,
        key_digest=digest,
        role="single",
        group_id=order_id,
        parent_id=None,
        api_key_id="",
        account=order.account,
        symbol=contract.symbol,
        contract=contract,
        terms=order,
        client_id=order.client_id,
        broker_order_id=order.order_id,
        notional=abs(order.quantity * price * multiplier_in(contract.multiplier)),
        created_at=now,
        updated_at=now,
        sent_at=now,
        state=State.SENT,
        warning="adopted from the broker: the journal had lost this order",
    )


def _changing(record: OrderRecord, change: PendingChange) -> OrderRecord:
    """The day's money is reserved here; whatever becomes of the change, unless it is not sent."""
    added = max(0.0, change.notional - record.notional)
    pending = structs.replace(change, added=added)
    return structs.replace(record, pending=pending, notional=record.notional + added)


def _unanswered(record: OrderRecord) -> OrderRecord:
    if record.pending is None or record.status is Status.PENDING_CANCEL:
        return record
    what = "cancel" if record.pending.terms is None else "change"
    warning = f"the broker has never answered the last {what}: the order is as the broker lists it"
    return structs.replace(record, pending=None, warning=warning)


def _own_knowledge(
    record: OrderRecord, happening: Sent | NotSent | Withdrawn | Missing
) -> OrderRecord:
    match happening:
        case Sent(at):
            state = State.SENT if record.state is State.INTENTION else record.state
            return structs.replace(record, state=state, sent_at=record.sent_at or at)
        case NotSent(at, reason):
            if record.state in {State.ACKNOWLEDGED, State.TERMINAL}:
                return record
            return structs.replace(_end(record, at, Status.NOT_SENT), warning=reason)
        case Withdrawn(at):
            if record.state is not State.INTENTION:
                return record
            return structs.replace(_end(record, at, Status.CANCELLED), warning=WITHDRAWN)
        case Missing():
            if not record.open:
                return record
            return structs.replace(record, state=State.UNKNOWN, status=Status.UNKNOWN, pending=None)


def _status(record: OrderRecord, at: datetime, report: OrderStatus) -> OrderRecord:
    record = _fill_level(record, report.filled, report.average_fill_price)
    record = structs.replace(record, perm_id=report.perm_id or record.perm_id)
    status = from_broker(report.status)
    if status is None:
        return record
    whole = report.filled if report.remaining <= SLACK else 0.0
    return _moved(record, at, status, listed=False, whole=whole)


def _report(record: OrderRecord, at: datetime, report: OpenOrder) -> OrderRecord:
    perm_id = report.order.perm_id or record.perm_id
    record = structs.replace(record, perm_id=perm_id)
    if report.order.filled_quantity:
        record = _fill_level(record, report.order.filled_quantity, 0.0)
    status = from_broker(report.state.status)
    if status is Status.INACTIVE and "reject" in report.state.completed_status.lower():
        record = structs.replace(record, reject_text=report.state.completed_status)
        status = Status.REJECTED
    if status is None:
        return record
    if report.state.warning_text:
        record = structs.replace(record, warning=report.state.warning_text)
    if record.pending is not None and _has_taken(report.order, record.pending, record.terms):
        record = _terms(record, report)  # also where the order has ended since
    whole = report.order.filled_quantity or 0.0
    record = _moved(record, at, status, listed=True, whole=whole)
    return _terms(record, report) if record.open else record


def _terms(record: OrderRecord, report: OpenOrder) -> OrderRecord:
    """Takes over what the broker has of the order, field by field; its rewording is not taken over.

    A change is answered when every field that it asked for is as it asked.
    """
    pending = record.pending
    wanted = pending.terms if pending else None
    reported, held = report.order, _of_type(record.terms, report.order)
    held = _with_new_prices(held, reported, wanted)
    terms = structs.replace(
        held,
        quantity=reported.quantity or held.quantity,
        limit_price=_price(held.limit_price, reported.limit_price),
        stop_price=_price(held.stop_price, reported.stop_price),
        trail_amount=_price(held.trail_amount, reported.trail_amount),
        trail_percent=_price(held.trail_percent, reported.trail_percent),
        trail_stop_price=reported.trail_stop_price or held.trail_stop_price,
        limit_offset=_price(held.limit_offset, reported.limit_offset),
        tif=reported.tif or held.tif,
        outside_rth=reported.outside_rth,
        all_or_none=reported.all_or_none,
        good_after_time=reported.good_after_time or held.good_after_time,
        algo_parameters=reported.algo_parameters or held.algo_parameters,
        conditions=reported.conditions or held.conditions,
        conditions_cancel=reported.conditions_cancel,
        conditions_outside_rth=reported.conditions_outside_rth,
    )
    date = _good_till(terms.tif, reported, held, wanted)
    terms = structs.replace(terms, good_till_date=date)
    done = pending is not None and _has_taken(terms, pending, record.terms)
    return structs.replace(record, terms=terms, pending=None if done else pending)


def _has_taken(order: Order, change: PendingChange, before: Order) -> bool:
    """Whether an order is as this change asks; a cancel asks for nothing of the kind."""
    return change.terms is not None and all(
        taken(name, change.terms, order, before) for name in change.fields or CHANGEABLE
    )


def _of_type(held: Order, reported: Order) -> Order:
    """The terms with another type, if somebody gave the order one in TWS."""
    kinds = {held.order_type, reported.order_type}
    if len(kinds) == 1 or not kinds <= {"MKT", "LMT", "STP", "STP LMT"}:
        return held
    return structs.replace(
        held,
        order_type=reported.order_type,
        limit_price=reported.limit_price if "LMT" in reported.order_type else None,
        stop_price=reported.stop_price if "STP" in reported.order_type else None,
    )


def _good_till(tif: str, reported: Order, held: Order, wanted: Order | None) -> str:
    """The date that the broker has, in the words of whoever asked for it."""
    if tif != "GTD":
        return ""
    asked = (each.good_till_date for each in (wanted, held) if each is not None)
    if not reported.good_till_date:
        return held.good_till_date
    known = (date for date in asked if same_moment(date, reported.good_till_date))
    return next(known, reported.good_till_date)


def _with_new_prices(held: Order, reported: Order, wanted: Order | None) -> Order:
    """With the prices that the order had not, that a change asks for, and that the broker has."""
    if wanted is None:
        return held
    new = {
        name: getattr(wanted, name)
        for name in ("limit_price", "limit_offset")
        if getattr(held, name) is None
        and getattr(wanted, name) is not None
        and getattr(wanted, name) == getattr(reported, name)
    }
    return structs.replace(held, **new)


def _price(held: float | None, reported: float | None) -> float | None:
    """A price that the order has; for one that it has not the broker says 0."""
    return held if held is None or reported is None else reported


def _error(record: OrderRecord, error: BrokerError) -> OrderRecord:
    """What the broker says of the order stays with it, also when it comes behind its end.

    A gateway tells the new terms of a change before the broker has taken them: the refusal that
    comes then is of the change, and the order works on.
    """
    at, code, text = error.at, error.code, error.text
    effect, said = effect_of(code), f"{code}: {text}"
    new = record.acknowledged_at is None and record.terms.order_type in INSTRUCTIONS.values()
    if new and code == _INSTRUCTION_REFUSED:
        effect = Effect.REFUSES
    if effect in {Effect.WARNS, Effect.NOTHING}:
        return structs.replace(record, warning=said)
    if not record.open:
        return _reason(record, effect, code, text)
    if effect is Effect.CANCELS:
        return _end(_with_reason(record, code, text), at, Status.CANCELLED)
    lost = record.state is State.UNKNOWN and record.acknowledged_at is not None
    working = lost or record.status in WORKING or record.status is Status.PENDING_CANCEL
    if effect is Effect.CHANGE or (working and (error.changed or _about_change(record, effect))):
        return structs.replace(record, pending=None, warning=said)
    return _end(_with_reason(record, code, text), at, Status.REJECTED)


def _about_change(record: OrderRecord, effect: Effect) -> bool:
    """Whether a refusal is of a change of the order that works: it itself was taken long ago."""
    changing = record.pending is not None and record.pending.terms is not None
    return changing or effect is Effect.REFUSES


def _reason(record: OrderRecord, effect: Effect, code: int, text: str) -> OrderRecord:
    """The reason of an end that is known already; the first that was given stays."""
    ended = record.status in {Status.CANCELLED, Status.REJECTED}
    if effect is Effect.CHANGE or not ended or record.reject_code is not None:
        return record
    return _with_reason(record, code, text)


def _with_reason(record: OrderRecord, code: int, text: str) -> OrderRecord:
    if text.rstrip().endswith("reason:"):
        return record  # a cancel that was asked for has none
    return structs.replace(record, reject_code=code, reject_text=text)


def _executed(
    record: OrderRecord, at: datetime, quantity: float, average_price: float
) -> OrderRecord:
    record = _fill_level(record, quantity, average_price)
    if average_price and abs(quantity - record.filled) <= SLACK:
        record = structs.replace(record, average_price=average_price)  # a corrected price, too
    if record.filled > 0 and record.state is not State.TERMINAL:
        record = _acknowledged(record, at)
        if record.status in {Status.PENDING_SUBMIT, Status.UNKNOWN}:
            record = structs.replace(record, status=Status.SUBMITTED)
    return _moved(record, at, Status.FILLED, listed=False) if _full(record) else record


def _moved(
    record: OrderRecord, at: datetime, status: Status, *, listed: bool, whole: float = 0.0
) -> OrderRecord:
    """The broker gives the order this status (`listed`: in an openOrder or completedOrder).

    `whole`: what it says to be filled, if that is all of the order; 0: it does not say.
    """
    if record.status is status and record.state in {State.ACKNOWLEDGED, State.TERMINAL}:
        return record
    if record.state is State.TERMINAL and not _may_return(record, status, listed=listed):
        return record
    if status in ENDED:
        return _end(record, at, status, whole)
    record = structs.replace(
        record, status=status, ended_at=None, reject_code=None, reject_text=None
    )
    return _acknowledged(record, at)


def _may_return(record: OrderRecord, status: Status, *, listed: bool) -> bool:
    if status is Status.FILLED:
        return True
    if record.status is Status.REJECTED:
        return listed and status is not Status.INACTIVE
    return record.status is Status.NOT_SENT


def _acknowledged(record: OrderRecord, at: datetime) -> OrderRecord:
    return structs.replace(
        record, state=State.ACKNOWLEDGED, acknowledged_at=record.acknowledged_at or at
    )


def _end(record: OrderRecord, at: datetime, status: Status, whole: float = 0.0) -> OrderRecord:
    """What the broker says to be all of an order that is filled counts, as a change may be lost."""
    filled, terms = record.filled, record.terms
    if status is Status.FILLED:
        filled = max(filled, whole or terms.quantity)
        terms = structs.replace(terms, quantity=filled) if whole else terms
    return structs.replace(
        record,
        state=State.TERMINAL,
        status=status,
        filled=filled,
        terms=terms,
        pending=None,
        ended_at=record.ended_at or at,
    )


def _fill_level(record: OrderRecord, filled: float, average_price: float) -> OrderRecord:
    if filled <= record.filled + SLACK:
        return record
    return structs.replace(
        record, filled=filled, average_price=average_price or record.average_price
    )


def _full(record: OrderRecord) -> bool:
    quantity = record.terms.quantity
    if record.pending and record.pending.terms:  # perhaps the broker has taken the change already
        quantity = max(quantity, record.pending.terms.quantity)
    return record.filled >= quantity - SLACK
