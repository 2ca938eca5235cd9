"""Orders that hang together: brackets (parent and children) and one-cancels-all groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.trading.order import Status
from simulator.trading.terms import STOP_TYPES

if TYPE_CHECKING:
    from simulator.trading.book import Book
    from simulator.trading.order import Order

CANCEL_WITH_BLOCK = 1


def waits_for_parent(order: Order) -> bool:
    """Whether an order's parent has not been filled."""
    return order.parent is not None and order.parent.status is not Status.FILLED


def why_held(order: Order) -> str:
    """The whyHeld of orderStatus."""
    reasons = ["child"] if waits_for_parent(order) else []
    if order.terms.order_type in STOP_TYPES and not order.triggered:
        reasons.append("trigger")
    return ",".join(reasons)


def untransmitted_family(book: Book, order: Order) -> list[Order]:
    """What a transmitted order takes along: its parent and siblings that waited, oldest first."""
    head = order.parent or order
    return [
        member
        for member in book.working()
        if not member.transmitted and member is not order and head in {member, member.parent}
    ]


def reductions(book: Book, order: Order, quantity: float) -> list[tuple[Order, float]]:
    """What a fill of `quantity` takes from the other orders of its group.

    Returns:
        Each order with what is taken from its quantity; all that remains means: cancel it.
    """
    taken = []
    for other in book.group(order):
        if waits_for_parent(other):
            continue
        named = order.terms.oca_group and other.terms.oca_group == order.terms.oca_group
        if named and order.terms.oca_type in {0, CANCEL_WITH_BLOCK}:
            taken.append((other, other.remaining))
        else:
            taken.append((other, min(quantity, other.remaining)))
    return taken
