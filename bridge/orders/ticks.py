"""Prices on the broker's ladder, in exact decimals.

A market rule is a ladder of (low edge, increment): from the edge upwards prices move in that
increment. Prices below zero (spreads, some futures) use the ladder of their absolute value.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

from bridge.model import PriceIncrement

Direction = Literal["down", "up"]


def exact(value: float) -> Decimal:
    """The number a person wrote, not its binary neighbour."""
    return Decimal(repr(value))


def increment_at(price: float, ladder: Sequence[PriceIncrement]) -> Decimal | None:
    """The increment that holds at `price`; None when the ladder says nothing about it."""
    chosen: Decimal | None = None
    for step in ladder:
        if step.increment > 0 and exact(step.low_edge) <= abs(exact(price)):
            chosen = exact(step.increment)
    return chosen


def on_tick(price: float, ladder: Sequence[PriceIncrement]) -> bool:
    """Whether the broker would take this price."""
    increment = increment_at(price, ladder)
    return increment is None or exact(price) % increment == 0


def to_tick(price: float, ladder: Sequence[PriceIncrement], direction: Direction) -> float:
    """The nearest allowed price at or below (`down`) or at or above (`up`) this one."""
    increment = increment_at(price, ladder)
    if increment is None or on_tick(price, ladder):
        return price
    rounding = ROUND_FLOOR if direction == "down" else ROUND_CEILING
    steps = (exact(price) / increment).to_integral_value(rounding=rounding)
    return float(steps * increment)


def cautious(price: float, ladder: Sequence[PriceIncrement], action: str) -> float:
    """Rounded so that it never pays more or takes less than was asked for."""
    return to_tick(price, ladder, "down" if action == "BUY" else "up")


def is_multiple(value: float, step: float | None) -> bool:
    """Whether a quantity is a whole number of steps; no step: anything goes."""
    return step is None or step <= 0 or exact(value) % exact(step) == 0
