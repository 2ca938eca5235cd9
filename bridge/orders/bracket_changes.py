"""What a change of one order of a bracket must leave true of the others: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import structs

from bridge.model import Order
from bridge.orders.contradictions import (
    bracket_tif_problems,
    exits_beside,
    exits_beside_entry,
)
from bridge.orders.errors import Violation
from bridge.orders.legs import newest_terms
from bridge.orders.order_types import better, kind_of_type, worse
from bridge.orders.risk_context import Reference
from bridge.quantity import SLACK, plain
from bridge.store.orders import OrderRecord, Status

_MARKET: Final = "the market"


def bracket_problems(
    record: OrderRecord,
    terms: Order,
    family: Sequence[OrderRecord],
    reference: Reference | None,
) -> Iterator[Violation]:
    """What is wrong with the new `terms` beside the orders of its group, itself among them."""
    if record.parent_id is not None:
        yield from _exit_quantity(record, terms, family)
        yield from _exit_price(record, terms, family, reference)
        return
    exits = [each for each in family if each.parent_id == record.id and each.open]
    if exits:
        yield from _entry_quantity(record, terms, exits)
        yield from _entry_price(record, terms, exits, reference)
        if terms.tif != record.terms.tif:
            yield from bracket_tif_problems(terms.tif)


def enlarged(record: OrderRecord, terms: Order) -> bool:
    """Whether the new terms are for more than the broker has."""
    return terms.quantity > record.terms.quantity + SLACK


def stop_of(order: Order) -> float | None:
    """Where its stop stands, one that trails too; None: it has none, or nobody has said."""
    return order.trail_stop_price if _trails(order) else order.stop_price


def fills_at(entry: Order, market: float, con_id: int) -> float | None:
    """Where an entry fills if the market stays; None: by then the market may be anywhere.

    As when it waits for a price of its own contract, `con_id`.
    """
    kind, side = kind_of_type(entry.order_type), entry.action
    if any(each.price is not None and each.con_id == con_id for each in entry.conditions):
        return None
    waits = bool(entry.conditions or entry.good_after_time)
    if kind.trail == "yes" or kind.only_day or (waits and entry.order_type != "MKT"):
        return None
    price, stop = market, entry.stop_price
    if stop is not None:
        price = better(side, market, stop) if kind.touched else worse(side, market, stop)
    return price if entry.limit_price is None else better(side, price, entry.limit_price)


def _trails(order: Order) -> bool:
    return kind_of_type(order.order_type).trail == "yes"


def _entry_quantity(
    record: OrderRecord, terms: Order, exits: Sequence[OrderRecord]
) -> Iterator[Violation]:
    """`entry-has-exits`: they keep their size, so they would close too much, or too little."""
    if abs(terms.quantity - record.terms.quantity) > SLACK:
        largest = max(each.terms.quantity for each in exits)
        yield Violation(
            "entry-has-exits",
            f"its exits would stay at {plain(largest)}: cancel the order and place it anew with"
            " its bracket, or cancel the exits first",
            field="quantity",
            value=terms.quantity,
            limit=record.terms.quantity,
        )


def _entry_price(
    record: OrderRecord,
    terms: Order,
    exits: Sequence[OrderRecord],
    reference: Reference | None,
) -> Iterator[Violation]:
    """`invalid-field`: an entry that would fill beyond its exits, which then fill at once."""
    changed = [
        (field, price)
        for field, price, before in (
            ("limitPrice", terms.limit_price, record.terms.limit_price),
            ("stopPrice", terms.stop_price, record.terms.stop_price),
        )
        if price is not None and price != before
    ]
    if not changed:
        return
    field, value = changed[0]
    for each in exits:
        gain, loss = _gain_and_loss(each, newest_terms(each))
        for found in _around(terms, record.contract.con_id, gain, loss, reference):
            yield structs.replace(found, field=field, value=value)


def _around(
    entry: Order,
    con_id: int,
    gain: float | None,
    loss: float | None,
    reference: Reference | None,
) -> Iterator[Violation]:
    """The exits of a bracket that are on the wrong side of where their entry fills."""
    if _trails(entry):
        return  # its stop is the broker's
    found = list(exits_beside_entry(entry.action, entry.limit_price, entry.stop_price, gain, loss))
    market = reference.for_action(entry.action) if reference else None
    price = None if market is None else fills_at(entry, market, con_id)
    if not found and price is not None:
        found = list(exits_beside(entry.action, price, gain, loss, _MARKET))
    yield from found


def _exit_price(
    record: OrderRecord,
    terms: Order,
    family: Sequence[OrderRecord],
    reference: Reference | None,
) -> Iterator[Violation]:
    """`invalid-field`: an exit on the wrong side of its entry's price, a stop of the market's."""
    gain, loss = _gain_and_loss(record, terms)
    if (gain, loss) == _gain_and_loss(record, record.terms):
        return
    field = "limitPrice" if loss is None else "trailStopPrice" if _trails(terms) else "stopPrice"
    for found in _beside_exit(record, terms, family, reference, gain, loss):
        yield structs.replace(found, field=field, value=gain if loss is None else loss)


def _beside_exit(
    record: OrderRecord,
    terms: Order,
    family: Sequence[OrderRecord],
    reference: Reference | None,
    gain: float | None,
    loss: float | None,
) -> Iterator[Violation]:
    entry = _entry_of(record, family)
    if entry is not None and entry.open and not entry.filled:
        yield from _around(newest_terms(entry), entry.contract.con_id, gain, loss, reference)
        return
    price = reference.for_action(terms.action) if reference else None
    if price is not None:  # a gain may be taken at the market then: that is a way out
        opens = "SELL" if terms.action == "BUY" else "BUY"
        yield from exits_beside(opens, price, None, loss, _MARKET)


def _entry_of(record: OrderRecord, family: Sequence[OrderRecord]) -> OrderRecord | None:
    return next((each for each in family if each.id == record.parent_id), None)


def _gain_and_loss(record: OrderRecord, terms: Order) -> tuple[float | None, float | None]:
    """Where an exit takes the gain, or where its stop stands."""
    if record.role == "take-profit":
        return terms.limit_price, None
    return None, stop_of(terms)


def _exit_quantity(
    record: OrderRecord, terms: Order, family: Sequence[OrderRecord]
) -> Iterator[Violation]:
    """`exit-exceeds-entry`: what is more than the entry opens would open the opposite position."""
    limit = max(0.0, _opened(record, family))
    if enlarged(record, terms) and terms.quantity > limit + SLACK:
        yield Violation(
            "exit-exceeds-entry",
            f"an exit closes what its entry opens: at most {plain(limit)}",
            field="quantity",
            value=terms.quantity,
            limit=limit,
        )


def _opened(record: OrderRecord, family: Sequence[OrderRecord]) -> float:
    """The most that is there for an exit: its entry's, without what the other exit has closed."""
    entry = _entry_of(record, family)
    if entry is None:
        return 0.0
    whole = entry.open or entry.status is Status.FILLED
    closed = sum(
        each.filled
        for each in family
        if each.parent_id == record.parent_id and each.id != record.id
    )
    return (entry.terms.quantity if whole else entry.filled) - closed
