"""Trading as a part of the world: runs the engine on the clock and tells the clients."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from simulator.trading.engine import Engine
from simulator.trading.ledger import Ledger
from simulator.trading.order import Identifiers
from simulator.tws import order_messages as messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.clock import Clock, Timer
    from simulator.contracts.contract import Contract
    from simulator.faults import Faults
    from simulator.market.market import Market
    from simulator.options import Options
    from simulator.trading.exercise import Instruction
    from simulator.trading.ledger import Preview
    from simulator.trading.order import Execution, Order
    from simulator.trading.terms import Terms
    from simulator.tws.client import Client

LOOK_SECONDS = 0.1
"""How often working orders are held against the market."""
FIRST_LOOK_SECONDS = 0.01
"""How soon after it came an order is."""
REQUESTS_KEPT = 20_000
KEPT_SECONDS = 2.0
"""How often what no message tells of, such as where a trailing stop stands, is kept."""


class Trading:
    """The broker behind the gateway. Orders outlive clients, restarts and lost connections."""

    def __init__(
        self,
        options: Options,
        clock: Clock,
        faults: Faults,
        market: Market,
        sessions: Sequence[Client],
    ) -> None:
        self._clock = clock
        self._faults = faults
        self._sessions = sessions
        start = clock.time()
        self.ledger = Ledger(options.accounts, market, start)
        identifiers = Identifiers(start, options.seed)
        self.engine = Engine(market, self.ledger, identifiers, self, options.accounts)
        self.save: Callable[[], object] | None = None
        """Keeps accounts and orders between two runs; None: nothing does."""
        self._changed = False
        self.auto_bind = False
        self.requests: deque[dict[str, Any]] = deque(maxlen=REQUESTS_KEPT)
        """Every placeOrder and cancelOrder that came in, also refused or unanswered ones."""
        self._latest: dict[tuple[int, int | None], dict[str, Any]] = {}
        self.watchers: list[Callable[[str], object]] = []
        """Called with an account's name when a fill changed it."""
        self.bound = 0
        """The latest id that client 0 got for an order entered by hand; they count down."""
        self._kept_at = 0.0
        self._rounds: Timer | None = None
        self._due: Timer | None = None
        self._held: list[Callable[[], object]] = []
        faults.on_end("upstream-lost", lambda _: self._release())
        faults.on_end("late-fills", lambda _: self.look())

    # clients that come and go

    @property
    def next_order_id(self) -> int:
        """One above every order id that any client has used."""
        return self.engine.book.highest_order_id + 1

    def session_ready(self, session: Client) -> None:
        """Give a client that came back what it has open."""
        for order in self.engine.book.working():
            if order.client_id == session.client_id and order.order_id and order.transmitted:
                messages.send_open_order(session, order)
                messages.send_status(session, order)

    def session_closed(self, session: Client) -> None:
        """A client is gone; its orders stay."""
        if session.client_id == 0:
            self.auto_bind = False

    def book(self) -> dict[str, Any]:
        """Orders, fills and order requests."""
        return {**self.engine.book.shown(), "requests": list(self.requests)}

    # what a later run has to know

    def changed(self) -> None:
        """Something happened that a later run has to know: keep it before anybody hears of it."""
        if self.save is not None and not self._changed:
            self._changed = True
            asyncio.get_running_loop().call_soon(self.keep)

    def keep(self) -> None:
        """Write what changed since the last time, if anything did."""
        if self.save is not None and self._changed:
            self._changed = False
            self.save()

    # requests

    def record(self, request: dict[str, Any]) -> None:
        """Put a request into the book before anything becomes of it."""
        if len(self.requests) == REQUESTS_KEPT:
            oldest = self.requests[0]
            key = (oldest["clientId"], oldest["orderId"])
            if self._latest.get(key) is oldest:
                del self._latest[key]
        self.requests.append(request)
        self._latest[request["clientId"], request["orderId"]] = request

    def place(self, client_id: int, order_id: int, contract: Contract, terms: Terms) -> None:
        """Pass an order to the broker, at once or when the line to it is up again."""
        self._upstream(partial(self._place, client_id, order_id, contract, terms))

    def _place(self, client_id: int, order_id: int, contract: Contract, terms: Terms) -> None:
        order = self.engine.place(client_id, order_id, contract, terms, self._clock.time())
        if order is not None:
            self._watch(order)

    def exercise(
        self,
        client: tuple[int, int],
        contract: Contract,
        underlying: Contract | None,
        instruction: Instruction,
    ) -> None:
        """Take an instruction about an option; `client` is its number and that of its request."""

        def act() -> None:
            now = self._clock.time()
            order = self.engine.exercise(client, contract, underlying, instruction, now)
            if order is not None:
                self._watch(order)

        self._upstream(act)

    def place_manual(self, contract: Contract, terms: Terms) -> Order | None:
        """Take an order that a person entered at the gateway."""
        order = self.engine.place_manual(contract, terms, self._clock.time())
        if order is not None:
            self._watch(order)
        return order

    def cancel(self, client_id: int, order_id: int) -> None:
        """Cancel an order of the client's."""
        self._upstream(lambda: self.engine.cancel(client_id, order_id, self._clock.time()))

    def cancel_all(self) -> None:
        """Cancel every order there is."""
        self._upstream(lambda: self.engine.cancel_all(self._clock.time()))

    def bind_manual(self, session: Client) -> None:
        """Give client 0 ids for the orders entered by hand."""
        for order in self.engine.book.working():
            if not order.order_id:
                self._bind(session, order)

    def _bind(self, session: Client, order: Order) -> None:
        self.bound -= 1
        self.engine.bind(order, self.bound)
        messages.send_bound(session, order)

    # the clock

    def look(self) -> None:
        """Hold the working orders against the market now."""
        fills = not self._faults.active("late-fills")
        now = self._clock.time()
        self.engine.advance(now, fills=fills)
        if self.engine.book.working() and now - self._kept_at >= KEPT_SECONDS:
            self._kept_at = now
            self.changed()
        if self._rounds and not self.engine.book.working():
            self._rounds.cancel()
            self._rounds = None

    def resume(self) -> None:
        """Go on with the working orders of an earlier run."""
        for order in self.engine.book.working():
            self._watch(order)

    def _watch(self, order: Order) -> None:
        self.changed()
        self._clock.later(FIRST_LOOK_SECONDS, self.look)
        if self._rounds is None:
            self._rounds = self._clock.every(LOOK_SECONDS, self.look, watches=True)
        self._wake_for(order)

    def _wake_for(self, *orders: Order) -> None:
        now = self._clock.time()
        moments = [moment for order in orders for moment in self.engine.deadlines(order, now)]
        if self._due and self._due.callback and self._due.when > now:
            moments.append(self._due.when)
            self._due.cancel()
        self._due = self._clock.at(min(moments), self._wake) if moments else None

    def _wake(self) -> None:
        self.look()
        self._wake_for(*self.engine.book.working())

    # what a lost line holds back

    def _upstream(self, act: Callable[[], object]) -> None:
        if self._faults.active("upstream-lost"):
            self._held.append(act)
        else:
            act()

    def _release(self) -> None:
        held, self._held = self._held, []
        for act in held:
            act()

    # Listener

    def _audience(self, order: Order) -> Iterator[Client]:
        for session in self._sessions:
            if session.is_master or (order.order_id and session.client_id == order.client_id):
                yield session

    def _tell(self, order: Order, send: Callable[[Client], object]) -> None:
        for session in self._audience(order):
            self._upstream(partial(send, session))

    def order_shown(self, order: Order) -> None:
        self.changed()
        if not order.order_id and self.auto_bind:
            for session in self._sessions:
                if session.client_id == 0:
                    self._bind(session, order)
        self._tell(order, lambda session: messages.send_open_order(session, order))
        self.status_changed(order)

    def status_changed(self, order: Order) -> None:
        """orderStatus, twice while duplicates are on."""
        self.changed()
        self._tell(order, lambda session: messages.send_status(session, order))
        fault = self._faults.get("duplicate-status")
        if fault is None:
            return
        again = partial(self._tell, order, lambda session: messages.send_status(session, order))
        delay = float(fault.parameters.get("delay", 0.0))
        if delay:
            self._clock.later(delay, again)
        else:
            again()

    def executed(self, execution: Execution) -> None:
        self.changed()
        self._tell(execution.order, lambda session: messages.send_execution(session, execution))

    def commissioned(self, execution: Execution) -> None:
        """commissionReport; then the account has changed."""
        self._tell(execution.order, lambda session: messages.send_commission(session, execution))
        self.account_changed(execution.order.account)

    def account_changed(self, account: str) -> None:
        """Who follows the account is told."""
        self.changed()
        for watcher in list(self.watchers):
            watcher(account)

    def previewed(self, order: Order, preview: Preview) -> None:
        """OpenOrder with whatIf, to the client that asked."""
        for session in self._sessions:
            if session.client_id == order.client_id:
                self._upstream(partial(messages.send_preview, session, order, preview))

    def message(self, client_id: int, order_id: int, code: int, text: str) -> None:
        """An error or a warning; the order's number is used up, whatever became of it."""
        self.changed()
        request = self._latest.get((client_id, order_id))
        if request is not None:
            request.setdefault("codes", []).append(code)
        for session in self._sessions:
            if session.client_id == client_id:
                self._upstream(partial(session.error, order_id, code, text))
