"""What the account routes answer."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bridge.market.quote_values import Tag
from bridge.model import Right


class PositionView(Struct, rename="camel", frozen=True, kw_only=True):
    """One holding. `averageCost` includes the multiplier, as the broker counts it."""

    account: str
    con_id: int
    symbol: str
    local_symbol: str
    sec_type: str
    exchange: str
    currency: str
    quantity: float
    average_cost: float | None
    cost_basis: float | None
    expiration: str | None = None
    strike: float | None = None
    right: Right | None = None
    multiplier: str | None = None
    trading_class: str = ""


class Positions(Struct, rename="camel", frozen=True, kw_only=True):
    """Every holding of the accounts asked for."""

    positions: tuple[PositionView, ...]
    at: datetime


class Amount(Struct, rename="camel", frozen=True, kw_only=True):
    """One value of an account summary as the broker's text, with its currency where it has one."""

    tag: str
    value: str
    currency: str


class AccountView(Struct, rename="camel", frozen=True, kw_only=True):
    """One account. The named numbers are in `currency`; `values` holds all that the broker sent."""

    account: str
    account_type: str
    currency: str
    net_liquidation: float | None
    total_cash: float | None
    settled_cash: float | None
    buying_power: float | None
    available_funds: float | None
    excess_liquidity: float | None
    equity_with_loan: float | None
    gross_position_value: float | None
    initial_margin: float | None
    maintenance_margin: float | None
    cushion: float | None
    values: tuple[Amount, ...]


class Accounts(Struct, rename="camel", frozen=True, kw_only=True):
    """The accounts of this session."""

    accounts: tuple[AccountView, ...]
    at: datetime


class PnLView(Struct, rename="camel", frozen=True, kw_only=True):
    """Profit and loss of an account, or of one position in it.

    `tag` is `live`, or `stale` when the session was interrupted after the values came; `age` is in
    seconds.
    """

    account: str
    daily: float | None
    unrealized: float | None
    realized: float | None
    tag: Tag
    age: float
    con_id: int | None = None
    position: float | None = None
    value: float | None = None


class ProfitAndLoss(Struct, rename="camel", frozen=True, kw_only=True):
    """Profit and loss of the accounts (or positions) asked for."""

    pnl: tuple[PnLView, ...]
    at: datetime
