"""Every order and execution of the broker's; brackets and one-cancels-all groups among them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.trading.order import Status
from simulator.trading.terms import STOP_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.trading.order import Execution, Order

SIDES = {"BUY": "BOT", "SELL": "SLD", "BOT": "BOT", "SLD": "SLD", "SSHORT": "SLD"}


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """What reqExecutions asks for; empty and 0 mean any."""

    client_id: int = 0
    account: str = ""
    since: float = 0.0
    symbol: str = ""
    sec_type: str = ""
    exchange: str = ""
    side: str = ""

    def takes(self, execution: Execution) -> bool:
        """Whether the execution is asked for."""
        order = execution.order
        pairs = (
            (self.client_id, order.client_id),
            (self.account, order.account),
            (self.symbol, execution.contract.symbol),
            (self.sec_type, execution.contract.sec_type),
            (self.exchange, execution.exchange),
            (SIDES.get(self.side, self.side), execution.side),
        )
        return execution.at >= self.since and all(not want or want == has for want, has in pairs)


ORDERS_KEPT = 5_000
EXECUTIONS_KEPT = 20_000


class Book:
    """The broker's record; of orders that are done and of executions the latest are kept."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.executions: deque[Execution] = deque(maxlen=EXECUTIONS_KEPT)
        self._by_client: dict[tuple[int, int], Order] = {}
        self.highest: dict[int, int] = {}
        """Client -> the highest order id that it has used."""
        self._working: dict[int, Order] = {}

    def add(self, order: Order) -> None:
        """Take a new order in; the oldest ones that are done go."""
        if len(self.orders) >= 2 * ORDERS_KEPT:
            self._forget()
        self.orders.append(order)
        self._working[order.perm_id] = order
        self.name(order, order.client_id, order.order_id)

    def put_back(self, order: Order) -> None:
        """Take in an order of an earlier run, as it was."""
        self.orders.append(order)
        if not order.done:
            self._working[order.perm_id] = order
        self.name(order, order.client_id, order.order_id)

    def name(self, order: Order, client_id: int, order_id: int) -> None:
        """Let a client know an order by that id."""
        order.client_id, order.order_id = client_id, order_id
        if order_id:
            self._by_client[client_id, order_id] = order
            self.use(client_id, order_id)

    def use(self, client_id: int, order_id: int) -> None:
        """Count an order id as used up, whatever became of the order."""
        self.highest[client_id] = max(order_id, self.highest.get(client_id, 0))

    def find(self, client_id: int, order_id: int) -> Order | None:
        """The order that the client knows by that id."""
        return self._by_client.get((client_id, order_id))

    def next_order_id(self, client_id: int) -> int:
        """The lowest id that the client has not used."""
        return self.highest.get(client_id, 0) + 1

    @property
    def highest_order_id(self) -> int:
        """The highest id that any client has used."""
        return max(self.highest.values(), default=0)

    def close(self, order: Order) -> None:
        """No longer look at an order that is done."""
        self._working.pop(order.perm_id, None)

    def working(self) -> list[Order]:
        """The orders that are not done, oldest first."""
        return list(self._working.values())

    def _forget(self) -> None:
        done = [order for order in self.orders if order.done]
        old = set(done[: max(len(done) - ORDERS_KEPT, 0)])
        self.orders = [order for order in self.orders if order not in old]
        for order in old:
            self._by_client.pop((order.client_id, order.order_id), None)

    def children(self, parent: Order) -> Iterator[Order]:
        """The working orders that hang on this one."""
        return (order for order in self.working() if order.parent is parent)

    def group(self, order: Order) -> Iterator[Order]:
        """The other working orders of its one-cancels-all group."""
        for other in self.working():
            same_account = other is not order and other.account == order.account
            named = order.terms.oca_group and other.terms.oca_group == order.terms.oca_group
            sibling = order.parent is not None and other.parent is order.parent
            if same_account and (named or sibling):
                yield other

    def shown(self) -> dict[str, Any]:
        """Orders and fills as `GET /book` gives them."""
        return {
            "orders": [order.shown() for order in self.orders],
            "fills": [execution.shown() for execution in self.executions],
        }


CANCEL_WITH_BLOCK = 1


def waits_for_parent(order: Order) -> bool:
    """Whether an order's parent has not been filled."""
    return order.parent is not None and order.parent.status is not Status.FILLED


def why_held(order: Order) -> str:
    """The whyHeld of orderStatus."""
    reasons = ["child"] if waits_for_parent(order) else []
    if order.terms.order_type in STOP_TYPES and not order.triggered:
        reasons.append("trigger")
    return ",".join(reasons)


def untransmitted_family(book: Book, order: Order) -> list[Order]:
    """What a transmitted order takes along: its parent and siblings that waited, oldest first."""
    head = order.parent or order
    return [
        member
        for member in book.working()
        if not member.transmitted and member is not order and head in {member, member.parent}
    ]


def reductions(book: Book, order: Order, quantity: float) -> list[tuple[Order, float]]:
    """What a fill of `quantity` takes from the other orders of its group.

    Returns:
        Each order with what is taken from its quantity; all that remains means: cancel it.
    """
    taken = []
    for other in book.group(order):
        if waits_for_parent(other):
            continue
        named = order.terms.oca_group and other.terms.oca_group == order.terms.oca_group
        if named and order.terms.oca_type in {0, CANCEL_WITH_BLOCK}:
            taken.append((other, other.remaining))
        else:
            taken.append((other, min(quantity, other.remaining)))
    return taken
