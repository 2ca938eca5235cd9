"""CUSIP and ISIN of a stock or a bond; of the right form, most are made up."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract

KNOWN = {"AAPL": "037833100", "MSFT": "594918104", "IBM": "459200101", "SPY": "78462F103"}
"""Real ones, of stocks that programs use as their example."""
COUNTRIES = {"EUR": "DE", "GBP": "GB"}


@lru_cache(maxsize=512)
def of(contract: Contract) -> tuple[tuple[str, str], ...]:
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
