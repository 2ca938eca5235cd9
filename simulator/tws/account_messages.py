"""The values of an account under the broker's names, and the messages about accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulator.clock import EASTERN
from simulator.trading.ledger import BASE, MARGINED
from simulator.tws.order_messages import contract_values, number, quantity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.contracts.contract import Contract
    from simulator.trading.ledger import Account, Ledger, Position
    from simulator.tws.session import Session

PLAIN = "BASE"
"""The pseudo-currency of a ledger's total."""
NEAR_ZERO = 0.005


class Value(NamedTuple):
    """One value; the currency is empty where it is no amount."""

    tag: str
    value: str
    currency: str


def _amount(value: float) -> str:
    return f"{0.0 if abs(value) < NEAR_ZERO else value:.2f}"


def summary(ledger: Ledger, account: Account, at: float) -> list[Value]:
    """Every tag of reqAccountSummary but the ledger's."""
    ledger.roll(at)
    funds = ledger.funds(account, at)
    equity, initial, maintenance = funds.equity, funds.initial, funds.maintenance
    cash = sum(amount * ledger.rate(currency, at) for currency, amount in account.cash.items())
    gross = sum(
        abs(each.value(ledger.price(each.contract, at))) * ledger.rate_of(each, at)
        for each in account.open_positions()
        if each.contract.sec_type not in MARGINED
    )
    amounts = {
        "NetLiquidation": equity,
        "TotalCashValue": cash,
        "SettledCash": cash,
        "AccruedCash": 0.0,
        "BuyingPower": max(equity - initial, 0.0) * 4,
        "EquityWithLoanValue": equity,
        "PreviousDayEquityWithLoanValue": account.previous_equity,
        "GrossPositionValue": gross,
        "RegTEquity": equity,
        "RegTMargin": gross / 2,
        "SMA": max(equity - gross / 2, 0.0),
    }
    for prefix in ("", "Full", "LookAhead"):
        amounts |= {
            f"{prefix}InitMarginReq": initial,
            f"{prefix}MaintMarginReq": maintenance,
            f"{prefix}AvailableFunds": equity - initial,
            f"{prefix}ExcessLiquidity": equity - maintenance,
        }
    plain = {
        "AccountType": "INDIVIDUAL",
        "Cushion": f"{(equity - maintenance) / equity if equity else 0.0:.6g}",
        "LookAheadNextChange": "0",
        "HighestSeverity": "0",
        "DayTradesRemaining": "-1",
        "Leverage": f"{gross / equity if equity else 0.0:.2f}",
    }
    return [
        *(Value(tag, value, "") for tag, value in plain.items()),
        *(Value(tag, _amount(value), BASE) for tag, value in amounts.items()),
    ]


def ledger_values(ledger: Ledger, account: Account, at: float) -> list[Value]:
    """Cash and profit by currency, and their total in base currency as `BASE`."""
    values: list[Value] = []
    currencies = sorted({BASE, *account.cash, *_position_currencies(account)})
    totals: dict[str, float] = {}
    for currency in currencies:
        rate = ledger.rate(currency, at)
        amounts = _by_currency(ledger, account, currency, at)
        for tag, amount in amounts.items():
            totals[tag] = totals.get(tag, 0.0) + amount * rate
        values.extend(_ledger(amounts, currency, rate))
    return [*_ledger(totals, PLAIN, 1.0), *values]


def _position_currencies(account: Account) -> Iterable[str]:
    return (each.contract.currency for each in account.positions.values())


def _by_currency(ledger: Ledger, account: Account, currency: str, at: float) -> dict[str, float]:
    cash = account.cash.get(currency, 0.0)
    market = {"STK": 0.0, "OPT": 0.0, "FUT": 0.0, "CASH": 0.0}
    unrealized = realized = 0.0
    for each in account.positions.values():
        if each.contract.currency != currency:
            continue
        price = ledger.price(each.contract, at)
        market[each.contract.sec_type] = market.get(each.contract.sec_type, 0.0) + each.worth(price)
        unrealized += each.unrealized(price)
        realized += each.realized
    return {
        "CashBalance": cash,
        "TotalCashBalance": cash,
        "AccruedCash": 0.0,
        "StockMarketValue": market["STK"],
        "OptionMarketValue": market["OPT"],
        "FuturesPNL": market["FUT"],
        "FxCashBalance": market["CASH"],
        "NetLiquidationByCurrency": cash + sum(market.values()),
        "UnrealizedPnL": unrealized,
        "RealizedPnL": realized,
    }


def _ledger(amounts: dict[str, float], currency: str, rate: float) -> list[Value]:
    exact = f"{rate:.2f}" if round(rate, 2) == rate else f"{rate:.7g}"
    head = [Value("Currency", currency, currency), Value("ExchangeRate", exact, currency)]
    return head + [Value(tag, _amount(amount), currency) for tag, amount in amounts.items()]


ACCOUNT_VALUE = 6
PORTFOLIO_VALUE = 7
ACCOUNT_TIME = 8
DOWNLOAD_END = 54
POSITION = 61
POSITION_END = 62
SUMMARY = 63
SUMMARY_END = 64
POSITION_MULTI = 71
POSITION_MULTI_END = 72
UPDATE_MULTI = 73
UPDATE_MULTI_END = 74
PNL = 94
PNL_SINGLE = 95
HEAD = ("conId", "symbol", "secType", "lastTradeDateOrContractMonth")


def _described(contract: Contract, venue: str) -> list[object]:
    """A contract as account messages have it; `venue` names its exchange field."""
    values = contract_values(contract)
    return [
        *(values.get(name, "") for name in HEAD),
        values.get("strike", "0.0"),
        values.get("right", "0" if venue == "primaryExchange" else ""),
        values.get("multiplier", ""),
        values.get(venue, ""),
        *(values.get(name, "") for name in ("currency", "localSymbol", "tradingClass")),
    ]


def send_values(session: Session, account: str, values: Iterable[Value]) -> None:
    """Account values of reqAccountUpdates."""
    for each in values:
        session.send(ACCOUNT_VALUE, 2, each.tag, each.value, each.currency, account)


def send_portfolio(
    session: Session, ledger: Ledger, account: Account, position: Position, at: float
) -> None:
    """One line of the portfolio."""
    price = ledger.price(position.contract, at)
    session.send(
        PORTFOLIO_VALUE,
        8,
        *_described(position.contract, "primaryExchange"),
        quantity(position.quantity),
        number(price),
        number(round(position.value(price), 2)),
        number(position.average_cost),
        number(round(position.unrealized(price), 2)),
        number(round(position.realized, 2)),
        account.name,
    )


def send_time(session: Session) -> None:
    """When the account values are from."""
    now = session.world.clock.now().astimezone(EASTERN)
    session.send(ACCOUNT_TIME, 1, now.strftime("%H:%M"))


def send_position(session: Session, account: str, position: Position) -> None:
    """One position of reqPositions."""
    session.send(
        POSITION,
        3,
        account,
        *_described(position.contract, ""),
        quantity(position.quantity),
        number(position.average_cost),
    )


def send_position_multi(
    session: Session, request_id: int, account: str, position: Position, model: str
) -> None:
    """One position of reqPositionsMulti."""
    session.send(
        POSITION_MULTI,
        1,
        request_id,
        account,
        *_described(position.contract, ""),
        quantity(position.quantity),
        number(position.average_cost),
        model,
    )


def send_profit(session: Session, request_id: int, ledger: Ledger, account: Account) -> None:
    """The account's profit; below version 129 only the day's."""
    profit = ledger.profit(account, session.world.clock.time())
    session.send(PNL, request_id, *_profit(session, profit))


def send_profit_single(
    session: Session, request_id: int, ledger: Ledger, account: Account, con_id: int
) -> None:
    """The profit of one position."""
    at = session.world.clock.time()
    position = account.positions.get(con_id)
    value = position.value(ledger.price(position.contract, at)) if position else 0.0
    session.send(
        PNL_SINGLE,
        request_id,
        quantity(account.held(con_id)),
        *_profit(session, ledger.profit(account, at, con_id)),
        number(round(value, 2)),
    )


def _profit(session: Session, profit: tuple[float, float, float]) -> list[str]:
    shown = 3 if session.version >= 135 else 2 if session.version >= 129 else 1
    return [number(round(value, 2)) for value in profit[:shown]]
