"""A position: how much, what it cost, and what today did to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.trading.commission import multiplier

if TYPE_CHECKING:
    from simulator.trading.market import Contract

DUST = 1e-9
MARGINED = frozenset({"FUT"})
"""Kinds whose price is not paid: only the gain or loss is."""


@dataclass(slots=True)
class Position:
    """Quantity and cost of one contract in one account, in the contract's currency.

    `average_cost` is per contract, multiplier and commissions included, as the broker reports it.
    """

    contract: Contract
    quantity: float = 0.0
    average_cost: float = 0.0
    realized: float = 0.0
    """Profit realized today, commissions taken off."""
    opening_value: float = 0.0
    """What it was worth when the day began."""
    flow: float = 0.0
    """Money that today's trades brought in, commissions taken off."""

    @property
    def multiplier(self) -> float:
        """Units a contract stands for."""
        return multiplier(self.contract)

    def value(self, price: float) -> float:
        """What it is worth at a price."""
        return self.quantity * price * self.multiplier

    def unrealized(self, price: float) -> float:
        """Profit not yet realized."""
        return self.quantity * (price * self.multiplier - self.average_cost)

    def daily(self, price: float) -> float:
        """Profit since the day began."""
        return self.value(price) - self.opening_value + self.flow

    def worth(self, price: float) -> float:
        """What it adds to the account's equity beside cash."""
        margined = self.contract.sec_type in MARGINED
        return self.unrealized(price) if margined else self.value(price)

    def trade(self, signed: float, price: float, fee: float) -> tuple[float | None, float]:
        """Take in a fill.

        Args:
            signed: quantity, negative for a sale.
            price: per unit.
            fee: its commission.

        Returns:
            Realized profit (None when the fill only opened) and what cash changes by.
        """
        unit = price * self.multiplier
        closed = 0.0
        if self.quantity * signed < 0:
            closed = min(abs(signed), abs(self.quantity)) * (1 if signed > 0 else -1)
        opened = signed - closed
        gain = -closed * (unit - self.average_cost) if closed else 0.0
        opening_fee = fee * abs(opened) / abs(signed)
        realized = gain - (fee - opening_fee) if closed else None
        self._settle(signed, opened, unit, opening_fee)
        self.flow -= signed * unit + fee
        self.realized += realized or 0.0
        if self.contract.sec_type in MARGINED:
            return realized, realized or 0.0  # the opening fee is in the average cost
        return realized, -signed * unit - fee

    def _settle(self, signed: float, opened: float, unit: float, opening_fee: float) -> None:
        kept = self.quantity + (signed - opened)
        self.quantity += signed
        if opened:
            cost = kept * self.average_cost + opened * unit + opening_fee
            self.average_cost = cost / self.quantity
        if abs(self.quantity) < DUST:
            self.quantity = self.average_cost = 0.0

    def begin_day(self, price: float) -> None:
        """Start a new day at this price."""
        self.opening_value = self.value(price)
        self.realized = self.flow = 0.0
