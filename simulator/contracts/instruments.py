"""Stocks, indices, currency pairs (instruments.csv) and bonds, with their CUSIP and ISIN."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.contracts.contract import SMART, Contract

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = {"AAPL": "037833100", "MSFT": "594918104", "IBM": "459200101", "SPY": "78462F103"}
"""Real ones, of stocks that programs use as their example."""
COUNTRIES = {"EUR": "DE", "GBP": "GB"}


@lru_cache(maxsize=512)
def security_ids(contract: Contract) -> tuple[tuple[str, str], ...]:
    """The identifiers of a contract as pairs of kind and value; none of other kinds."""
    if contract.sec_type == "BOND":
        isin = "US" + contract.local_symbol
        return (("CUSIP", contract.local_symbol), ("ISIN", isin + _luhn(isin)))
    if contract.sec_type != "STK":
        return ()
    cusip = KNOWN.get(contract.symbol) or _made_up(contract.symbol)
    country = COUNTRIES.get(contract.currency, "US")
    isin = country + cusip
    pairs = (("ISIN", isin + _luhn(isin)),)
    return pairs if country != "US" else (*pairs, ("CUSIP", cusip))


def _made_up(symbol: str) -> str:
    number = 0
    for letter in symbol:
        number = (number * 131 + ord(letter)) % 99_999_989
    base = f"{number:08}"
    return base + str(check_digit(base))


def check_digit(base: str) -> int:
    """The last digit of a CUSIP."""
    total = 0
    for place, letter in enumerate(base):
        value = int(letter, 36) * (2 if place % 2 else 1)
        total += value // 10 + value % 10
    return -total % 10


def _luhn(text: str) -> str:
    """The last digit of an ISIN."""
    digits = "".join(str(int(letter, 36)) for letter in text)
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 if place % 2 else 2)
        total += value // 10 + value % 10
    return str(-total % 10)


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


def listed_instruments() -> Iterator[Instrument]:
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


def described(row: dict[str, Any]) -> Instrument:
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


@dataclass(frozen=True, slots=True)
class Bond:
    """One bond; days are YYYYMMDD, the coupon is in percent a year, the price in percent of face.

    The numbers are made up: what is listed is nobody's.
    """

    con_id: int
    symbol: str
    name: str
    coupon: float
    issued: str
    matures: str
    kind: str
    ratings: str
    price: float

    @property
    def cusip(self) -> str:
        """Of the right form, and made up."""
        base = f"{self.con_id % 10**8:08}"
        return base + str(check_digit(base))


TREASURY, CORPORATE = "US GOVT", "CORP"
BONDS = {
    each.con_id: each
    for each in (
        Bond(150000001, "US-T", "US TREASURY NOTE", 4.25, "20241115", "20341115", TREASURY,
             "Aa1/AA+", 98.4),
        Bond(150000002, "US-T", "US TREASURY BOND", 3.0, "20190215", "20490215", TREASURY,
             "Aa1/AA+", 74.2),
        Bond(150000003, "MSFT", "MICROSOFT CORP", 3.3, "20170206", "20370206", CORPORATE,
             "Aaa/AAA", 91.7),
    )
}  # fmt: skip


def listed_bonds() -> Iterator[Instrument]:
    """Every bond as an instrument."""
    for bond in BONDS.values():
        contract = Contract(
            con_id=bond.con_id,
            symbol=bond.symbol,
            sec_type="BOND",
            exchange=SMART,
            local_symbol=bond.cusip,
            trading_class=bond.symbol,
            expiry=bond.matures,
            min_tick=0.01,
        )
        yield Instrument(contract, bond.price, 0.05, 0, bond.kind, bond.kind, bond.name)


def bond_details(con_id: int) -> dict[str, Any]:
    """What bondContractDetails has of a bond that no other contract has."""
    bond = BONDS[con_id]
    year, month, day = bond.matures[2:4], bond.matures[4:6], bond.matures[6:]
    return {
        "cusip": bond.cusip,
        "coupon": bond.coupon,
        "maturity": bond.matures,
        "issue_date": bond.issued,
        "ratings": bond.ratings,
        "bond_type": bond.kind,
        "coupon_type": "FIXED",
        "convertible": False,
        "callable": False,
        "putable": False,
        "description": f"{bond.coupon:g} {month}/{day}/{year}",
    }
