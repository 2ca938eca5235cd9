"""Stocks, indices and currency pairs, as `instruments.csv` lists them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.contracts.contract import Contract

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Instrument:
    """A stock, index or currency pair of `instruments.csv`, with what its price depends on."""

    contract: Contract
    price: float
    volatility: float
    strike_step: float
    industry: str
    category: str
    name: str


def instruments() -> Iterator[Instrument]:
    """Every instrument of the file."""
    with Path(__file__).with_name("instruments.csv").open(newline="") as source:
        for row in csv.DictReader(source):
            yield Instrument(
                contract=_contract(row),
                price=float(row["price"]),
                volatility=float(row["volatility"]),
                strike_step=float(row["strike_step"]),
                industry=row["industry"],
                category=row["category"],
                name=row["name"],
            )


FIELDS = frozenset(
    {"symbol", "conId", "secType", "primary", "currency", "price", "volatility", "strikeStep"}
    | {"industry", "category", "name"}
)
KINDS = ("STK", "IND", "CASH")


def listed(row: dict[str, Any]) -> Instrument:
    """An instrument that a user describes.

    Args:
        row: `symbol`, `conId`, `primary` and `price`, and perhaps more of `FIELDS`.

    Raises:
        KeyError: one that is needed is missing.
        ValueError: one is unknown or wrong.
    """
    unknown = row.keys() - FIELDS
    if unknown:
        raise ValueError(f"{min(unknown)!r} is none of {', '.join(sorted(FIELDS))}")
    kind, price = str(row.get("secType", "STK")).upper(), float(row["price"])
    volatility, step = float(row.get("volatility", 0.3)), float(row.get("strikeStep", 0))
    number = int(row["conId"])
    if kind not in KINDS:
        raise ValueError(f"secType {kind!r} is none of {', '.join(KINDS)}")
    if not (0 < price < 1e7 and 0 <= volatility < 5 and 0 <= step < 1e6 and 0 < number < 1 << 28):
        raise ValueError("conId, price, volatility or strikeStep is out of range")
    symbol = str(row["symbol"]).upper()
    described = {
        "symbol": symbol,
        "sec_type": kind,
        "primary": str(row["primary"]).upper(),
        "currency": str(row.get("currency", "USD")).upper(),
        "con_id": str(number),
        "price": str(price),
    }
    industry, category = (str(row.get(each, "")) for each in ("industry", "category"))
    name = str(row.get("name", symbol))
    return Instrument(_contract(described), price, volatility, step, industry, category, name)


def _contract(row: dict[str, str]) -> Contract:
    symbol, sec_type, primary, currency = (
        row[key] for key in ("symbol", "sec_type", "primary", "currency")
    )
    stock, cash = sec_type == "STK", sec_type == "CASH"
    trading_class = {"NASDAQ": "NMS"}.get(primary, symbol) if stock else symbol
    tick = 0.01
    if cash:
        tick = 0.005 if float(row["price"]) > 20 else 0.00005
    return Contract(
        con_id=int(row["con_id"]),
        symbol=symbol,
        sec_type=sec_type,
        currency=currency,
        exchange="SMART" if stock else primary,
        primary_exchange=primary if stock else "",
        local_symbol=f"{symbol}.{currency}" if cash else symbol,
        trading_class=f"{symbol}.{currency}" if cash else trading_class,
        min_tick=tick,
    )
