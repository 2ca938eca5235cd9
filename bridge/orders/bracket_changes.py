"""What a change of one order of a bracket must leave true of the others: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import structs

from bridge.model import Order
from bridge.orders.contradictions import exits_beside
from bridge.orders.errors import Violation
from bridge.orders.legs import newest_terms
from bridge.orders.order_types import kind_of_type
from bridge.orders.risk_context import Reference
from bridge.quantity import SLACK
from bridge.store.orders import OrderRecord, Status

_MARKET: Final = "the market"
_ENTRY_PRICE: Final = "the entry price"


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
        yield from _entry_price(record, terms, exits)


def enlarged(record: OrderRecord, terms: Order) -> bool:
    """Whether the new terms are for more than the broker has."""
    return terms.quantity > record.terms.quantity + SLACK


def stop_of(order: Order) -> float | None:
    """Where its stop stands, one that trails too; None: it has none, or nobody has said."""
    return order.trail_stop_price if _trails(order) else order.stop_price


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
            f"its exits would stay at {largest:g}: cancel the order and place it anew with its "
            "bracket, or cancel the exits first",
            field="quantity",
            value=terms.quantity,
            limit=record.terms.quantity,
        )


def _entry_price(
    record: OrderRecord, terms: Order, exits: Sequence[OrderRecord]
) -> Iterator[Violation]:
    """`invalid-field`: an entry that would fill beyond its exits, which then fill at once."""
    price = _own_price(terms)
    if price is None or price == _own_price(record.terms):
        return
    field = "stopPrice" if terms.limit_price is None else "limitPrice"
    for each in exits:
        gain, loss = _gain_and_loss(each, newest_terms(each))
        for found in exits_beside(terms.action, price, gain, loss, _ENTRY_PRICE):
            yield structs.replace(found, field=field, value=price)


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
    entry = _entry_of(record, family)
    if entry is not None and entry.open and not entry.filled:
        price, what = _awaited(newest_terms(entry), reference)
    else:  # a gain may be taken at the market then: that is a way out
        gain, what = None, _MARKET
        price = reference.for_action(terms.action) if reference else None
    if price is None:
        return
    opens = "SELL" if terms.action == "BUY" else "BUY"
    field = "limitPrice" if loss is None else "trailStopPrice" if _trails(terms) else "stopPrice"
    for found in exits_beside(opens, price, gain, loss, what):
        yield structs.replace(found, field=field, value=gain if loss is None else loss)


def _entry_of(record: OrderRecord, family: Sequence[OrderRecord]) -> OrderRecord | None:
    return next((each for each in family if each.id == record.parent_id), None)


def _awaited(entry: Order, reference: Reference | None) -> tuple[float | None, str]:
    """The price that an entry is going to fill at, and what it is; None: nobody knows."""
    if entry.order_type == "MKT":
        return (reference.for_action(entry.action) if reference else None), _MARKET
    return _own_price(entry), _ENTRY_PRICE


def _gain_and_loss(record: OrderRecord, terms: Order) -> tuple[float | None, float | None]:
    """Where an exit takes the gain, or where its stop stands."""
    if record.role == "take-profit":
        return terms.limit_price, None
    return None, stop_of(terms)


def _own_price(entry: Order) -> float | None:
    """The price that an entry names for itself; a stop that trails is the broker's."""
    if _trails(entry):
        return None
    return entry.stop_price if entry.limit_price is None else entry.limit_price


def _exit_quantity(
    record: OrderRecord, terms: Order, family: Sequence[OrderRecord]
) -> Iterator[Violation]:
    """`exit-exceeds-entry`: what is more than the entry opens would open the opposite position."""
    limit = max(0.0, _opened(record, family))
    if enlarged(record, terms) and terms.quantity > limit + SLACK:
        yield Violation(
            "exit-exceeds-entry",
            f"an exit closes what its entry opens: at most {limit:g}",
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
