"""What the account routes answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from bridge.account.books import Unconfirmed
from bridge.account.greeks import OPTIONS
from bridge.market.quote_values import Tag
from bridge.model import AccountValue, Position, Right
from bridge.quantity import multiplier_in
from bridge.rules.holdings import Holding

_SHARED = ("cost_basis", "market_value", "unrealized_pnl", "daily_pnl")


class PositionView(Struct, rename="camel", frozen=True, kw_only=True):
    """One holding. `averageCost` includes the multiplier, as the broker counts it.

    `confirmed` is false from a fill in it until the broker has sent the position again. Price,
    value and results are the broker's, in `currency`, and `pnlAge` seconds old; null until they
    have come. So are an option's greeks, for one share of what it is on, `greeksAge` seconds old;
    they come from its quote, for which lines are opened while some are spare.
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
    delta: float | None = None
    gamma: float | None = None
    theta: float | None = None
    vega: float | None = None
    implied_volatility: float | None = None
    greeks_tag: Tag | None = None
    greeks_age: float | None = None


class PositionGroup(Struct, rename="camel", frozen=True, kw_only=True):
    """The positions of one underlying in one currency; a sum is null when a part is unknown.

    Greeks are in units of the underlying: a share has a delta of 1.
    """

    underlying: str
    currency: str
    con_ids: tuple[int, ...]
    cost_basis: float | None
    market_value: float | None
    unrealized_pnl: float | None
    realized_pnl: float | None
    daily_pnl: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None


class StrategyLeg(Struct, rename="camel", frozen=True, kw_only=True):
    """A part of a strategy: `ratio` (signed) for each unit of it, `quantity` in all."""

    con_id: int
    local_symbol: str
    sec_type: str
    ratio: float
    quantity: float


class Strategy(Struct, rename="camel", frozen=True, kw_only=True):
    """What was opened as one, or a single position, with the sums of its parts.

    `id` names it in `POST /positions/close` as long as it is held; `closingAction` is the side of
    the order that closes it: one that was opened for a credit is bought back. Prices are of one
    unit, below zero for a credit; null where a part is unknown. Greeks are in units of what it is
    on, for the whole.
    """

    id: str
    name: str
    account: str
    underlying: str
    currency: str
    units: float
    legs: tuple[StrategyLeg, ...]
    closing_action: Literal["BUY", "SELL"]
    expiration: str | None
    opened_at: datetime | None
    order_refs: tuple[str, ...]
    average_price: float | None
    market_price: float | None
    cost_basis: float | None
    market_value: float | None
    unrealized_pnl: float | None
    daily_pnl: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None


class Positions(Struct, rename="camel", frozen=True, kw_only=True):
    """Every holding of the accounts asked for.

    `age` is seconds since the broker confirmed the list; `unconfirmed` are fills after which it has
    not sent the position yet, of holdings that are new too, and what was held before a login that
    may only not list it yet. `groups` and `strategies` are there when asked for.
    """

    positions: tuple[PositionView, ...]
    at: datetime
    age: float
    unconfirmed: tuple[Unconfirmed, ...] = ()
    groups: tuple[PositionGroup, ...] | None = None
    strategies: tuple[Strategy, ...] | None = None


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

    `tag` is `live`, or `stale` when the session was interrupted after the values came, or the
    broker sends no more of them; `age` is in seconds.
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
    """Profit and loss of the accounts (or positions) asked for.

    `missing` are the accounts of which nothing came in time: sums are without them.
    """

    pnl: tuple[PnLView, ...]
    at: datetime
    missing: tuple[str, ...] = ()


_BALANCE = {
    "cash": "TotalCashBalance",
    "exchange_rate": "ExchangeRate",
    "net_liquidation": "NetLiquidationByCurrency",
    "unrealized_pnl": "UnrealizedPnL",
    "realized_pnl": "RealizedPnL",
}
_ALL_CURRENCIES = "BASE"
"""The ledger's total, which is no currency."""
_NAMED = {
    "net_liquidation": "NetLiquidation",
    "total_cash": "TotalCashValue",
    "settled_cash": "SettledCash",
    "buying_power": "BuyingPower",
    "available_funds": "AvailableFunds",
    "excess_liquidity": "ExcessLiquidity",
    "equity_with_loan": "EquityWithLoanValue",
    "gross_position_value": "GrossPositionValue",
    "initial_margin": "InitMarginReq",
    "maintenance_margin": "MaintMarginReq",
    "cushion": "Cushion",
}


def position_results(item: Position, result: PnLView | None) -> dict[str, Any]:
    """The broker's results of one position, as far as they are known and of this quantity."""
    if result is None or result.tag != "live" or result.position != item.quantity:
        return {}
    size = item.quantity * multiplier_in(item.contract.multiplier)
    return {
        "market_price": None if result.value is None else round(result.value / size, 6),
        "market_value": result.value,
        "unrealized_pnl": result.unrealized,
        "realized_pnl": result.realized,
        "daily_pnl": result.daily,
        "pnl_age": result.age,
    }


GREEKS = ("delta", "gamma", "theta", "vega")
"""Those that can be added up."""
_SUMMED = ("cost_basis", "market_value", "unrealized_pnl", "realized_pnl", "daily_pnl")


def grouped_views(views: Sequence[PositionView]) -> tuple[PositionGroup, ...]:
    """By underlying and currency; what an option is on has its symbol."""
    groups: dict[tuple[str, str], list[PositionView]] = {}
    for view in views:
        groups.setdefault((view.symbol, view.currency), []).append(view)
    return tuple(
        PositionGroup(
            underlying=symbol,
            currency=currency,
            con_ids=tuple(view.con_id for view in members),
            **{name: total(getattr(view, name) for view in members) for name in _SUMMED},
            **{name: total_greeks(name, members, [1.0] * len(members)) for name in GREEKS},
        )
        for (symbol, currency), members in sorted(groups.items())
    )


def total(parts: Iterable[float | None]) -> float | None:
    """The sum, or None when a part is unknown."""
    found = 0.0
    for part in parts:
        if part is None:
            return None
        found += part
    return found


def total_greeks(name: str, views: Sequence[PositionView], shares: Sequence[float]) -> float | None:
    """A greek of several positions, of each a share, in units of the underlying."""
    return total(
        None if (each := _greek(name, view)) is None else each * view.quantity * share
        for view, share in zip(views, shares, strict=True)
    )


def _greek(name: str, view: PositionView) -> float | None:
    """That of one contract."""
    if view.sec_type in OPTIONS:
        value: float | None = getattr(view, name)
        return None if value is None else value * multiplier_in(view.multiplier or "")
    return multiplier_in(view.multiplier or "") if name == "delta" else 0.0


def account_view(
    name: str, values: Sequence[AccountValue], ledger: Mapping[str, Mapping[str, AccountValue]]
) -> AccountView:
    """The usual numbers by name, all values, and the ledger by currency."""
    texts = {value.tag: value for value in values}
    base = texts.get("NetLiquidation")
    numbers: dict[str, Any] = {field: _number(texts.get(tag)) for field, tag in _NAMED.items()}
    kind = texts.get("AccountType")
    return AccountView(
        account=name,
        account_type=kind.value if kind is not None else "",
        currency=base.currency if base is not None else "",
        values=tuple(
            Amount(tag=value.tag, value=value.value, currency=value.currency) for value in values
        ),
        cash=tuple(
            CashBalance(
                currency=currency,
                **{field: _number(rows.get(tag)) for field, tag in _BALANCE.items()},
            )
            for currency, rows in sorted(ledger.items())
            if currency != _ALL_CURRENCIES
        ),
        **numbers,
    )


def _number(value: AccountValue | None) -> float | None:
    """The broker's text as a number; None for an empty or a worded value."""
    if value is None:
        return None
    try:
        return float(value.value)
    except ValueError:
        return None


def strategy_views(
    holdings: Iterable[Holding], positions: Sequence[PositionView]
) -> tuple[Strategy, ...]:
    """Holdings with the values of their positions, each leg's as far as it is the holding's."""
    views = {(each.account, each.con_id): each for each in positions}
    return tuple(
        _view(each, [views[each.account, leg.contract.con_id] for leg in each.legs])
        for each in holdings
        if all((each.account, leg.contract.con_id) in views for leg in each.legs)
    )


def _view(holding: Holding, parts: Sequence[PositionView]) -> Strategy:
    shares = [
        leg.ratio * holding.units / part.quantity
        for leg, part in zip(holding.legs, parts, strict=True)
    ]
    sums = {
        name: total(
            None if (value := getattr(part, name)) is None else value * share
            for part, share in zip(parts, shares, strict=True)
        )
        for name in _SHARED
    }
    units = holding.units * holding.multiplier
    value, entry = sums["market_value"], holding.entry
    return Strategy(
        id=holding.key,
        name=holding.name,
        account=holding.account,
        underlying=parts[0].symbol,
        currency=parts[0].currency,
        units=holding.units,
        legs=tuple(
            StrategyLeg(
                con_id=part.con_id,
                local_symbol=part.local_symbol,
                sec_type=part.sec_type,
                ratio=leg.ratio,
                quantity=leg.ratio * holding.units,
            )
            for leg, part in zip(holding.legs, parts, strict=True)
        ),
        closing_action="SELL" if holding.direction > 0 else "BUY",
        expiration=holding.expiration or None,
        opened_at=holding.opened_at,
        order_refs=tuple(sorted(holding.labels)),
        average_price=None if entry is None else round(entry / holding.multiplier, 6),
        market_price=None if value is None else round(value / units, 6),
        **sums,
        **{name: total_greeks(name, parts, shares) for name in GREEKS},
    )
