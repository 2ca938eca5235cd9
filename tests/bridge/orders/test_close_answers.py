"""What closing answers: complete only when it is, true advice, and nothing but what is named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.model import Position
from bridge.orders.errors import NoPositionError, TooManyOrdersError
from bridge.side_by_side import AT_ONCE
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, opened
from tests.bridge.orders.samples import AAPL
from tests.bridge.orders.test_strategies import HIGH, LOW, RULES, LegBroker, bought, close
from tests.bridge.rig import eventually


async def test_an_order_that_ended_at_once_closes_nothing(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        broker.reject = (202, "cancelled by the exchange")
        for _ in range(2):
            closed = await close(rig, con_id=LOW)
            (position,) = closed.positions
            assert not closed.complete
            assert position.problem is not None
            assert position.problem["code"] == "order-ended"
            assert "0 of 5 filled" in position.problem["detail"]
            assert "new Idempotency-Key" in position.problem["nextStep"]
            assert position.order["status"] == position.problem["order"]["status"] == "Cancelled"
        assert len(broker.placed) == 1
        broker.reject = None
        assert (await close(rig, "new", con_id=LOW)).complete


async def test_an_order_that_has_ended_since_is_told_under_its_key(tmp_path: Path) -> None:
    """Another position keeps the whole from being complete, and the first order ends meanwhile."""
    broker = LegBroker(sizes={LOW: 5, HIGH: -5})
    async with opened(tmp_path, broker, **RULES) as rig:
        stop: dict[str, Any] = {"order_type": "STP_LMT", "stop_price": 9.0, "limit_price": 9.5}
        await rig.place("stop", con_id=HIGH, action="BUY", quantity=5, **stop)
        first = await close(rig, symbol="AAPL")
        assert [each.problem is None for each in first.positions] == [True, False]
        await rig.canceller.cancel(first.positions[0].order["orderId"], CALLER)
        again = await close(rig, symbol="AAPL")
        assert [each.problem["code"] for each in again.positions if each.problem] == [
            "order-ended",
            "orders-in-the-way",
        ]
        assert again.positions[0].order["status"] == "Cancelled"


@pytest.mark.parametrize("by", ["conId", "strategy"])
async def test_beside_the_order_for_the_whole_shares_nothing_more_is_sent(
    tmp_path: Path, by: str
) -> None:
    broker = FakeBroker()
    broker.held = (Position(account="DU1234567", contract=AAPL, quantity=10.4, average_cost=100.0),)
    named: dict[str, Any] = {"con_id": AAPL.con_id}
    if by == "strategy":
        named = {"strategy": f"DU1234567/{AAPL.con_id}:+1"}
    async with opened(tmp_path, broker, **RULES) as rig:
        assert (await close(rig, **named)).complete
        again = await close(rig, "another key", **named)
        assert (again.complete, again.positions[0].order) == (True, None)
        assert [booked.order.quantity for booked in broker.book.values()] == [10.0]


async def test_one_that_fills_is_complete(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5}, fill_at_once=True)
    async with opened(tmp_path, broker, **RULES) as rig:
        closed = await close(rig, con_id=LOW)
        assert (closed.complete, closed.positions[0].problem) == (True, None)


async def test_a_rejection_says_that_its_key_is_used_up(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        broker.reject = (201, "margin")
        for _ in range(2):
            problem = (await close(rig, con_id=LOW)).positions[0].problem
            broker.reject = None
            assert problem is not None
            assert problem["code"] == "order-rejected"
            assert "new Idempotency-Key" in problem["nextStep"]
        assert len(broker.placed) == 1
        assert (await close(rig, "new", con_id=LOW)).complete


@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        (True, {"symbol": "MSFT"}),
        (True, {"con_id": 999}),
        (False, {"symbol": "MSFT", "con_id": LOW}),
        (False, {"symbol": "AAPL", "con_id": 999}),
    ],
)
async def test_what_is_said_twice_has_to_fit_twice(
    tmp_path: Path, strategy: bool, fields: dict[str, Any]
) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        name = await bought(rig, broker, 5)
        before = len(broker.placed)
        chosen: dict[str, Any] = {"strategy": name} if strategy else {}
        with pytest.raises(NoPositionError):
            await close(rig, **chosen, **fields)
        assert len(broker.placed) == before
        closed = await close(rig, "fits", **chosen, symbol="aapl", con_id=LOW)
        assert [each.con_id for each in closed.positions] == [0 if strategy else LOW]
        assert closed.complete


async def test_no_order_waits_for_the_answer_to_another(tmp_path: Path) -> None:
    """Whoever closes all when the market falls does not close one in ten seconds."""
    broker = LegBroker(sizes={LOW: 5, HIGH: -5}, quiet=True)
    async with opened(tmp_path, broker, **RULES) as rig:
        rig.answers_within(60)
        closing = asyncio.create_task(close(rig, all=True))
        await eventually(lambda: len(broker.placed) == 2)
        for number in broker.placed:
            broker.answer(number)
        assert (await closing).complete


@pytest.mark.parametrize(("tries", "complete"), [(AT_ONCE - 1, True), (AT_ONCE, False)])
async def test_what_waited_too_long_behind_the_others_goes_out_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int, complete: bool
) -> None:
    """With a slow broker each of those beside it has the sender's turn for seconds."""
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        commit, waited = rig.submitter.sender.commit, iter(range(tries))

        async def busy(submission: Any) -> Any:
            for _ in waited:
                raise TooManyOrdersError("too many orders wait for their turn")
            return await commit(submission)

        monkeypatch.setattr(rig.submitter.sender, "commit", busy)
        closed = await close(rig, all=True)
        assert closed.complete is complete
        assert len(broker.placed) == int(complete)
