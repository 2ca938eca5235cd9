"""What a change of one order of a bracket must leave true of the others: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bridge.model import Order
from bridge.orders.errors import Violation
from bridge.store.orders import OrderRecord, Status

_SLACK: Final = 1e-9


def bracket_problems(
    record: OrderRecord, terms: Order, family: Sequence[OrderRecord]
) -> Iterator[Violation]:
    """What is wrong with the new `terms` beside the orders of its group, itself among them."""
    if record.parent_id is not None:
        yield from _exit_quantity(record, terms, family)


def enlarged(record: OrderRecord, terms: Order) -> bool:
    """Whether the new terms are for more than the broker has."""
    return terms.quantity > record.terms.quantity + _SLACK


def _exit_quantity(
    record: OrderRecord, terms: Order, family: Sequence[OrderRecord]
) -> Iterator[Violation]:
    """`exit-exceeds-entry`: what is more than the entry opens would open the opposite position."""
    limit = max(0.0, _opened(record, family))
    if enlarged(record, terms) and terms.quantity > limit + _SLACK:
        yield Violation(
            "exit-exceeds-entry",
            f"an exit closes what its entry opens: at most {limit:g}",
            field="quantity",
            value=terms.quantity,
            limit=limit,
        )


def _opened(record: OrderRecord, family: Sequence[OrderRecord]) -> float:
    """The most that is there for an exit: its entry's, without what the other exit has closed."""
    entry = next((each for each in family if each.id == record.parent_id), None)
    if entry is None:
        return 0.0
    whole = entry.open or entry.status is Status.FILLED
    closed = sum(
        each.filled
        for each in family
        if each.parent_id == record.parent_id and each.id != record.id
    )
    return (entry.terms.quantity if whole else entry.filled) - closed
