"""What a combination's order does to the positions of its legs."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from bridge.model import ComboLeg, Contract, OpenOrder, Order, OrderState, OrderStatus, Position
from bridge.orders.exposure import (
    Working,
    closable,
    may_fill,
    of_order,
    only_reduce,
    open_orders,
    opening,
    parts_of_order,
    reduces,
    remaining,
)
from bridge.store.orders import OrderRecord, PendingChange, State
from bridge.tws.events import Signal

if TYPE_CHECKING:
    from bridge.tws.gateway import Gateway

SPREAD = Contract(
    symbol="SPY",
    sec_type="BAG",
    legs=(
        ComboLeg(con_id=11, ratio=1, action="SELL", exchange="SMART"),
        ComboLeg(con_id=12, ratio=2, action="BUY", exchange="SMART"),
    ),
)
HELD = {("DU1", 11): -3.0, ("DU1", 12): 6.0}


def order(action: str, quantity: float) -> Order:
    return Order(action=action, quantity=quantity, account="DU1")  # type: ignore[arg-type]


def record(name: str, contract: Contract, terms: Order) -> OrderRecord:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    return OrderRecord(
        id=name, order_ref=name, key_digest="", role="single", group_id=name, parent_id=None,
        api_key_id="", account="DU1", symbol="SPY", contract=contract, terms=terms, client_id=1,
        broker_order_id=1, notional=0.0, created_at=now, updated_at=now, state=State.ACKNOWLEDGED,
    )  # fmt: skip


def test_each_leg_counts_at_its_own_position() -> None:
    parts = parts_of_order("x", SPREAD, order("SELL", 3), 3)
    assert [(each.con_id, each.action, each.quantity) for each in parts] == [
        (11, "BUY", 3),
        (12, "SELL", 6),
    ]


def test_a_combination_only_reduces_when_each_of_its_legs_does() -> None:
    for action, quantity, wanted in (("SELL", 3, True), ("SELL", 4, False), ("BUY", 1, False)):
        parts = parts_of_order("x", SPREAD, order(action, quantity), quantity)
        assert reduces(parts, HELD, ()) is wanted, (action, quantity)
    single = parts_of_order("leg", Contract(con_id=12), order("SELL", 1), 1)
    whole = parts_of_order("x", SPREAD, order("SELL", 3), 3)
    assert not reduces(single, HELD, whole)
    assert closable(("DU1", 12), "SELL", HELD, whole) == 0


@pytest.mark.parametrize("guess", [0.0, 100.0])
def test_of_an_order_for_an_amount_of_money_nobody_can_tell(guess: float) -> None:
    """Without a price its quantity is 0, which would be less than anything that is held."""
    euro = Contract(con_id=11, symbol="EUR", sec_type="CASH")
    money = structs.replace(order("SELL", guess), cash_quantity=5e6)
    assert not reduces(parts_of_order("new", euro, money, guess), {("DU1", 11): 1000.0}, ())
    works = record("works", euro, money)
    assert opening([works], {("DU1", 11): 1000.0}) == ([works], [])


def test_a_halt_leaves_a_combination_that_closes_and_cancels_one_that_opens() -> None:
    closes = record("closes", SPREAD, order("SELL", 2))
    opens = record("opens", SPREAD, order("BUY", 1))
    too_large = record("too-large", SPREAD, order("SELL", 2))
    cancelled, kept = opening([closes, opens, too_large], HELD)
    assert [each.id for each in kept] == ["closes"]
    assert [each.id for each in cancelled] == ["opens", "too-large"]


@pytest.mark.parametrize(
    ("asked", "may", "stays"),
    [(None, 5, True), (3, 5, True), (5, 5, True), (50, 50, False)],
)
def test_a_change_on_its_way_counts_as_taken(asked: float | None, may: float, stays: bool) -> None:
    one = record("closes", Contract(con_id=12), order("SELL", 5))
    if asked is not None:
        change = PendingChange(at=one.created_at, terms=order("SELL", asked), fields=("quantity",))
        one = structs.replace(one, pending=change)
    assert may_fill(one) == may
    _, kept = opening([one], {("DU1", 12): 5.0})
    assert (kept == [one]) is stays


def test_a_cancel_on_its_way_changes_nothing() -> None:
    one = record("closes", Contract(con_id=12), order("SELL", 5))
    pending = PendingChange(at=one.created_at)
    assert may_fill(structs.replace(one, filled=2.0, pending=pending)) == 3.0


@pytest.mark.parametrize(
    ("terms", "together", "protective"),
    [
        ({}, "x", False),
        ({"oca_group": "g", "oca_type": 1}, "oca g", False),
        ({"oca_group": "g", "oca_type": 2}, "oca g", False),
        ({"oca_group": "g", "oca_type": 3}, "x", False),  # each of it may fill
        ({"parent_id": 4, "client_id": 17}, "children 17 4", True),
        ({"order_type": "STP"}, "x", True),
        ({"order_type": "TRAIL LIMIT"}, "x", True),
        ({"order_type": "LMT"}, "x", False),
    ],
)
def test_which_orders_fill_instead_of_each_other(
    terms: dict[str, Any], together: str, protective: bool
) -> None:
    found = of_order("x", Contract(con_id=11), Order(account="DU1", **terms), 4)
    assert (found.together, found.protective) == (together, protective)
    assert (found.place, found.quantity) == (("DU1", 11), 4)


def works(action: str, quantity: float, con_id: int = 11, together: str = "") -> Working:
    return Working(
        name="w", account="DU1", con_id=con_id, action=action, quantity=quantity,
        together=together or f"{action}{quantity}{con_id}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("position", "action", "working", "free"),
    [
        (5.0, "SELL", [], 5.0),
        (5.0, "BUY", [], 0.0),
        (-5.0, "BUY", [], 5.0),
        (-5.0, "SELL", [], 0.0),
        (5.0, "SELL", [works("SELL", 2)], 3.0),
        (5.0, "SELL", [works("SELL", 5)], 0.0),
        (5.0, "SELL", [works("SELL", 7)], 0.0),
        (5.0, "SELL", [works("BUY", 2)], 5.0),
        (-5.0, "BUY", [works("SELL", 2)], 5.0),
        (-5.0, "BUY", [works("BUY", 2), works("BUY", 1)], 2.0),
        (-5.0, "BUY", [works("BUY", 2, together="g"), works("BUY", 3, together="g")], 2.0),
        (5.0, "SELL", [works("SELL", 2, con_id=12)], 5.0),
    ],
)
def test_how_much_only_closes(
    position: float, action: str, working: list[Working], free: float
) -> None:
    assert closable(("DU1", 11), action, {("DU1", 11): position}, working) == free


def test_what_is_left_has_no_residue_of_subtracting() -> None:
    euro = Contract(con_id=13, symbol="EUR", sec_type="CASH")
    working = parts_of_order("resting", euro, order("SELL", 5000.0), 5000.0)
    assert closable(("DU1", 13), "SELL", {("DU1", 13): 7250.77}, working) == 2250.77
    partly = structs.replace(record("part", euro, order("SELL", 7250.77)), filled=5000.0)
    assert partly.remaining == 2250.77


class Lister:
    """A gateway with another client's order of 60, of which `left` are left."""

    def __init__(self, left: float, held: float) -> None:
        self.left, self.held = left, held
        self.events = SimpleNamespace(order_status=Signal[[OrderStatus]]("order-status"))
        self.queries = self

    async def all_open_orders(self, **_: object) -> tuple[OpenOrder, ...]:
        theirs = Order(action="SELL", quantity=60.0, account="DU1", perm_id=9, order_ref="tws")
        status = OrderStatus(
            order_id=0, status="Submitted", filled=60 - self.left, remaining=self.left, perm_id=9
        )
        self.events.order_status.emit(status)
        contract, state = Contract(con_id=11), OrderState(status="Submitted")
        return (OpenOrder(order_id=0, contract=contract, order=theirs, state=state),)

    async def positions(self, **_: object) -> tuple[Position, ...]:
        contract = Contract(con_id=11)
        return (Position(account="DU1", contract=contract, quantity=self.held, average_cost=1.0),)


async def test_of_an_order_that_is_listed_what_is_left_counts() -> None:
    gateway = cast("Gateway", Lister(left=1, held=41))
    assert [remaining(each) for each in await open_orders(gateway, 1)] == [1]
    for quantity, closes in ((40.0, True), (41.0, False)):
        wanted = parts_of_order("new", Contract(con_id=11), order("SELL", quantity), quantity)
        assert await only_reduce(gateway, wanted, seconds=1) is closes


class Exercised(Lister):
    """A gateway that lists an exercise of 2 of this bridge's, which carries no reference."""

    def __init__(self, held: float, **numbers: int) -> None:
        super().__init__(left=0, held=held)
        self.numbers = numbers

    async def all_open_orders(self, **_: object) -> tuple[OpenOrder, ...]:
        terms = structs.replace(order("SELL", 2), order_type="EXERCISE", **self.numbers)
        contract, state = Contract(con_id=11), OrderState(status="PreSubmitted")
        return (OpenOrder(order_id=terms.order_id, contract=contract, order=terms, state=state),)


@pytest.mark.parametrize(
    ("numbers", "perm_id", "once"),
    [
        ({"client_id": 1, "order_id": 1, "perm_id": 70}, 70, True),
        ({"client_id": 1, "order_id": 1, "perm_id": 70}, 0, True),
        ({"client_id": 1, "order_id": 1, "perm_id": 71}, 70, False),
        ({"client_id": 2, "order_id": 1, "perm_id": 71}, 0, False),
    ],
)
async def test_an_exercise_that_works_counts_once(
    numbers: dict[str, int], perm_id: int, once: bool
) -> None:
    terms = structs.replace(order("SELL", 2), order_type="EXERCISE")
    own = structs.replace(record("exercise", Contract(con_id=11), terms), perm_id=perm_id)
    wanted = parts_of_order("new", Contract(con_id=11), order("SELL", 1), 1)
    for held, closes in ((3, once), (2, False), (5, True)):
        gateway = cast("Gateway", Exercised(held, **numbers))
        assert await only_reduce(gateway, wanted, [own], seconds=1) is closes, held


@pytest.mark.parametrize(
    ("kind", "quantity", "reducing"), [(1, 6, True), (2, 6, True), (1, 7, False), (3, 6, False)]
)
def test_an_order_counts_once_with_those_of_its_group(
    kind: int, quantity: float, reducing: bool
) -> None:
    """The stop is moved of a group whose gain works: one fill ends the other."""
    terms = Order(action="SELL", account="DU1", oca_group="g", oca_type=kind)
    gain = of_order("gain", Contract(con_id=12), terms, 6)
    stop = of_order("stop", Contract(con_id=12), terms, quantity)
    assert reduces([stop], HELD, [gain]) is reducing
    beside = of_order("beside", Contract(con_id=12), order("SELL", 1), 1)
    assert not reduces([stop], HELD, [gain, beside])
