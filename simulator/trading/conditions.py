"""Conditions of an order: what the market or the clock must do before it is sent or cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.trading.hours import moment
from simulator.trading.market import Phase
from simulator.trading.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.trading.market import Contract, Market
    from simulator.trading.terms import Rows

PRICE, TIME = "1", "3"
BID_ASK, MIDDLE = 4, 8
"""Methods that a price condition can name; every other one watches the last price."""
UNSUPPORTED = "Error validating request.-'bW' : cause - Conditions of type {} are not supported."
WRONG_NUMBER = "Error validating request.-'bW' : cause - Invalid value in a condition: {}"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: a price of `contract`, or without one the time, above or below `value`."""

    value: float
    above: bool
    joined_by_and: bool
    """How it is joined with the next one."""
    contract: Contract | None = None
    method: int = 0

    def holds(self, market: Market, at: float, *, outside: bool) -> bool:
        """Whether it holds at a moment; prices count in regular hours unless `outside`."""
        if self.contract is None:
            return at >= self.value if self.above else at <= self.value
        if not outside and market.phase(self.contract, at) is not Phase.REGULAR:
            return False
        quote = market.quote(self.contract, at)
        price = quote.last
        if self.method == BID_ASK:
            price = quote.ask if self.above else quote.bid
        elif self.method == MIDDLE or self.contract.sec_type == "CASH":
            price = quote.middle
        return price >= self.value if self.above else price <= self.value


def read(rows: Rows, find: Callable[[int, str], Contract]) -> tuple[Condition, ...]:
    """Take the conditions of a placeOrder.

    Args:
        rows: type, joining word, and the fields of the type.
        find: gives the contract of a number and an exchange, or raises LookupError.

    Raises:
        RefusedError: a type that is not supported, a value or contract that is not right.
    """
    found = []
    for row in rows:
        kind, joining, above = row[0], row[1].lower() != "o", row[2] in {"1", "true"}
        if kind == TIME:
            found.append(Condition(moment(row[3]), above, joining))
        elif kind == PRICE:
            value, number, method = _number(row[3]), int(_number(row[4])), int(_number(row[6]))
            try:
                contract = find(number, row[5])
            except LookupError as error:
                raise RefusedError(200, str(error)) from None
            found.append(Condition(value, above, joining, contract, method))
        else:
            raise RefusedError(321, UNSUPPORTED.format(kind))
    return tuple(found)


def _number(text: str) -> float:
    try:
        return float(text or 0)
    except ValueError:
        raise RefusedError(321, WRONG_NUMBER.format(text[:40])) from None


def hold(conditions: Sequence[Condition], market: Market, at: float, *, outside: bool) -> bool:
    """Whether all of them together hold, joined from the first to the last."""
    result, joined_by_and = True, True
    for each in conditions:
        holds = each.holds(market, at, outside=outside)
        result = (result and holds) if joined_by_and else (result or holds)
        joined_by_and = each.joined_by_and
    return result
