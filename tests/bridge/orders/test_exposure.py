"""What a combination's order does to the positions of its legs."""

from __future__ import annotations

from datetime import UTC, datetime

from bridge.model import ComboLeg, Contract, Order
from bridge.orders.exposure import closable, opening, parts_of_order, reduces
from bridge.store.order_status import State
from bridge.store.orders import OrderRecord

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


def test_a_halt_leaves_a_combination_that_closes_and_cancels_one_that_opens() -> None:
    closes = record("closes", SPREAD, order("SELL", 2))
    opens = record("opens", SPREAD, order("BUY", 1))
    too_large = record("too-large", SPREAD, order("SELL", 2))
    cancelled, kept = opening([closes, opens, too_large], HELD)
    assert [each.id for each in kept] == ["closes"]
    assert [each.id for each in cancelled] == ["opens", "too-large"]
