"""The accounts: cash and positions, kept from the fills, and what they are worth at the market."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from simulator.account.margin import OPTIONS, Exposure, Funds, Preview, Trade, requirement
from simulator.account.position import Position
from simulator.trading.commission import commission, multiplier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.trading.market import Contract, Market

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
    """One account."""

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
