"""Orders that are cancelled for another: only if that may be sent, and never in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.errors import BridgeError
from bridge.model import Order
from bridge.orders.close import CloseRequest, PositionCloser
from bridge.orders.errors import (
    OrderPendingError,
    OrderRejectedError,
    OrdersInTheWayError,
    TradingHaltedError,
)
from bridge.orders.request import Bracket, OrderRequest, StopLoss
from bridge.orders.submit import Placed, TargetReached
from bridge.orders.target import TargetPlacer, TargetRequest
from bridge.orders.views import OrderView, TargetOrder
from tests.bridge.orders.fake_broker import BookedOrder
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.test_strategies import ACCOUNT, LOW, RULES, LegBroker, bought

STOP: dict[str, Any] = {"order_type": "STP_LMT", "stop_price": 1.0, "limit_price": 0.9}
OFF_TICK: dict[str, Any] = {"order_type": "LMT", "limit_price": 2.00123}


async def stopped(rig: Rig, quantity: float = 5, key: str = "stop") -> str:
    """A stop of the position, as its id."""
    request = OrderRequest(symbol="AAPL", con_id=LOW, action="SELL", quantity=quantity, **STOP)
    await rig.submitter.place(request, key, CALLER)
    return (await rig.order()).order_id


async def target(rig: Rig, quantity: float, key: str = "target", **more: Any) -> Placed:
    request = TargetRequest(
        symbol="AAPL", con_id=LOW, target_quantity=quantity, cancel_orders=True, **more
    )
    return await rig.services[TargetPlacer].place(request, key, CALLER)


async def working(rig: Rig, quantity: float) -> str:
    """An order of the position that fills by itself, as its id."""
    terms: dict[str, Any] = {"action": "BUY", "order_type": "LMT", "limit_price": 1.0}
    order = OrderRequest(symbol="AAPL", con_id=LOW, quantity=quantity, **terms)
    await rig.submitter.place(order, f"works-{len(rig.broker.wire)}", CALLER)
    return (await rig.order()).order_id


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


@pytest.mark.parametrize("key", ["target", "other"])
async def test_a_failure_names_them_again_under_its_key(tmp_path: Path, key: str) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        broker.reject = (201, "no")
        with pytest.raises(OrderRejectedError) as first:
            await target(rig, 0)
        with pytest.raises(OrderRejectedError) as second:
            await target(rig, 0, key)
        assert first.value.extra["cancelled"] == [stop]
        same = (second.value.extra.get("cancelled"), second.value.next_step, second.value.detail)
        assert (same == ([stop], first.value.next_step, first.value.detail)) is (key == "target")


async def test_where_nothing_is_missing_a_stop_stays(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        changed(rig, read_only=True)
        answer = (await target(rig, 5)).answer
        assert isinstance(answer, TargetReached)
        assert answer.cancelled == ()
        await assert_untouched(rig, stop)


async def test_a_stop_that_is_not_in_the_way_stays(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop, bought = await stopped(rig), await working(rig, 2)
        order = (await target(rig, 8, order_type="LMT", limit_price=3.0)).answer
        assert isinstance(order, TargetOrder)
        assert (order.action, order.quantity, order.cancelled) == ("BUY", 3, (bought,))
        assert (await rig.view(stop)).status in {"PreSubmitted", "Submitted"}


async def test_what_leads_away_from_the_size_is_cancelled_alone(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop, bought = await stopped(rig), await working(rig, 2)
        for _ in range(2):
            answer = (await target(rig, 5)).answer
            assert isinstance(answer, TargetReached)
            assert answer.cancelled == (bought,)
        assert (await rig.view(stop)).status in {"PreSubmitted", "Submitted"}


@pytest.mark.parametrize("filled", [0, 2])
async def test_exits_go_with_an_entry_that_has_filled_nothing(tmp_path: Path, filled: int) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        loss = StopLoss(stop_price=1.0, limit_price=0.9)
        terms: dict[str, Any] = {"action": "BUY", "order_type": "LMT", "limit_price": 2.0}
        order = OrderRequest(
            symbol="AAPL", con_id=LOW, quantity=4, bracket=Bracket(stop_loss=loss), **terms
        )
        entry, stop = broker.next_id, broker.next_id + 1
        await rig.submitter.place(order, "bracket", CALLER)
        if filled:
            broker.fill_part(entry, filled)
            await rig.journal.flush()
        answer = (await target(rig, 5 + filled)).answer
        assert isinstance(answer, TargetReached)
        assert broker.cancelled == ([entry] if filled else [entry, stop])
        assert len(answer.cancelled) == len(broker.cancelled)


async def test_every_answer_names_what_was_cancelled(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        for replayed in (False, True):
            placed = await target(rig, 0)
            assert isinstance(placed.answer, TargetOrder)
            assert (placed.answer.cancelled, placed.replayed) == ((stop,), replayed)


async def test_an_answer_that_comes_late_names_what_was_cancelled(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        rig.answers_within(0.1)
        broker.on_place = lambda _: setattr(broker, "quiet", True)
        with pytest.raises(OrderPendingError) as pending:
            await target(rig, 0)
        assert pending.value.extra["cancelled"] == [stop]
        rig.answers_within(20)
        broker.say(broker.placed[-1])
        answer = (await target(rig, 0)).answer
        assert isinstance(answer, TargetOrder)
        assert answer.cancelled == (stop,)


async def test_closing_names_what_was_cancelled(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop = await stopped(rig)
        broker.reject = (201, "no")
        for _ in range(2):
            problem = await close(rig, con_id=LOW)
            assert problem["cancelled"] == [stop]
            assert stop in problem["nextStep"]
        broker.reject = None
        await stopped(rig, key="another")
        request = CloseRequest(cancel_orders=True, con_id=LOW)
        closed = await rig.services[PositionCloser].close(request, "again", CALLER)
        (position,) = closed.positions
        assert position.cancelled == tuple(position.order["cancelled"])
        assert len(position.cancelled) == 1


@pytest.mark.parametrize("strategy", [True, False])
async def test_two_requests_with_one_key_place_one_order(tmp_path: Path, strategy: bool) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        name = await bought(rig, broker, 5)
        stop = await stopped(rig)
        named: dict[str, Any] = {"strategy": name} if strategy else {"con_id": LOW}
        limit: dict[str, Any] = {"order_type": "LMT", "limit_price": 2.0 if strategy else 3.0}
        request = CloseRequest(cancel_orders=True, **named, **limit)
        place = rig.services[PositionCloser].close
        both = await asyncio.gather(*(place(request, "same", CALLER) for _ in range(2)))
        orders = [each.positions[0].order for each in both]
        assert orders[0]["orderId"] == orders[1]["orderId"]
        assert (await rig.view(orders[0]["orderId"])).status == "Submitted"
        assert (await rig.view(stop)).status == "Cancelled"


async def test_an_order_of_the_same_key_is_never_cancelled(tmp_path: Path) -> None:
    """Its sender may have been cut off, and it goes on its way all the same."""
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        first = (await target(rig, 0, order_type="LMT", limit_price=3.0)).answer
        assert isinstance(first, OrderView)
        key = next(iter(rig.journal.open.values())).key_digest
        before = rig.services[TargetPlacer].cancel_before
        assert before._own([(ACCOUNT, LOW)], key) == []
        assert [each.id for each in before._own([(ACCOUNT, LOW)], "")] == [first.order_id]


def changed(rig: Rig, **rules: Any) -> None:
    preparer = rig.submitter.preparer
    preparer.rules = structs.replace(preparer.rules, **rules)
