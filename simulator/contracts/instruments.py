"""Stocks, indices and currency pairs, as `instruments.csv` lists them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
