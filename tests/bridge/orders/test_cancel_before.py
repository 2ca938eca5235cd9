"""Orders that are cancelled for another: only if that may be sent, and never in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.errors import BridgeError
from bridge.model import Order
from bridge.orders.close import CloseRequest, PositionCloser
from bridge.orders.errors import OrderRejectedError, OrdersInTheWayError, TradingHaltedError
from bridge.orders.request import OrderRequest
from bridge.orders.target import TargetPlacer, TargetRequest
from tests.bridge.orders.fake_broker import BookedOrder
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.test_strategies import ACCOUNT, LOW, RULES, LegBroker, bought

STOP: dict[str, Any] = {"order_type": "STP_LMT", "stop_price": 1.0, "limit_price": 0.9}
OFF_TICK: dict[str, Any] = {"order_type": "LMT", "limit_price": 2.00123}


async def stopped(rig: Rig, quantity: float = 5) -> str:
    """A stop of the position, as its id."""
    request = OrderRequest(symbol="AAPL", con_id=LOW, action="SELL", quantity=quantity, **STOP)
    await rig.submitter.place(request, "stop", CALLER)
    return (await rig.order()).order_id


async def target(rig: Rig, quantity: float, **more: Any) -> None:
    request = TargetRequest(
        symbol="AAPL", con_id=LOW, target_quantity=quantity, cancel_orders=True, **more
    )
    await rig.services[TargetPlacer].place(request, "target", CALLER)


async def close(rig: Rig, **fields: Any) -> dict[str, Any]:
    """The problem that closing has."""
    request = CloseRequest(cancel_orders=True, **fields)
    closed = await rig.services[PositionCloser].close(request, "close", CALLER)
    assert closed.positions[0].problem is not None
    return closed.positions[0].problem


async def assert_untouched(rig: Rig, stop: str) -> None:
    assert (await rig.view(stop)).status in {"PreSubmitted", "Submitted"}
    assert not rig.broker.cancelled


@pytest.mark.parametrize(
    ("quantity", "more", "rules", "code"),
    [
        (0, OFF_TICK, {}, "price-off-tick"),
        (5000, {}, {"max_contracts": 10}, "max-contracts"),
        (0, {}, {"read_only": True}, "read-only"),
    ],
)
async def test_a_target_that_is_refused_cancels_nothing(
    tmp_path: Path, quantity: float, more: dict[str, Any], rules: dict[str, Any], code: str
) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        changed(rig, **rules)
        with pytest.raises(BridgeError) as refused:
            await target(rig, quantity, **more)
        assert code in [each["code"] for each in refused.value.extra["violations"]]
        await assert_untouched(rig, stop)
        assert "cancelled" not in refused.value.extra


async def test_closing_that_is_refused_cancels_nothing(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        problem = await close(rig, con_id=LOW, **OFF_TICK)
        assert problem["violations"][0]["code"] == "price-off-tick"
        await assert_untouched(rig, stop)


async def test_closing_a_strategy_that_is_refused_cancels_nothing(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 5)
        stop = await stopped(rig)
        changed(rig, read_only=True)
        problem = await close(rig, strategy=strategy)
        assert problem["violations"][0]["code"] == "read-only"
        await assert_untouched(rig, stop)
        changed(rig, read_only=False)
        closed = CloseRequest(cancel_orders=True, strategy=strategy)
        assert (await rig.services[PositionCloser].close(closed, "again", CALLER)).complete
        assert (await rig.view(stop)).status == "Cancelled"


async def test_while_halted_nothing_is_cancelled_for_what_opens(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        await rig.halt.halt("lunch", "none", CALLER, allow_closing=True)
        with pytest.raises(TradingHaltedError):
            await target(rig, 8)
        await assert_untouched(rig, stop)
        await target(rig, 0)
        assert (await rig.view(stop)).status == "Cancelled"


async def test_nothing_is_cancelled_where_orders_of_others_are_in_the_way(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        foreign = Order(
            action="BUY", quantity=2, perm_id=77, client_id=99, account=ACCOUNT, order_ref="theirs"
        )
        broker.book[500] = BookedOrder(foreign, broker.contract(LOW))
        with pytest.raises(OrdersInTheWayError):
            await target(rig, 0)
        await assert_untouched(rig, stop)


async def test_a_failure_after_cancels_names_them(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        broker.reject = (201, "no")
        with pytest.raises(OrderRejectedError) as refused:
            await target(rig, 0)
        assert refused.value.extra["cancelled"] == [stop]
        assert stop in refused.value.next_step
        assert (await rig.view(stop)).status == "Cancelled"


def changed(rig: Rig, **rules: Any) -> None:
    preparer = rig.submitter.preparer
    preparer.rules = structs.replace(preparer.rules, **rules)
