"""The life of an order against the market: when it trades, at what price, and its end.

A market order takes the other side's best price. A limit order that can trade when it arrives
takes that price too (it removes liquidity); one that rests trades at its own limit once the other
side reaches it (it adds liquidity). One look fills at most the size shown on the other side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulator.contracts.contract import legs_of
from simulator.contracts.details import nearest
from simulator.trading import book
from simulator.trading.combination import leg_prices
from simulator.trading.exercise import settle
from simulator.trading.ledger import Trade, commission
from simulator.trading.order import DUST, Execution, Order, Status
from simulator.trading.terms import LIMIT_TYPES, PEGGED_TYPES, STOP_TYPES, TRAILING_TYPES
from simulator.trading.timing import hold, may_trade

if TYPE_CHECKING:
    from simulator.market.market import Market, Quote
    from simulator.trading.book import Book
    from simulator.trading.ledger import Ledger, Preview
    from simulator.trading.order import Identifiers, Listener

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
    candidate = nearest(order.contract, price + distance * terms.sign)  # may be sent back so
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


CANCELLED = "Order Canceled - reason:"
REJECTED = "Order rejected - reason:"
AT_ONCE = frozenset({"IOC", "FOK"})
SMART_VENUES = ("ARCA", "NASDAQ", "ISLAND", "BATS", "IEX", "NYSE")


class Matcher:
    """Moves orders through their life as the market has it."""

    def __init__(
        self,
        book: Book,
        market: Market,
        ledger: Ledger,
        identifiers: Identifiers,
        listener: Listener,
    ) -> None:
        self._book = book
        self._market = market
        self._ledger = ledger
        self._identifiers = identifiers
        self._listener = listener

    def step(self, order: Order, at: float, *, fills: bool) -> None:
        """Hold one working order against the market at a moment."""
        if order.expires_at is not None and at >= order.expires_at:
            self.cancel(order, at)
        elif order.transmitted:
            if self._conditions_end(order, at):
                return
            self.settle(order, at)
            if fills and not order.done:
                self._fill(order, at)

    def settle(self, order: Order, at: float) -> None:
        """Bring the order's status up to what it is at this moment; says so when it changed."""
        begun = at >= order.active_from and not order.conditioned
        if begun and not book.waits_for_parent(order):
            self._watch(order, at)
        status, held = self._status(order, at)
        if (status, held) != (order.status, order.why_held):
            order.status, order.why_held = status, held
            self._listener.order_shown(order)

    def cancel(self, order: Order, at: float) -> None:
        """End an order, and what hangs on it."""
        status = Status.CANCELLED if order.transmitted else Status.API_CANCELLED
        self._end(order, status, at, "Cancelled")
        self._listener.status_changed(order)
        self._listener.message(order.client_id, order.order_id, 202, CANCELLED)
        for child in list(self._book.children(order)):
            self.cancel(child, at)

    def reject(self, order: Order, reason: str, at: float) -> None:
        """The broker refuses an order that the gateway had taken."""
        self._listener.message(order.client_id, order.order_id, 201, REJECTED + reason)
        self._end(order, Status.INACTIVE, at, REJECTED + reason)
        self._listener.order_shown(order)
        for child in list(self._book.children(order)):
            self.cancel(child, at)

    def preview(self, order: Order, at: float) -> Preview:
        """What the order would do to its account."""
        signed = order.remaining * order.terms.sign
        price = self._expected_price(order, at)
        legs = legs_of(order.contract)
        if not legs:
            return self._ledger.preview(order.account, order.contract, signed, price, at)
        prices = leg_prices(self._market, order.contract, price, at)
        trades = [
            Trade(leg.contract, signed * leg.ratio * leg.sign, abs(each))
            for leg, each in zip(legs, prices, strict=True)
        ]
        return self._ledger.preview_all(order.account, trades, at)

    def refusal(self, order: Order, at: float) -> str:
        """Why the broker refuses an order; empty when it does not."""
        if book.waits_for_parent(order):
            return ""
        preview = self.preview(order, at)
        if preview.affordable:
            return ""
        after = preview.after
        return (
            "YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION YOUR EQUITY "
            f"WITH LOAN VALUE [{after.equity:.2f} USD] MUST EXCEED THE INITIAL MARGIN "
            f"[{after.initial:.2f} USD]"
        )

    # the parts of a step

    def _conditions_end(self, order: Order, at: float) -> bool:
        """Look at the conditions; whether they cancelled the order."""
        terms = order.terms
        if not terms.conditions or order.released or book.waits_for_parent(order):
            return False
        if hold(terms.conditions, self._market, at, outside=terms.conditions_outside):
            order.released = True
            if terms.conditions_cancel:
                self.cancel(order, at)
                return True
        return False

    def _watch(self, order: Order, at: float) -> None:
        quote = self._market.quote(order.contract, at)
        if may_trade(order, self._market, at) or order.stop is None:
            watch(order, quote)
            if order.stop is None and order.terms.order_type in TRAILING_TYPES:
                order.stop = trailed(order, quote)

    def _status(self, order: Order, at: float) -> tuple[Status, str]:
        held = book.why_held(order)
        waits = held or order.auction_at is not None or at < order.active_from
        if waits or order.conditioned or not may_trade(order, self._market, at):
            return Status.PRE_SUBMITTED, held
        return Status.SUBMITTED, held

    def _fill(self, order: Order, at: float) -> None:
        if book.why_held(order) or at < order.active_from or order.conditioned:
            return
        if order.auction_at is not None:
            if at >= order.auction_at:
                self._at_auction(order, order.auction_at, at)
            return
        if not may_trade(order, self._market, at):
            return
        fill = match(order, self._market.quote(order.contract, at))
        order.looked_at = at
        if fill:
            self._execute(order, fill, at)
        if not order.done and order.terms.tif in AT_ONCE:
            self.cancel(order, at)

    def _exercise(self, order: Order, at: float) -> None:
        settle(order, self._market, self._ledger, at)
        order.filled = order.quantity
        self._end(order, Status.FILLED, at, f"Filled Size: {order.filled:g}")
        self._listener.order_shown(order)
        self._listener.account_changed(order.account)

    def _at_auction(self, order: Order, auction_at: float, at: float) -> None:
        if order.delivers is not None:
            self._exercise(order, at)
            return
        fill = auction(order, self._market.quote(order.contract, auction_at))
        if fill:
            self._execute(order, fill, at)
        else:
            self.cancel(order, at)

    def _execute(self, order: Order, fill: Fill, at: float) -> None:
        total = order.filled + fill.quantity
        paid = order.average_price * order.filled + fill.price * fill.quantity
        order.filled, order.average_price, order.last_price = total, paid / total, fill.price
        if order.terms.order_type == "MTL" and order.limit is None:
            order.limit = fill.price
        executions = self._executions(order, fill, at)
        self._book.executions.extend(executions)
        if order.remaining <= DUST:
            self._end(order, Status.FILLED, at, f"Filled Size: {order.filled:g}")
        for execution in executions:
            self._listener.executed(execution)
        self._listener.order_shown(order)
        for execution in executions:
            if execution.has_commission:
                self._listener.commissioned(execution)
        self._after_fill(order, fill.quantity, at)

    def _executions(self, order: Order, fill: Fill, at: float) -> list[Execution]:
        """What a fill is told as; of a combination the whole and then each leg."""
        exec_id, venue = self._identifiers.exec_id(), self._venue(order)
        legs = legs_of(order.contract)
        if legs:
            return self._by_leg(order, fill, at, exec_id)
        due = commission(order.contract, order.filled, order.average_price)
        fee = round(due - order.commission, 6)
        order.commission = due
        signed = fill.quantity * order.terms.sign
        realized = self._ledger.trade(order.account, order.contract, signed, fill.price, fee, at)
        numbers = (fill.quantity, fill.price, order.filled, order.average_price)
        return [Execution(exec_id, order, at, venue, *numbers, fill.liquidity, fee, realized)]

    def _by_leg(self, order: Order, fill: Fill, at: float, exec_id: str) -> list[Execution]:
        legs = legs_of(order.contract)
        prices = leg_prices(self._market, order.contract, fill.price, at)
        order.leg_costs = order.leg_costs or [0.0] * len(legs)
        numbers = (fill.quantity, fill.price, order.filled, order.average_price)
        whole = Execution(
            exec_id, order, at, order.contract.exchange, *numbers, fill.liquidity, 0.0, None
        )
        found = [whole]
        head, _, tail = exec_id.rpartition(".01.")
        for place, (leg, price) in enumerate(zip(legs, prices, strict=True)):
            quantity, total = fill.quantity * leg.ratio, order.filled * leg.ratio
            order.leg_costs[place] += quantity * price
            fee = commission(leg.contract, quantity, price)
            order.commission = round(order.commission + fee, 6)
            signed = quantity * leg.sign * order.terms.sign
            realized = self._ledger.trade(order.account, leg.contract, signed, price, fee, at)
            numbers = (quantity, price, total, order.leg_costs[place] / total)
            venue = leg.contract.primary_exchange or leg.contract.exchange
            found.append(
                Execution(
                    *(f"{head}.{place + 2:02}.{tail}", order, at, venue),
                    *numbers,
                    *(fill.liquidity, fee, realized, leg),
                )
            )
        return found

    def _after_fill(self, order: Order, quantity: float, at: float) -> None:
        for other, taken in book.reductions(self._book, order, quantity):
            if taken >= other.remaining - DUST:
                self.cancel(other, at)
            else:
                other.quantity -= taken
                self._listener.order_shown(other)
        if order.status is Status.FILLED:
            for child in list(self._book.children(order)):
                self.settle(child, at)

    def _end(self, order: Order, status: Status, at: float, reason: str) -> None:
        order.status, order.why_held = status, ""
        order.completed_at, order.completed_reason = at, reason
        self._book.close(order)

    def _expected_price(self, order: Order, at: float) -> float:
        if order.limit is not None:
            return order.limit
        if order.stop is not None:
            return order.stop
        quote = self._market.quote(order.contract, at)
        return quote.ask if order.terms.buys else quote.bid

    def _venue(self, order: Order) -> str:
        if order.contract.exchange != "SMART":
            return order.contract.exchange
        if order.contract.sec_type != "STK":
            return order.contract.primary_exchange or "CBOE"
        return SMART_VENUES[(order.perm_id + len(self._book.executions)) % len(SMART_VENUES)]
