"""The life of one order: status, fills, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.trading import groups
from simulator.trading.commission import commission
from simulator.trading.hours import may_trade
from simulator.trading.matching import Fill, auction, match, trailed, watch
from simulator.trading.order import DUST, Execution, Order, Status
from simulator.trading.terms import TRAILING_TYPES

if TYPE_CHECKING:
    from simulator.account.ledger import Ledger
    from simulator.account.margin import Preview
    from simulator.trading.book import Book
    from simulator.trading.identifiers import Identifiers
    from simulator.trading.listener import Listener
    from simulator.trading.market import Market

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
            self.settle(order, at)
            if fills and not order.done:
                self._fill(order, at)

    def settle(self, order: Order, at: float) -> None:
        """Bring the order's status up to what it is at this moment; says so when it changed."""
        if not groups.waits_for_parent(order) and at >= order.active_from:
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
        return self._ledger.preview(order.account, order.contract, signed, price, at)

    def refusal(self, order: Order, at: float) -> str:
        """Why the broker refuses an order; empty when it does not."""
        if groups.waits_for_parent(order):
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

    def _watch(self, order: Order, at: float) -> None:
        quote = self._market.quote(order.contract, at)
        if may_trade(order, self._market, at) or order.stop is None:
            watch(order, quote)
            if order.stop is None and order.terms.order_type in TRAILING_TYPES:
                order.stop = trailed(order, quote)

    def _status(self, order: Order, at: float) -> tuple[Status, str]:
        held = groups.why_held(order)
        waits = held or order.auction_at is not None or at < order.active_from
        if waits or not may_trade(order, self._market, at):
            return Status.PRE_SUBMITTED, held
        return Status.SUBMITTED, held

    def _fill(self, order: Order, at: float) -> None:
        if groups.why_held(order) or at < order.active_from:
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

    def _at_auction(self, order: Order, auction_at: float, at: float) -> None:
        fill = auction(order, self._market.quote(order.contract, auction_at))
        if fill:
            self._execute(order, fill, at)
        else:
            self.cancel(order, at)

    def _execute(self, order: Order, fill: Fill, at: float) -> None:
        total = order.filled + fill.quantity
        paid = order.average_price * order.filled + fill.price * fill.quantity
        order.filled, order.average_price, order.last_price = total, paid / total, fill.price
        due = commission(order.contract, total, order.average_price)
        fee = round(due - order.commission, 6)
        order.commission = due
        signed = fill.quantity * order.terms.sign
        realized = self._ledger.trade(order.account, order.contract, signed, fill.price, fee, at)
        execution = Execution(
            self._identifiers.exec_id(),
            order,
            at,
            self._venue(order),
            fill.quantity,
            fill.price,
            order.filled,
            order.average_price,
            fill.liquidity,
            fee,
            realized,
        )
        self._book.executions.append(execution)
        if order.remaining <= DUST:
            self._end(order, Status.FILLED, at, f"Filled Size: {order.filled:g}")
        self._listener.executed(execution)
        self._listener.order_shown(order)
        self._listener.commissioned(execution)
        self._after_fill(order, fill.quantity, at)

    def _after_fill(self, order: Order, quantity: float, at: float) -> None:
        for other, taken in groups.reductions(self._book, order, quantity):
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
