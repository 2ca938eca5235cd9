"""Combinations (BAG): the contract of several legs, its net price, and what it can lose.

A price of a combination is what one unit of it costs when it is bought: the prices of its legs,
each times its ratio and in units of the whole, the sold ones taken off. Below zero it brings money.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bridge.model import ComboLeg, Contract, ContractDetails
from bridge.orders.errors import Violation
from bridge.orders.order_types import OPTIONS
from bridge.orders.request import OrderRequest
from bridge.orders.risk_context import PricedLeg, Reference, RiskContext, multiplier

PRICE_STEP: Final = 0.01
_MONEY: Final = "{:,.2f}"


def problems(request: OrderRequest, legs: Sequence[ContractDetails]) -> Iterator[Violation]:
    """What is wrong with the legs that were found, of which the request knew only names."""
    contracts = [each.contract for each in legs]
    if len({each.con_id for each in contracts}) < len(contracts):
        yield Violation("invalid-field", "two legs are the same", field="legs")
    if len({each.currency for each in contracts}) > 1:
        yield Violation("invalid-field", "legs must have one currency", field="legs")
    symbols = {each.symbol.upper() for each in contracts}
    if symbols != {request.symbol.strip().upper()}:
        yield Violation(
            "invalid-field",
            f"the legs are of {', '.join(sorted(symbols))}: symbol names what all are of",
            field="symbol",
        )
    if len({each.multiplier for each in contracts if each.sec_type != "STK"}) > 1:
        yield Violation("invalid-field", "legs must have one multiplier", field="legs")


def details_of(request: OrderRequest, legs: Sequence[ContractDetails]) -> ContractDetails:
    """The combination as if the broker had described it, which it never does."""
    first = legs[0]
    units = next((each.contract.multiplier for each in legs if each.contract.multiplier), "")
    return ContractDetails(
        contract=Contract(
            symbol=request.symbol.strip().upper(),
            sec_type="BAG",
            exchange=request.exchange.upper() or _exchange(legs),
            currency=first.contract.currency,
            multiplier=units,
            legs=tuple(
                ComboLeg(
                    con_id=each.contract.con_id,
                    ratio=leg.ratio,
                    action=leg.action,
                    exchange=each.contract.exchange,
                )
                for leg, each in zip(request.legs, legs, strict=True)
            ),
        ),
        min_tick=PRICE_STEP,
        time_zone=first.time_zone,
        trading_hours=first.trading_hours,
        liquid_hours=first.liquid_hours,
        size_increment=1.0,
        price_magnifier=_magnifier(legs),
    )


def _magnifier(legs: Sequence[ContractDetails]) -> int:
    """That of all legs; where they differ its money is counted as too much, never as too little."""
    found = {each.price_magnifier or 1 for each in legs}
    return found.pop() if len(found) == 1 else 1


def _exchange(legs: Sequence[ContractDetails]) -> str:
    exchanges = {each.contract.exchange for each in legs}
    return exchanges.pop() if len(exchanges) == 1 else "SMART"


def net_reference(contract: Contract, legs: Sequence[PricedLeg]) -> Reference:
    """Bid and ask of the whole from those of its legs; unknown when one leg's are."""
    ask, bid = net_price(contract, legs, "BUY"), net_price(contract, legs, "SELL")
    no_line = any(each.reference is not None and each.reference.no_line for each in legs)
    return Reference(no_line=no_line, bid=bid, ask=ask, signed=True)


def net_price(contract: Contract, legs: Sequence[PricedLeg], action: str) -> float | None:
    """What one unit costs at the market; below zero it brings money."""
    total = 0.0
    for each in legs:
        price = each.price(action)
        if price is None:
            return None
        total += each.sign * price * each.weight
    return round(total / multiplier(contract), 6)


def most_lost(legs: Sequence[PricedLeg], action: str, price: float, units: float) -> float | None:
    """What one unit can lose at the most until its options expire.

    None: that has no bound, or is not defined, as for options of several days.

    Args:
        legs: what it is made of.
        action: whether the whole is bought or sold.
        price: what it is bought or sold for, net.
        units: its multiplier.
    """
    options = [each for each in legs if each.details.contract.sec_type in OPTIONS]
    if not options or len({each.details.contract.expiration for each in options}) > 1:
        return None
    way = 1 if action == "BUY" else -1
    strikes = [each.details.contract.strike or 0.0 for each in options]
    beyond = 2 * max(strikes) + 1.0
    if way * (_worth(legs, beyond + 1.0) - _worth(legs, beyond)) < -1e-9:
        return None  # it loses more with every step of the underlying upwards
    worst = min(way * _worth(legs, spot) for spot in (0.0, *strikes, beyond))
    return max(0.0, way * price * units - worst)


def loss(context: RiskContext) -> float | None:
    """The most that an order of options can lose until they expire, in the contract's currency.

    From its limit, or the worst price that it would fill at. None: no options, no bound, no price,
    or a combination of which some legs may be filled without the others.
    """
    order, details, whole = context.order, context.details, context.legs
    price = context.worst_fill
    if whole and order.non_guaranteed:
        return None
    if price is None or not (whole or context.contract.sec_type in OPTIONS):
        return None
    legs = whole or (PricedLeg(details=details, ratio=1, sign=1),)
    amount = most_lost(legs, order.action, price, multiplier(context.contract))
    magnifier = details.price_magnifier or 1
    return None if amount is None else amount * order.quantity / magnifier


def _worth(legs: Sequence[PricedLeg], spot: float) -> float:
    """What one unit is worth when its options expire at that price of the underlying."""
    total = 0.0
    for each in legs:
        contract = each.details.contract
        value = spot
        if contract.sec_type in OPTIONS:
            strike = contract.strike or 0.0
            value = max(0.0, spot - strike if contract.right == "C" else strike - spot)
        total += each.sign * value * each.weight
    return total


def explained(action: str, price: float, quantity: float, units: float, currency: str) -> str:
    """A net price in words, with its sign."""
    paid = price if action == "BUY" else -price
    if paid == 0:
        return "even: nothing is paid or received, but for commissions"
    what = "you pay" if paid > 0 else "you receive"
    each, whole = (_MONEY.format(abs(paid) * by) for by in (1, units * quantity))
    return f"{what} {each} a unit, {whole} {currency} in all"
