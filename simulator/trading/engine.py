"""The broker: takes orders, holds them against the market, and tells what became of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.contracts.details import CASH_QUANTITY
from simulator.trading import book
from simulator.trading.book import Book
from simulator.trading.exercise import LAPSE, check, terms_of, worth
from simulator.trading.matching import Matcher
from simulator.trading.order import Order, Status
from simulator.trading.terms import (
    STOP_TYPES,
    TRAILING_TYPES,
    RefusedError,
    check_account,
    check_change,
    check_terms,
)
from simulator.trading.timing import eastern, may_trade, moment, set_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market
    from simulator.trading.exercise import Instruction
    from simulator.trading.ledger import Ledger
    from simulator.trading.order import Identifiers, Listener
    from simulator.trading.terms import Terms

MANUAL_CLIENT = 0
"""The client whose number orders entered by hand carry."""
PRESET_TIF = "Order TIF was set to DAY based on order preset."
OUTSIDE_IGNORED = (
    "Order Event Warning:Attribute 'Outside Regular Trading Hours' is ignored based on the order "
    "type and destination. PlaceOrder is now being processed."
)
WORKING_ORDERS = 5_000
TOO_MANY = "Order rejected - reason:The number of working orders is at its maximum."


class Engine:
    """One broker; all times are seconds since the epoch."""

    def __init__(
        self,
        market: Market,
        ledger: Ledger,
        identifiers: Identifiers,
        listener: Listener,
        accounts: Sequence[str],
    ) -> None:
        self.book = Book()
        self.market = market
        self.ledger = ledger
        self.identifiers = identifiers
        self.listener = listener
        self.accounts = accounts
        self.matcher = Matcher(self.book, market, ledger, identifiers, listener)

    def place(
        self, client_id: int, order_id: int, contract: Contract, terms: Terms, at: float
    ) -> Order | None:
        """Take a new order, or change a working one that has this id.

        Returns:
            The order, or None when it was refused or only asked about.
        """
        try:
            existing = self.book.find(client_id, order_id)
            if existing is not None and not existing.done:
                return self._modify(existing, contract, terms, at)
            return self._take(client_id, order_id, contract, terms, at)
        except RefusedError as error:
            self.listener.message(client_id, order_id, error.code, error.text)
            return None

    def place_manual(self, contract: Contract, terms: Terms, at: float) -> Order | None:
        """Take an order that a person entered at the gateway; no client has an id for it yet."""
        try:
            return self._take(MANUAL_CLIENT, 0, contract, terms, at)
        except RefusedError:
            return None

    def exercise(
        self,
        client: tuple[int, int],
        contract: Contract,
        underlying: Contract | None,
        instruction: Instruction,
        at: float,
    ) -> Order | None:
        """Take an instruction about an option; exercise waits for the close, lapse for the end.

        Args:
            client: its number, and that of its request, which is the instruction's order id.
            contract: the option.
            underlying: what it is about.
            instruction: what to do with how many.
            at: now.
        """
        client_id, request_id = client
        try:
            account = check_account(instruction.account, self.accounts)
            held = self.ledger.accounts[account].held(contract.con_id)
            value = worth(contract, underlying, self.market, at) if underlying else 0.0
            check(contract, underlying, instruction, held, value)
            if self.book.find(client_id, request_id) is not None:
                raise RefusedError(103, "Duplicate order id")
        except RefusedError as error:
            self.listener.message(client_id, request_id, error.code, error.text)
            return None
        terms = terms_of(instruction)
        order = Order(
            self.identifiers.perm_id(), client_id, request_id, contract, terms, account, at
        )
        order.quantity, order.delivers = terms.quantity, underlying
        order.auction_at = self.market.next_close(contract, at)
        if terms.order_type == LAPSE:
            order.auction_at = max(order.auction_at, moment(f"{contract.expiry} 16:00:00"))
        self.book.add(order)
        self.listener.order_shown(order)
        order.status = Status.PRE_SUBMITTED
        self.listener.order_shown(order)
        return order

    def cancel(self, client_id: int, order_id: int, at: float) -> None:
        """Cancel one order of the client's, or say why not."""
        order = self.book.find(client_id, order_id)
        if order is None:
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            self.listener.message(client_id, order_id, 10147, text)
        elif order.status is Status.INACTIVE and order.done:
            text = "Cancel attempted when order is not in a cancellable state.  Order permId ="
            self.listener.message(client_id, order_id, 161, f"{text}{order.perm_id}")
        elif order.done:
            text = (
                f"OrderId {order_id} that needs to be cancelled cannot be cancelled, "
                f"state: {order.status.value}."
            )
            self.listener.message(client_id, order_id, 10148, text)
        else:
            self.matcher.cancel(order, at)

    def cancel_all(self, at: float) -> None:
        """Cancel every working order, whoever placed it."""
        for order in self.book.working():
            if not order.done:
                self.matcher.cancel(order, at)

    def bind(self, order: Order, order_id: int) -> None:
        """Give an order entered by hand an id of client 0's."""
        self.book.name(order, MANUAL_CLIENT, order_id)

    def advance(self, at: float, *, fills: bool = True) -> None:
        """Hold every working order against the market at this moment.

        Args:
            at: now; whatever becomes of an order here happens at this moment and none before it.
            fills: False withholds fills; everything else goes on.
        """
        self.ledger.roll(at)
        for order in self.book.working():
            if not order.done:
                self.matcher.step(order, at, fills=fills)

    def deadlines(self, order: Order, at: float) -> list[float]:
        """The moments at which something becomes of the order by itself."""
        moments = [order.active_from, order.expires_at or 0.0, order.auction_at or 0.0]
        moments += [each.value for each in order.terms.conditions if each.contract is None]
        if not may_trade(order, self.market, at):
            moments.append(self.market.next_open(order.contract, at))
        return sorted({moment for moment in moments if moment > at})

    # taking orders

    def _take(
        self, client_id: int, order_id: int, contract: Contract, terms: Terms, at: float
    ) -> Order | None:
        if order_id and order_id < self.book.next_order_id(client_id):
            self._refuse_used(client_id, order_id)
        self.book.use(client_id, order_id)
        account = check_account(terms.account, self.accounts)
        terms = self._sized(contract, terms, at)
        check_terms(contract, terms)
        order = Order(0, client_id, order_id, contract, terms, account, at)
        order.quantity, order.limit = terms.quantity, _limit(terms)
        order.stop = _stop(terms)
        set_times(order, self.market, at)
        if order.expires_at is not None and order.expires_at <= at:
            raise RefusedError(201, "Order rejected - reason:Invalid good till date or time.")
        order.parent = self._parent(client_id, terms)
        if terms.what_if:
            self.listener.previewed(order, self.matcher.preview(order, at))
            return None
        if len(self.book.working()) >= WORKING_ORDERS:
            raise RefusedError(201, TOO_MANY)
        order.perm_id = self.identifiers.perm_id()
        order.transmitted = terms.transmit
        self.book.add(order)
        if not terms.transmit:
            return order
        for member in book.untransmitted_family(self.book, order):
            member.transmitted = True
            self._submit(member, at)
        self._submit(order, at)
        return order

    def _sized(self, contract: Contract, terms: Terms, at: float) -> Terms:
        """Terms that name a quantity: money buys what it buys at the price of the moment."""
        if not terms.cash_quantity or terms.quantity or contract.sec_type not in CASH_QUANTITY:
            return terms
        quote = self.market.quote(contract, at)
        price = terms.limit or (quote.ask if terms.buys else quote.bid)
        return replace(terms, quantity=round(terms.cash_quantity / price, 2))

    def _refuse_used(self, client_id: int, order_id: int) -> None:
        existing = self.book.find(client_id, order_id)
        if existing is not None and existing.status is Status.FILLED:
            raise RefusedError(104, "Cannot modify a filled order.")
        raise RefusedError(103, "Duplicate order id")

    def _parent(self, client_id: int, terms: Terms) -> Order | None:
        if not terms.parent_id:
            return None
        parent = self.book.find(client_id, terms.parent_id)
        if parent is None or (parent.done and parent.status is not Status.FILLED):
            raise RefusedError(135, f"Can't find order with id ={terms.parent_id}")
        return parent

    def _submit(self, order: Order, at: float) -> None:
        """Pass an order on: acknowledged, checked against the account, then working."""
        if not order.terms.tif:
            self.listener.message(order.client_id, order.order_id, 10349, PRESET_TIF)
        self.listener.order_shown(order)
        reason = self.matcher.refusal(order, at)
        if reason:
            self.matcher.reject(order, reason, at)
            return
        order.status = Status.PRE_SUBMITTED
        order.why_held = book.why_held(order)
        self._warn(order, at)
        self.listener.order_shown(order)
        self.matcher.settle(order, at)

    def _warn(self, order: Order, at: float) -> None:
        """The warnings that a gateway sends with an order that it takes."""
        terms, contract = order.terms, order.contract
        if terms.outside_rth and terms.order_type in {"MKT", "STP", "MOC"}:
            self.listener.message(order.client_id, order.order_id, 2109, OUTSIDE_IGNORED)
        held = order.parent is not None or order.auction_at is not None
        if held or terms.order_type in STOP_TYPES or may_trade(order, self.market, at):
            return
        opening = eastern(self.market.next_open(contract, at), "%Y-%m-%d %H:%M:%S")
        order.warning = (
            "Warning: your order will not be placed at the exchange until " + opening + "."
        )
        venue = contract.primary_exchange or contract.exchange
        text = (
            f"Order Message:\n{terms.action} {order.quantity:g} {contract.symbol} {venue}\n"
            f"{order.warning}"
        )
        self.listener.message(order.client_id, order.order_id, 399, text)

    def _modify(self, order: Order, contract: Contract, terms: Terms, at: float) -> Order | None:
        check_change(contract, order.contract, terms, order.filled)
        if terms.action != order.terms.action:
            raise RefusedError(105, "Order being modified does not match original order.")
        terms = self._sized(contract, terms, at)
        check_terms(contract, terms)
        if terms.what_if:
            raise RefusedError(
                321, "Error validating request.-'bW' : cause - The order is working already."
            )
        newly_sent = terms.transmit and not order.transmitted
        changed = Order(0, 0, 0, contract, terms, order.account, at)
        set_times(changed, self.market, at)
        order.active_from, order.expires_at = changed.active_from, changed.expires_at
        order.auction_at = changed.auction_at
        if terms.conditions != order.terms.conditions:
            order.released = False
        order.terms, order.quantity, order.limit = terms, terms.quantity, _limit(terms)
        order.looked_at = order.peg = None
        if not order.triggered:
            order.stop = _stop(terms)
        if newly_sent:
            order.transmitted = True
            for member in book.untransmitted_family(self.book, order):
                member.transmitted = True
                self._submit(member, at)
            self._submit(order, at)
        elif order.transmitted:
            self.listener.order_shown(order)
            self.matcher.settle(order, at)
        return order


def _limit(terms: Terms) -> float | None:
    """The limit that an order begins with; market-to-limit finds its own."""
    return None if terms.order_type == "MTL" else terms.limit


def _stop(terms: Terms) -> float | None:
    if terms.order_type not in STOP_TYPES:
        return None
    return terms.trail_stop if terms.order_type in TRAILING_TYPES else terms.aux
