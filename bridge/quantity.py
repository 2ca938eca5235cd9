"""Quantities and prices as numbers.

Adding and subtracting them leaves residues that no contract knows.
"""

from __future__ import annotations

import math
from typing import Final

_DIGITS: Final = 9
"""No contract's step is finer."""
SLACK: Final = 1e-9
"""Quantities that differ by no more are the same."""
_STEP_SLACK: Final = 1e-6
"""The same in steps: so much less than a whole one is one."""


def exact(quantity: float) -> float:
    """A quantity without a residue: 7250.77 less 5000 is 2250.77, not 2250.7700000000004.

    An order for the latter is refused: it is no multiple of the contract's step.
    """
    return round(quantity, _DIGITS)


def multiplier_in(text: str) -> float:
    """What a contract stands for, by the broker's text; 1 where that is no number above 0."""
    try:
        number = float(text)
    except ValueError:
        return 1.0
    return number if math.isfinite(number) and number > 0 else 1.0


def orderable(sec_type: str, quantity: float, *, beside: bool = False) -> float:
    """As much of it as an order takes: of shares the whole ones, where there are any.

    The broker takes no fraction of a share through its API; of less than one it says so itself.
    `beside` an order for the whole shares there is nothing left to send: 0.
    """
    whole = float(math.floor(quantity + SLACK))
    return whole if sec_type == "STK" and (whole or beside) else quantity


def whole_steps(quantity: float, step: float) -> float:
    """As much of it as an order may be for, a multiple of `step`; 0: all of it."""
    if step <= 0:
        return exact(quantity)
    return exact(math.floor(quantity / step + _STEP_SLACK) * step)


def plain(number: float) -> str:
    """A quantity or a price as a person writes it: every digit, no exponent, no residue."""
    text = f"{exact(number) + 0.0:.{_DIGITS}f}"  # minus zero is zero
    return text.rstrip("0").rstrip(".")


def figure(value: float) -> str:
    """A price or money for people: six digits, or all that are before the point."""
    return f"{value:.6g}" if abs(value) < 999_999 else f"{value:.0f}"
