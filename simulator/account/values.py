"""The values of an account under the broker's names, as summary and account updates give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulator.account.ledger import BASE
from simulator.account.position import MARGINED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.account.ledger import Account, Ledger

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
    head = [Value("Currency", currency, currency), Value("ExchangeRate", f"{rate:.2f}", currency)]
    return head + [Value(tag, _amount(amount), currency) for tag, amount in amounts.items()]
