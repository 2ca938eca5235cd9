"""What the account routes answer."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bridge.account.books import Unconfirmed
from bridge.market.quote_values import Tag
from bridge.model import Right


class PositionView(Struct, rename="camel", frozen=True, kw_only=True):
    """One holding. `averageCost` includes the multiplier, as the broker counts it.

    `confirmed` is false from a fill in it until the broker has sent the position again. Price,
    value and results are the broker's, in `currency`, and `pnlAge` seconds old; null until they
    have come.
    """

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
    dte: int | None = None
    confirmed: bool = True
    base_currency: str | None = None
    market_price: float | None = None
    market_value: float | None = None
    unrealized_pnl: float | None = None
    realized_pnl: float | None = None
    daily_pnl: float | None = None
    pnl_age: float | None = None


class PositionGroup(Struct, rename="camel", frozen=True, kw_only=True):
    """The positions of one underlying in one currency; a sum is null when a part is unknown."""

    underlying: str
    currency: str
    con_ids: tuple[int, ...]
    cost_basis: float | None
    market_value: float | None
    unrealized_pnl: float | None
    realized_pnl: float | None
    daily_pnl: float | None


class Positions(Struct, rename="camel", frozen=True, kw_only=True):
    """Every holding of the accounts asked for.

    `age` is seconds since the broker confirmed the list; `unconfirmed` are fills after which it has
    not sent the position yet, of holdings that are new too. `groups` are there when asked for.
    """

    positions: tuple[PositionView, ...]
    at: datetime
    age: float
    unconfirmed: tuple[Unconfirmed, ...] = ()
    groups: tuple[PositionGroup, ...] | None = None


class Amount(Struct, rename="camel", frozen=True, kw_only=True):
    """One value of an account summary as the broker's text, with its currency where it has one."""

    tag: str
    value: str
    currency: str


class CashBalance(Struct, rename="camel", frozen=True, kw_only=True):
    """What an account has in one currency; `exchangeRate` turns it into the base currency."""

    currency: str
    cash: float | None
    exchange_rate: float | None
    net_liquidation: float | None
    unrealized_pnl: float | None
    realized_pnl: float | None


class AccountView(Struct, rename="camel", frozen=True, kw_only=True):
    """One account. The named numbers are in `currency`; `values` holds all that the broker sent.

    `confirmed` is false from a fill until the broker has sent the values again.
    """

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
    cash: tuple[CashBalance, ...] = ()
    confirmed: bool = True


class Accounts(Struct, rename="camel", frozen=True, kw_only=True):
    """The accounts of this session. `age` is seconds since the broker confirmed the values."""

    accounts: tuple[AccountView, ...]
    at: datetime
    age: float


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
