"""Cancels that meet an order, or a change of it, that still waits for its slot on the wire."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from bridge.orders.errors import OrderNotOpenError
from bridge.orders.request import Bracket, ChangeRequest, StopLoss, TakeProfit
from tests.bridge.orders.fake_broker import BookedOrder, FakeBroker
from tests.bridge.orders.orderroom import CALLER, Room, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.orders.views import OrderView

BRACKET = Bracket(take_profit=TakeProfit(limit_price=110), stop_loss=StopLoss(stop_price=90))


@asynccontextmanager
async def waiting(
    folder: Path, broker: FakeBroker, **changes: object
) -> AsyncIterator[tuple[Room, asyncio.Task[OrderView]]]:
    """An order that is written down and does not find its slot until `hold` is set."""
    broker.hold = asyncio.Event()
    async with opened(folder, broker) as room:
        placing = asyncio.create_task(room.place("key-1", **changes))
        while not room.journal.open:
            await asyncio.sleep(0.01)
        yield room, placing


async def test_an_order_that_waits_for_its_slot_is_not_sent_any_more(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with waiting(tmp_path, broker) as (room, placing):
        (order_id,) = room.journal.open
        cancelled = await asyncio.wait_for(room.canceller.cancel(order_id, CALLER), 1)
        assert (cancelled.status, cancelled.journaled) == ("Cancelled", True)
        assert broker.hold is not None
        broker.hold.set()
        placed = await placing
        assert (placed.order_id, placed.status) == (order_id, "Cancelled")
        assert "never got it" in (placed.warning or "")
        again = await room.place("key-1")
        assert (again.order_id, again.status) == (order_id, "Cancelled")
        assert broker.wire == []


async def test_it_stays_cancelled_when_its_slot_never_comes(tmp_path: Path) -> None:
    """The connection fails instead: the key is not free for the same order again."""
    broker = FakeBroker()
    async with waiting(tmp_path, broker) as (room, placing):
        (order_id,) = room.journal.open
        await room.canceller.cancel(order_id, CALLER)
        broker.refuse_order = OSError("gone")
        assert broker.hold is not None
        broker.hold.set()
        assert (await placing).status == "Cancelled"
        broker.refuse_order = None
        assert (await room.place("key-1")).order_id == order_id
        assert broker.wire == []


async def test_the_legs_of_an_entry_that_is_not_sent_are_not_sent_either(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with waiting(tmp_path, broker, bracket=BRACKET) as (room, placing):
        entry = next(each for each in room.journal.open.values() if each.role == "entry")
        await room.canceller.cancel(entry.id, CALLER)
        assert broker.hold is not None
        broker.hold.set()
        placed = await placing
        assert {each.status for each in (placed, *placed.legs)} == {"Cancelled"}
        assert broker.wire == []


async def test_a_leg_that_waits_is_sent_and_then_cancelled(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with waiting(tmp_path, broker, bracket=BRACKET) as (room, placing):
        gain = next(each for each in room.journal.open.values() if each.role == "take-profit")
        cancelling = asyncio.create_task(room.canceller.cancel(gain.id, CALLER))
        await asyncio.sleep(0.05)
        assert broker.wire == []
        assert broker.hold is not None
        broker.hold.set()
        assert (await cancelling).status == "Cancelled"
        await placing
        kinds = [kind for kind, number in broker.wire if number == gain.broker_order_id]
        assert kinds == ["place", "cancel"]


async def test_cancelling_everything_reaches_what_waits_too(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with waiting(tmp_path, broker) as (room, placing):
        (order_id,) = room.journal.open
        result = await asyncio.wait_for(room.canceller.cancel_open("own"), 1)
        assert result.requested == (order_id,)
        assert broker.hold is not None
        broker.hold.set()
        assert (await placing).status == "Cancelled"
        assert broker.wire == []


async def test_no_change_comes_behind_a_cancel_that_has_overtaken_it(tmp_path: Path) -> None:
    """A gateway could take it for a new order under an old number."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as room:
        order = await room.place()
        broker.hold = asyncio.Event()
        change = ChangeRequest(limit_price=99.0)
        changing = asyncio.create_task(room.modifier.modify(order.order_id, change, CALLER))
        while room.journal.open[order.order_id].pending is None:
            await asyncio.sleep(0.01)
        assert (await room.canceller.cancel(order.order_id, CALLER)).status == "Cancelled"
        broker.hold.set()
        with pytest.raises(OrderNotOpenError):
            await changing
        assert [kind for kind, _ in broker.wire] == ["place", "cancel"]


async def _many(room: Room) -> list[OrderView]:
    return [await room.place(f"key-{number}") for number in range(12)]


async def test_a_halt_cancels_many_orders_with_one_message(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as room:
        orders = await _many(room)
        halted = await room.halt.halt("", "opening", CALLER)
        assert halted.cancelled is not None
        assert set(halted.cancelled.requested) == {each.order_id for each in orders}
        assert [kind for kind, _ in broker.wire if kind != "place"] == ["cancel-all"]


async def test_but_not_when_it_would_reach_an_order_of_somebody_else(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as room:
        orders = await _many(room)
        ours = broker.book[orders[0].broker_order_id]
        broker.book[77] = BookedOrder(structs.replace(ours.order, order_ref="mine"), ours.contract)
        halted = await room.halt.halt("", "opening", CALLER)
        assert halted.cancelled is not None
        assert len(halted.cancelled.requested) == 12
        assert [kind for kind, _ in broker.wire if kind != "place"] == ["cancel"] * 12
        assert broker.book[77].status == "Submitted"


async def test_a_halt_does_not_wait_for_cancels_that_the_pace_holds_back(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as room:
        orders = [await room.place(f"key-{number}") for number in range(3)]
        broker.hold_cancel = asyncio.Event()
        begun = time.monotonic()
        halted = await room.halt.halt("", "own", CALLER)
        assert time.monotonic() - begun < 0.6
        assert halted.cancelled is not None
        assert set(halted.cancelled.queued) == {each.order_id for each in orders}
        broker.hold_cancel.set()
        for each in orders:
            while (await room.view(each.order_id)).status != "Cancelled":
                await asyncio.sleep(0.01)
