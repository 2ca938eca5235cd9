"""Commissions as the broker's fixed price list has them (US, small account)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.trading.market import Contract


@dataclass(frozen=True, slots=True)
class Tariff:
    """Per unit or per value; `least` and `most` bound a whole order."""

    per_unit: float = 0.0
    per_value: float = 0.0
    least: float = 0.0
    most_of_value: float | None = None


TARIFFS = {
    "STK": Tariff(per_unit=0.005, least=1.0, most_of_value=0.01),
    "OPT": Tariff(per_unit=0.65, least=1.0),
    "FUT": Tariff(per_unit=2.25),
    "FOP": Tariff(per_unit=1.42),
    "CASH": Tariff(per_value=0.00002, least=2.0),
}


def multiplier(contract: Contract) -> float:
    """How many units one contract stands for."""
    return float(contract.multiplier or 1)


def commission(contract: Contract, quantity: float, price: float) -> float:
    """The commission of an order of that size as a whole, in the contract's currency."""
    tariff = TARIFFS.get(contract.sec_type, Tariff())
    value = quantity * price * multiplier(contract)
    due = max(quantity * tariff.per_unit + value * tariff.per_value, tariff.least)
    if tariff.most_of_value is not None:
        due = min(due, value * tariff.most_of_value)
    return round(due, 6)
