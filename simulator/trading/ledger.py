"""The accounts: cash, positions, commissions and margin, kept from fills, at market value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market


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


FLAT = 1e-9
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
        if abs(self.quantity) < FLAT:
            self.quantity = self.average_cost = 0.0

    def begin_day(self, price: float) -> None:
        """Start a new day at this price."""
        self.opening_value = self.value(price)
        self.realized = self.flow = 0.0


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


OPENING_CASH = 1_000_000.0
"""What a fresh paper account holds."""
BASE = "USD"


class Profit(NamedTuple):
    """Daily, unrealized and realized profit in base currency."""

    daily: float
    unrealized: float
    realized: float


@dataclass(slots=True)
class Account:
    """One account: its cash by currency, its positions and what they cost."""

    name: str
    cash: dict[str, float] = field(default_factory=lambda: {BASE: OPENING_CASH})
    positions: dict[int, Position] = field(default_factory=dict)
    previous_equity: float = OPENING_CASH
    """Equity at the end of the day before."""

    def open_positions(self) -> list[Position]:
        """Positions that are not flat, by contract number."""
        return [self.positions[key] for key in sorted(self.positions) if self.held(key)]

    def held(self, con_id: int) -> float:
        """How much of a contract it holds."""
        position = self.positions.get(con_id)
        return position.quantity if position else 0.0


class Ledger:
    """Every account of the login; amounts in base currency unless said otherwise."""

    def __init__(self, accounts: Sequence[str], market: Market, at: float) -> None:
        self.accounts = {name: Account(name) for name in accounts}
        self._market = market
        self.day = market.midnight(at)
        """When the broker's day began, seconds since the epoch."""

    def price(self, contract: Contract, at: float) -> float:
        """The price that positions are valued at."""
        quote = self._market.quote(contract, at)
        return quote.last if quote.last > 0 else quote.middle

    def rate(self, currency: str, at: float) -> float:
        """What one unit of the currency is worth in base currency."""
        return 1.0 if currency == BASE else self._market.rate(currency, at)

    def trade(
        self, account: str, contract: Contract, signed: float, price: float, fee: float, at: float
    ) -> float | None:
        """Take in a fill; gives the realized profit in the contract's currency."""
        self.roll(at)
        holder = self.accounts[account]
        position = holder.positions.setdefault(contract.con_id, Position(contract))
        realized, cash = position.trade(signed, price, fee)
        holder.cash[contract.currency] = holder.cash.get(contract.currency, 0.0) + cash
        return None if realized is None else round(realized, 6)

    def roll(self, at: float) -> None:
        """Begin a new day when the old one is over."""
        midnight = self._market.midnight(at)
        if midnight <= self.day:
            return
        self.day = midnight
        for account in self.accounts.values():
            account.previous_equity = self.equity(account, midnight)
            for position in account.positions.values():
                position.begin_day(self.price(position.contract, midnight))

    def equity(self, account: Account, at: float) -> float:
        """Cash and positions: the net liquidation value."""
        cash = sum(amount * self.rate(currency, at) for currency, amount in account.cash.items())
        return cash + sum(
            position.worth(self.price(position.contract, at)) * self.rate_of(position, at)
            for position in account.open_positions()
        )

    def rate_of(self, position: Position, at: float) -> float:
        """The rate of a position's currency."""
        return self.rate(position.contract.currency, at)

    def profit(self, account: Account, at: float, con_id: int | None = None) -> Profit:
        """Of the account, or of one contract in it."""
        self.roll(at)
        total = Profit(0.0, 0.0, 0.0)
        for position in account.positions.values():
            if con_id not in {None, position.contract.con_id}:
                continue
            price, rate = self.price(position.contract, at), self.rate_of(position, at)
            total = Profit(
                total.daily + position.daily(price) * rate,
                total.unrealized + position.unrealized(price) * rate,
                total.realized + position.realized * rate,
            )
        return total

    def funds(self, account: Account, at: float) -> Funds:
        """Equity and margin as they are."""
        held = [
            self._exposure(each.contract, each.quantity, at) for each in account.open_positions()
        ]
        return _funds(self.equity(account, at), held)

    def preview(
        self, account_name: str, contract: Contract, signed: float, price: float, at: float
    ) -> Preview:
        """What a trade of that size and price would do."""
        return self.preview_all(account_name, [Trade(contract, signed, price)], at)

    def preview_all(self, account_name: str, trades: Sequence[Trade], at: float) -> Preview:
        """What several trades that come together would do."""
        account = self.accounts[account_name]
        before = self.funds(account, at)
        touched = {trade.contract.con_id for trade in trades}
        held = [
            self._exposure(each.contract, each.quantity, at)
            for each in account.open_positions()
            if each.contract.con_id not in touched
        ]
        equity, fees = before.equity, 0.0
        for contract, signed, price in trades:
            fee = commission(contract, abs(signed), price)
            quantity = account.held(contract.con_id) + signed
            if quantity:
                held.append(self._exposure(contract, quantity, at))
            rate = self.rate(contract.currency, at)
            equity -= fee * rate
            fees = round(fees + fee, 6)
            if contract.sec_type in OPTIONS:
                equity -= self._long_premium(account, contract, quantity, price) * rate
        return Preview(before, _funds(equity, held), fees, trades[0].contract.currency)

    def _long_premium(
        self, account: Account, contract: Contract, quantity: float, price: float
    ) -> float:
        """Paid premium lends nothing: it counts against the loan value."""
        more = max(quantity, 0.0) - max(account.held(contract.con_id), 0.0)
        return max(more, 0.0) * price * multiplier(contract)

    def _exposure(self, contract: Contract, quantity: float, at: float) -> Exposure:
        scale = multiplier(contract) * self.rate(contract.currency, at)
        value = quantity * self.price(contract, at) * scale
        return Exposure(contract.sec_type, quantity, value, abs(quantity) * contract.strike * scale)


def _funds(equity: float, exposures: Iterable[Exposure]) -> Funds:
    needs = [requirement(exposure) for exposure in exposures]
    return Funds(
        equity, sum(need.initial for need in needs), sum(need.maintenance for need in needs)
    )
