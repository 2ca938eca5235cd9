"""When an order may trade: hours, expiry, and the conditions that it waits for.

Times are seconds since the epoch.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from simulator.market.market import Phase
from simulator.trading.terms import CLOSE_TYPES, LIMIT_TYPES, Condition, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market
    from simulator.trading.order import Order
    from simulator.trading.terms import Rows

EASTERN = ZoneInfo("America/New_York")
ZONES = {"EST": EASTERN, "EDT": EASTERN, "US/Eastern": EASTERN, "UTC": ZoneInfo("UTC")}
MOMENT = re.compile(r"(\d{8})(?:[ -]+(\d{1,2}:\d{2}(?::\d{2})?))?(?:\s+(\S+))?")


def moment(text: str) -> float:
    """A time as clients write it: `20261120 15:59:00 US/Eastern` or `20261120-20:59:00` (UTC).

    Raises:
        RefusedError: 10310 style refusal, when it is not one.
    """
    found = MOMENT.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError(text)
        clock = found[2] or "23:59:59"
        shape = "%Y%m%d%H:%M:%S" if clock.count(":") == 2 else "%Y%m%d%H:%M"
        dashed = "-" in text[:10]
        zone = ZoneInfo("UTC") if dashed else _zone(found[3])
        return datetime.strptime(found[1] + clock, shape).replace(tzinfo=zone).timestamp()
    except (ValueError, KeyError, OSError):
        raise RefusedError(
            391, "The time or time-zone is invalid. The correct format is hh:mm:ss xxx."
        ) from None


def _zone(name: str | None) -> ZoneInfo:
    return EASTERN if not name else ZONES.get(name) or ZoneInfo(name)


def set_times(order: Order, market: Market, at: float) -> None:
    """Work out from when to when an order lives, and its auction if it waits for one.

    Raises:
        RefusedError: a time of the order's own cannot be read.
    """
    terms, contract = order.terms, order.contract
    order.active_from = moment(terms.good_after) if terms.good_after else 0.0
    begin = max(at, order.active_from)
    order.auction_at = None
    order.expires_at = None
    if terms.tif == "OPG":
        order.auction_at = market.next_open(contract, begin)
    elif terms.order_type in CLOSE_TYPES:
        order.auction_at = market.next_close(contract, begin)
    elif terms.tif == "GTD":
        order.expires_at = moment(terms.good_till)
    elif terms.tif != "GTC":
        order.expires_at = market.day_end(contract, begin, outside=terms.outside_rth)


def may_trade(order: Order, market: Market, at: float) -> bool:
    """Whether the market takes the order at this moment."""
    phase = market.phase(order.contract, at)
    if phase is Phase.REGULAR:
        return True
    extended = order.terms.outside_rth and order.terms.order_type in LIMIT_TYPES
    return phase is Phase.EXTENDED and extended


def eastern(at: float, shape: str = "%Y%m%d %H:%M:%S") -> str:
    """A time as the gateway writes it, with its time zone."""
    return datetime.fromtimestamp(at, EASTERN).strftime(shape) + " US/Eastern"


PRICE, TIME = "1", "3"
UNSUPPORTED = "Error validating request.-'bW' : cause - Conditions of type {} are not supported."
WRONG_NUMBER = "Error validating request.-'bW' : cause - Invalid value in a condition: {}"


def read_conditions(rows: Rows, find: Callable[[int, str], Contract]) -> tuple[Condition, ...]:
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
