"""Margin: what an account must hold against its positions, and what an order would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from simulator.trading.market import Contract

OPTIONS = frozenset({"OPT", "FOP"})
INITIAL = {"STK": 0.30, "FUT": 0.08, "CASH": 0.03}
MAINTENANCE = {"STK": 0.25, "FUT": 0.07, "CASH": 0.025}
SHORT_OPTION_OF_STRIKE = 0.20


class Requirement(NamedTuple):
    """Initial and maintenance margin in base currency."""

    initial: float
    maintenance: float


class Trade(NamedTuple):
    """A trade that may come: of what, how much (negative for a sale), at what price."""

    contract: Contract
    signed: float
    price: float


class Exposure(NamedTuple):
    """A position as margin sees it; value is signed and in base currency."""

    sec_type: str
    quantity: float
    value: float
    strike_value: float = 0.0
    """Strike times multiplier times quantity of an option, in base currency, unsigned."""


def requirement(exposure: Exposure) -> Requirement:
    """What one position needs."""
    if exposure.sec_type in OPTIONS:
        if exposure.quantity >= 0:
            return Requirement(0.0, 0.0)
        need = exposure.strike_value * SHORT_OPTION_OF_STRIKE + abs(exposure.value)
        return Requirement(need, need)
    value = abs(exposure.value)
    kind = exposure.sec_type
    return Requirement(value * INITIAL.get(kind, 1.0), value * MAINTENANCE.get(kind, 1.0))


@dataclass(frozen=True, slots=True)
class Funds:
    """An account's loan value and needs at one moment, in base currency."""

    equity: float
    initial: float
    maintenance: float

    def minus(self, other: Funds) -> Funds:
        """The difference."""
        return Funds(
            self.equity - other.equity,
            self.initial - other.initial,
            self.maintenance - other.maintenance,
        )


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would do: funds before and after, and its commission."""

    before: Funds
    after: Funds
    commission: float
    currency: str

    @property
    def affordable(self) -> bool:
        """Whether the account can carry it; what lowers the need is always allowed."""
        eases = self.after.initial <= self.before.initial
        return self.after.equity >= self.after.initial or (eases and self.after.equity > 0)
