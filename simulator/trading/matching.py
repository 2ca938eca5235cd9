"""When an order trades and at what price; pure, one order against one quote.

A market order takes the other side's best price. A limit order that can trade when it arrives
takes that price too (it removes liquidity); one that rests trades at its own limit once the other
side reaches it (it adds liquidity). One look fills at most the size shown on the other side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulator.trading.terms import LIMIT_TYPES, PEGGED_TYPES, STOP_TYPES, TRAILING_TYPES

if TYPE_CHECKING:
    from simulator.trading.market import Quote
    from simulator.trading.order import Order

QUOTE_TRIGGERED = frozenset({"CASH", "OPT"})
TOUCH_TYPES = frozenset({"MIT", "LIT"})


class Fill(NamedTuple):
    """What a look at the market gives an order."""

    quantity: float
    price: float
    liquidity: int


def trigger_price(order: Order, quote: Quote) -> float:
    """The price that stops watch: the last trade, or the quote where trades are rare."""
    if order.contract.sec_type in QUOTE_TRIGGERED:
        return quote.ask if order.terms.buys else quote.bid
    return quote.last


def trailed(order: Order, quote: Quote) -> float | None:
    """Where a trailing stop stands after this quote."""
    terms = order.terms
    price = trigger_price(order, quote)
    distance = price * terms.trail_percent / 100 if terms.trail_percent else terms.aux or 0.0
    candidate = price + distance * terms.sign
    if order.stop is None:
        return terms.trail_stop if terms.trail_stop is not None else candidate
    return min(order.stop, candidate) if terms.buys else max(order.stop, candidate)


def triggers(order: Order, quote: Quote) -> bool:
    """Whether a stop or touch order becomes live at this quote."""
    if order.stop is None:
        return False
    price = trigger_price(order, quote)
    upwards = order.terms.buys != (order.terms.order_type in TOUCH_TYPES)
    return price >= order.stop if upwards else price <= order.stop


def watch(order: Order, quote: Quote) -> bool:
    """Move a trailing stop and trigger what has to be; says whether the order is live."""
    if order.terms.order_type not in STOP_TYPES or order.triggered:
        return True
    if order.terms.order_type in TRAILING_TYPES:
        order.stop = trailed(order, quote)
    if not triggers(order, quote):
        return False
    order.triggered = True
    if order.terms.order_type == "TRAIL LIMIT" and order.stop is not None:
        order.limit = order.stop + (order.terms.limit_offset or 0.0) * order.terms.sign
    return True


def match(order: Order, quote: Quote) -> Fill | None:
    """What a live order gets from this quote, if anything."""
    buys = order.terms.buys
    price, size = (quote.ask, quote.ask_size) if buys else (quote.bid, quote.bid_size)
    if (price <= 0 and order.contract.sec_type != "BAG") or size <= 0:
        return None
    quantity, liquidity = min(order.remaining, size), 2
    if order.terms.order_type in PEGGED_TYPES:
        pegged = _pegged(order, quote)
        if pegged is None:
            return None
        price, liquidity = pegged
    elif order.terms.order_type in {*LIMIT_TYPES, "MTL"} and order.limit is not None:
        if (price > order.limit) if buys else (price < order.limit):
            return None
        if order.looked_at is not None:
            price, liquidity = order.limit, 1
    whole = order.terms.all_or_none or order.terms.tif == "FOK"
    if quantity <= 0 or (whole and quantity < order.remaining):
        return None
    return Fill(quantity, price, liquidity)


def _pegged(order: Order, quote: Quote) -> tuple[float, int] | None:
    """Price and liquidity at which an order that follows the quote trades now, if it does.

    At the middle it trades at once, unless it is to stay away from it; beside the best price of
    its own side it waits until the other side comes, and never steps back.
    """
    terms, sign = order.terms, order.terms.sign
    cap, offset = terms.limit, terms.aux or 0.0
    at_middle = terms.order_type == "MIDPRICE" or (terms.order_type == "PEG MID" and not offset)
    if at_middle:
        within = cap is None or quote.middle * sign <= cap * sign
        return (round(quote.middle, 6), 2) if within else None
    other, own = (quote.ask, quote.bid) if terms.buys else (quote.bid, quote.ask)
    stood = order.peg
    if stood is not None and other * sign <= stood * sign:
        return stood, 1
    wanted = own + offset * sign if terms.order_type == "REL" else quote.middle - offset * sign
    if cap is not None:
        wanted = min(wanted * sign, cap * sign) * sign
    order.peg = wanted if stood is None else max(wanted * sign, stood * sign) * sign
    if other * sign <= order.peg * sign:
        return other, 2
    return None


def auction(order: Order, quote: Quote) -> Fill | None:
    """What an order for the open or the close gets at the auction's single price."""
    price = quote.last
    if order.limit is not None and order.terms.order_type in LIMIT_TYPES:
        beyond = price > order.limit if order.terms.buys else price < order.limit
        if beyond:
            return None
    return Fill(order.remaining, price, 2)
