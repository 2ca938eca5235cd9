"""Orders of unknown fate, and those of others, beside a position that is brought to a size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BridgeError
from bridge.orders.apply_messages import Own
from bridge.orders.close import CloseRequest, PositionCloser
from bridge.orders.errors import OrdersInTheWayError
from bridge.orders.lifecycle import Missing
from bridge.orders.request import OrderRequest
from bridge.orders.target import TargetPlacer, TargetRequest
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.test_strategies import LOW, RULES, LegBroker, bought


async def lost(rig: Rig, action: str, quantity: float) -> str:
    """An order of which nobody knows what has become, as its id."""
    terms: dict[str, Any] = {"action": action, "order_type": "LMT", "limit_price": 3.0}
    order = OrderRequest(symbol="AAPL", con_id=LOW, quantity=quantity, **terms)
    await rig.submitter.place(order, "lost", CALLER)
    view = await rig.order()
    rig.broker.hidden.add(view.broker_order_id)
    rig.journal.note(Own(view.order_id, Missing(rig.clock.now())))
    await rig.journal.flush()
    return view.order_id


async def target(rig: Rig, quantity: float) -> Any:
    limit: dict[str, Any] = {"order_type": "LMT", "limit_price": 3.0}
    wanted = TargetRequest(symbol="AAPL", con_id=LOW, target_quantity=quantity, **limit)
    return (await rig.services[TargetPlacer].place(wanted, f"to-{quantity}", CALLER)).answer


@pytest.mark.parametrize("strategy", [True, False])
@pytest.mark.parametrize(("action", "closes"), [("BUY", True), ("SELL", False)])
async def test_one_that_could_not_make_closing_too_large_is_not_in_the_way(
    tmp_path: Path, strategy: bool, action: str, closes: bool
) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        name = await bought(rig, broker, 5)
        order_id = await lost(rig, action, 1)
        named: dict[str, Any] = {"strategy": name} if strategy else {"con_id": LOW}
        request = CloseRequest(cancel_orders=True, **named)
        closed = await rig.services[PositionCloser].close(request, "close", CALLER)
        assert closed.complete is closes
        (position,) = closed.positions
        if closes:
            assert position.order["quantity"] == 5
            return
        assert position.problem is not None
        assert position.problem["orders"] == [order_id]
        assert "settle" in position.problem["nextStep"]
        assert broker.cancelled == []


@pytest.mark.parametrize(
    ("held", "unknown", "wanted", "sent"),
    [
        (5.0, "BUY", 2.0, ("SELL", 3.0)),
        (5.0, "SELL", 2.0, None),
        (5.0, "BUY", 5.0, None),
        (5.0, "BUY", 8.0, None),
        (5.0, "SELL", 8.0, None),
        (5.0, "BUY", -1.0, None),
        (-5.0, "SELL", -2.0, ("BUY", 3.0)),
        (-5.0, "BUY", -2.0, None),
        (0.0, "BUY", 0.0, None),
    ],
)
async def test_only_what_reduces_goes_on_beside_one(
    tmp_path: Path, held: float, unknown: str, wanted: float, sent: tuple[str, float] | None
) -> None:
    broker = LegBroker(sizes={LOW: held})
    async with opened(tmp_path, broker, **RULES) as rig:
        order_id = await lost(rig, unknown, 1)
        if sent is not None:
            order = await target(rig, wanted)
            assert (order.action, order.quantity) == sent
            return
        with pytest.raises(OrdersInTheWayError) as refused:
            await target(rig, wanted)
        assert refused.value.extra["orders"] == [order_id]
        assert "settle" in refused.value.next_step


@pytest.mark.parametrize(
    ("orders", "says", "silent"),
    [
        (["o1"], "let cancelOrders: true cancel", "perm-"),
        (["perm-7"], "perm-7 is not this bridge's", "let cancelOrders"),
        (["o1", "perm-7"], "let cancelOrders: true cancel", "o1 is not"),
    ],
)
def test_the_advice_goes_by_whose_orders_they_are(
    orders: list[str], says: str, silent: str
) -> None:
    error: BridgeError = OrdersInTheWayError(orders, "orders that work go the other way")
    assert says in error.next_step
    assert silent not in error.next_step
    assert error.extra["orders"] == orders
