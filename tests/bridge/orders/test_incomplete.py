"""Brackets and groups of which the broker takes a part: nothing that has traded is laid bare."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BridgeError
from bridge.model import Order
from bridge.orders.errors import GroupIncompleteError, KeyReusedError, OrderRejectedError
from bridge.orders.halt import HaltSwitch
from bridge.orders.request import Bracket, OcaRequest, OrderRequest, StopLoss, TakeProfit
from bridge.store.orders import Status
from bridge.tws.errors import OrderRefusedError
from tests.bridge.orders.fake_broker import FakeBroker, lost
from tests.bridge.orders.order_rig import CALLER, Rig, opened, request

ENTRY, PROFIT, LOSS = 1, 2, 3


def refuse(broker: FakeBroker, number: int) -> None:
    broker.book[number].status = "Inactive"
    error = OrderRefusedError("no", broker_code=201, broker_text="no")
    broker.events.order_error.emit(number, error)


def says(broker: FakeBroker, count: int, say: Callable[[], None]) -> None:
    """Lets the broker speak when it has so many orders."""
    broker.quiet = True

    def placed(_: Any) -> None:
        if len(broker.book) == count:
            broker.on_place = None
            broker.quiet = False
            asyncio.get_running_loop().call_soon(say)

    broker.on_place = placed


def bracket(**changes: Any) -> OrderRequest:
    exits = Bracket(take_profit=TakeProfit(limit_price=110.0), stop_loss=StopLoss(stop_price=90.0))
    return request(bracket=exits, **changes)


def pair(*prices: float) -> OcaRequest:
    return OcaRequest(orders=tuple(request(limit_price=each) for each in prices))


async def incomplete(rig: Rig, wanted: OrderRequest | OcaRequest) -> GroupIncompleteError:
    submitter = rig.submitter
    place: Any = submitter.place_group if isinstance(wanted, OcaRequest) else submitter.place
    with pytest.raises(GroupIncompleteError) as raised:
        await place(wanted, "key", CALLER)
    return raised.value


def statuses(error: BridgeError) -> list[str]:
    return [each["status"] for each in error.extra["order"]["orders"]]


async def test_the_stop_of_a_filled_entry_outlives_a_refused_take_profit(tmp_path: Path) -> None:
    broker = FakeBroker()

    def say() -> None:
        broker.say(LOSS)
        broker.fill(ENTRY)
        refuse(broker, PROFIT)

    says(broker, 3, say)
    async with opened(tmp_path, broker) as rig:
        wanted = bracket(order_type="MKT", limit_price=None)
        for _ in range(2):
            error = await incomplete(rig, wanted)
            told = error.extra["order"]
            assert (told["status"], told["filled"]) == (Status.FILLED, 10.0)
            assert [each["status"] for each in told["legs"]] == [Status.REJECTED, Status.SUBMITTED]
            assert "A part has traded" in error.next_step
            assert (error.extra["brokerCode"], error.extra["brokerText"]) == (201, "no")
        assert broker.cancelled == []
        assert len(broker.placed) == 3


async def test_the_stop_of_an_entry_that_fills_instead_of_being_cancelled_stays(
    tmp_path: Path,
) -> None:
    broker = FakeBroker(hold_cancel=asyncio.Event())

    def say() -> None:
        broker.say(ENTRY)
        broker.say(LOSS)
        refuse(broker, PROFIT)

    says(broker, 3, say)
    async with opened(tmp_path, broker) as rig:
        asked = asyncio.create_task(incomplete(rig, bracket()))
        await asyncio.sleep(0.05)
        broker.fill(ENTRY)
        assert broker.hold_cancel is not None
        broker.hold_cancel.set()
        assert (await asked).extra["order"]["filled"] == 10.0
        assert broker.cancelled == [ENTRY]


async def test_an_entry_that_is_cancelled_unfilled_takes_all_along(tmp_path: Path) -> None:
    broker = FakeBroker()

    def say() -> None:
        broker.say(ENTRY)
        broker.say(PROFIT)
        refuse(broker, LOSS)

    says(broker, 3, say)
    async with opened(tmp_path, broker) as rig:
        for _ in range(2):
            with pytest.raises(OrderRejectedError) as raised:
                await rig.submitter.place(bracket(), "key", CALLER)
            told = raised.value.extra["order"]
            assert told["status"] == Status.CANCELLED
            assert [each["status"] for each in told["legs"]] == [Status.CANCELLED, Status.REJECTED]
        assert broker.cancelled == [ENTRY, PROFIT]


async def test_a_cancel_that_could_not_be_sent_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker()

    def say() -> None:
        broker.say(1)
        refuse(broker, 2)

    async def unsent(_: int) -> None:
        raise lost()

    says(broker, 2, say)
    async with opened(tmp_path, broker) as rig:
        monkeypatch.setattr(broker, "cancel_order", unsent)
        error = await incomplete(rig, pair(99.0, 98.0))
        (works, refused) = error.extra["order"]["orders"]
        assert (works["status"], refused["status"]) == (Status.SUBMITTED, Status.REJECTED)
        assert error.extra["cancelFailed"] == [works["orderId"]]
        assert works["orderId"] in error.next_step


async def test_a_group_that_has_traded_is_no_rejection(tmp_path: Path) -> None:
    broker = FakeBroker()

    def say() -> None:
        broker.fill(2)
        refuse(broker, 1)

    says(broker, 2, say)
    async with opened(tmp_path, broker) as rig:
        error = await incomplete(rig, pair(99.0, 100.2))
        assert [each["filled"] for each in error.extra["order"]["orders"]] == [0.0, 10.0]


async def test_a_group_that_was_refused_in_part_is_cancelled(tmp_path: Path) -> None:
    broker = FakeBroker()

    def say() -> None:
        broker.say(2)
        refuse(broker, 1)

    says(broker, 2, say)
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(OrderRejectedError) as raised:
            await rig.submitter.place_group(pair(99.0, 98.0), "key", CALLER)
        assert statuses(raised.value) == [Status.REJECTED, Status.CANCELLED]


@pytest.mark.parametrize("halted", [True, False])
@pytest.mark.parametrize("filled", [True, False])
async def test_a_group_that_was_sent_in_part_says_what_became_of_it(
    tmp_path: Path, halted: bool, filled: bool
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:

        def placed(order: Order) -> None:
            broker.on_place = None
            if filled:
                broker.fill(order.order_id)
            if halted:
                rig.services[HaltSwitch].turn_on("host", "enough", "none")
            else:
                broker.refuse_order = lost()

        broker.on_place = placed
        group = pair(100.2, 99.0)
        first = await incomplete(rig, group)
        assert ("halted" if halted else "lost") in first.detail
        stand = [Status.FILLED if filled else Status.CANCELLED, Status.NOT_SENT]
        assert statuses(first) == stand
        assert ("A part has traded" in first.next_step) is filled
        await rig.services[HaltSwitch].turn_off()
        broker.refuse_order = None
        again = await incomplete(rig, group)
        assert statuses(again) == stand
        with pytest.raises(KeyReusedError):
            await rig.submitter.place_group(pair(100.2, 98.0), "key", CALLER)
        assert len(broker.placed) == 1
