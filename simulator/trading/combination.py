"""Combinations (BAG): their legs, their price, and how a fill falls on the legs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.contracts.contract import Combination, Leg, legs_of
from simulator.market.market import weight
from simulator.trading.terms import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market
    from simulator.trading.terms import Rows

NUMBER = 28812380
"""The contract number that every combination has."""
PLACE = "Error validating request.-'bW' : cause - "
LEGS = (2, 6)


def combine(
    symbol: str, exchange: str, currency: str, rows: Rows, find: Callable[[int, str], Contract]
) -> Combination:
    """A combination of the legs that a client wrote.

    Args:
        symbol: what it calls the combination.
        exchange: where it is routed.
        currency: that of every leg.
        rows: contract number, ratio, action and exchange of each leg, then what does not matter.
        find: gives the contract of a number and an exchange, or raises LookupError.

    Raises:
        RefusedError: there are too few legs or too many, or one cannot be.
    """
    if not LEGS[0] <= len(rows) <= LEGS[1]:
        raise RefusedError(321, f"{PLACE}Invalid number of combo legs: {len(rows)}")
    legs = []
    for row in rows:
        if not (row[0].isdecimal() and row[1].isdecimal() and int(row[1]) > 0):
            raise RefusedError(321, f"{PLACE}Invalid combo details")
        if row[2] not in {"BUY", "SELL", "SSHORT"}:
            raise RefusedError(321, f"{PLACE}Invalid action: '{row[2]}'. Please use BUY or SELL.")
        try:
            contract = find(int(row[0]), row[3])
        except LookupError as error:
            raise RefusedError(200, str(error)) from None
        legs.append(Leg(contract, int(row[1]), 1 if row[2] == "BUY" else -1))
    if any(leg.contract.currency != (currency or "USD") for leg in legs):
        raise RefusedError(321, f"{PLACE}Combo legs must have the currency of the combo")
    if len({leg.contract.con_id for leg in legs}) < len(legs):
        raise RefusedError(321, f"{PLACE}Duplicate combo legs")
    multipliers = {leg.contract.multiplier or "1" for leg in legs if leg.contract.multiplier}
    return Combination(
        con_id=NUMBER,
        symbol=symbol or legs[0].contract.symbol,
        sec_type="BAG",
        currency=currency or "USD",
        exchange=exchange,
        local_symbol=str(NUMBER),
        trading_class="COMB",
        multiplier=multipliers.pop() if len(multipliers) == 1 else "",
        legs=tuple(legs),
    )


def leg_prices(market: Market, contract: Contract, net: float, at: float) -> list[float]:
    """What each leg is traded at, so that together they are the price of the combination.

    Args:
        market: the market.
        contract: the combination.
        net: its price; that of the side it trades at, or better.
        at: the moment.
    """
    legs = legs_of(contract)
    quotes = [market.quote(leg.contract, at) for leg in legs]
    prices = [quote.last for quote in quotes]
    priced = zip(legs, prices, strict=True)
    total = sum(leg.sign * price * weight(leg, contract) for leg, price in priced)
    widest = max(range(len(legs)), key=lambda place: prices[place])
    share = weight(legs[widest], contract) * legs[widest].sign
    prices[widest] = round(prices[widest] + (net - total) / share, 6)
    return prices
