"""Cancels that meet an order, or a change of it, that still waits for its slot on the wire."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from bridge.errors import BridgeError
from bridge.model import OpenOrder
from bridge.orders import cancel
from bridge.orders.errors import (
    ChangeRejectedError,
    OrderFateUnknownError,
    OrderNotOpenError,
    OrderPendingError,
)
from bridge.orders.request import Bracket, ChangeRequest, StopLoss, TakeProfit
from bridge.store.orders import PendingChange, State, Status
from bridge.tws.errors import NotConnectedError
from tests.bridge.orders.fake_broker import BookedOrder, FakeBroker
from tests.bridge.orders.order_rig import BROKER_WAITS, CALLER, Rig, opened
from tests.bridge.orders.samples import NOON, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.orders.views import OrderView

BRACKET = Bracket(take_profit=TakeProfit(limit_price=110), stop_loss=StopLoss(stop_price=90))


@asynccontextmanager
async def waiting(
    folder: Path, broker: FakeBroker, **changes: object
) -> AsyncIterator[tuple[Rig, asyncio.Task[OrderView]]]:
    """An order that is written down and does not find its slot until `hold` is set."""
    broker.hold = asyncio.Event()
    async with opened(folder, broker) as rig:
        placing = asyncio.create_task(rig.place("key-1", **changes))
        while not rig.journal.open:
            await asyncio.sleep(0.01)
        yield rig, placing


async def test_an_order_that_waits_for_its_slot_is_not_sent_any_more(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with waiting(tmp_path, broker) as (rig, placing):
        (order_id,) = rig.journal.open
        cancelled = await asyncio.wait_for(rig.canceller.cancel(order_id, CALLER), 20)
        assert (cancelled.status, cancelled.journaled) == ("Cancelled", True)
        assert broker.hold is not None
        broker.hold.set()
        placed = await placing
        assert (placed.order_id, placed.status) == (order_id, "Cancelled")
        assert "never got it" in (placed.warning or "")
        again = await rig.place("key-1")
        assert (again.order_id, again.status) == (order_id, "Cancelled")
        assert broker.wire == []


async def test_it_stays_cancelled_when_its_slot_never_comes(tmp_path: Path) -> None:
    """The connection fails instead: the key is not free for the same order again."""
    broker = FakeBroker()
    async with waiting(tmp_path, broker) as (rig, placing):
        (order_id,) = rig.journal.open
        await rig.canceller.cancel(order_id, CALLER)
        broker.refuse_order = OSError("gone")
        assert broker.hold is not None
        broker.hold.set()
        assert (await placing).status == "Cancelled"
        broker.refuse_order = None
        assert (await rig.place("key-1")).order_id == order_id
        assert broker.wire == []


async def test_the_legs_of_an_entry_that_is_not_sent_are_not_sent_either(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with waiting(tmp_path, broker, bracket=BRACKET) as (rig, placing):
        entry = next(each for each in rig.journal.open.values() if each.role == "entry")
        await rig.canceller.cancel(entry.id, CALLER)
        assert broker.hold is not None
        broker.hold.set()
        placed = await placing
        assert {each.status for each in (placed, *placed.legs)} == {"Cancelled"}
        assert broker.wire == []


async def test_a_leg_that_waits_is_sent_and_then_cancelled(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with waiting(tmp_path, broker, bracket=BRACKET) as (rig, placing):
        gain = next(each for each in rig.journal.open.values() if each.role == "take-profit")
        cancelling = asyncio.create_task(rig.canceller.cancel(gain.id, CALLER))
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
    async with waiting(tmp_path, broker) as (rig, placing):
        (order_id,) = rig.journal.open
        result = await asyncio.wait_for(rig.canceller.cancel_open("own"), 20)
        assert result.requested == (order_id,)
        assert broker.hold is not None
        broker.hold.set()
        assert (await placing).status == "Cancelled"
        assert broker.wire == []


async def test_no_change_comes_behind_a_cancel_that_has_overtaken_it(tmp_path: Path) -> None:
    """A gateway could take it for a new order under an old number."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        broker.hold = asyncio.Event()
        change = ChangeRequest(limit_price=99.0)
        changing = asyncio.create_task(rig.modifier.modify(order.order_id, change, CALLER))
        while rig.journal.open[order.order_id].pending is None:
            await asyncio.sleep(0.01)
        assert (await rig.canceller.cancel(order.order_id, CALLER)).status == "Cancelled"
        broker.hold.set()
        with pytest.raises(OrderNotOpenError):
            await changing
        assert [kind for kind, _ in broker.wire] == ["place", "cancel"]


async def _many(rig: Rig) -> list[OrderView]:
    return [await rig.place(f"key-{number}") for number in range(12)]


async def test_a_halt_cancels_many_orders_with_one_message(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        orders = await _many(rig)
        halted = await rig.halt.halt("", "opening", CALLER)
        assert halted.cancelled is not None
        assert set(halted.cancelled.requested) == {each.order_id for each in orders}
        assert [kind for kind, _ in broker.wire if kind != "place"] == ["cancel-all"]


async def test_but_not_when_it_would_reach_an_order_of_somebody_else(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        orders = await _many(rig)
        ours = broker.book[orders[0].broker_order_id]
        broker.book[77] = BookedOrder(structs.replace(ours.order, order_ref="mine"), ours.contract)
        halted = await rig.halt.halt("", "opening", CALLER)
        assert halted.cancelled is not None
        assert len(halted.cancelled.requested) == 12
        assert [kind for kind, _ in broker.wire if kind != "place"] == ["cancel"] * 12
        assert broker.book[77].status == "Submitted"


async def test_a_halt_does_not_wait_for_cancels_that_the_pace_holds_back(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, hurried=BROKER_WAITS) as rig:
        orders = [await rig.place(f"key-{number}") for number in range(3)]
        broker.hold_cancel = asyncio.Event()
        begun = time.monotonic()
        halted = await rig.halt.halt("", "own", CALLER)
        assert time.monotonic() - begun < 10  # 0.3, and what a busy machine takes
        assert halted.cancelled is not None
        assert set(halted.cancelled.queued) == {each.order_id for each in orders}
        broker.hold_cancel.set()
        for each in orders:
            while (await rig.view(each.order_id)).status != "Cancelled":
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("lists", ["not at all", "an error"])
async def test_nor_when_the_broker_does_not_say_whose_orders_there_are(
    tmp_path: Path, lists: str
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, hurried=BROKER_WAITS) as rig:
        await _many(rig)

        async def listed(**_: object) -> tuple[OpenOrder, ...]:
            if lists == "an error":
                raise NotConnectedError("gone")
            await asyncio.Event().wait()
            return ()

        broker.all_open_orders = listed  # type: ignore[method-assign]
        halted = await rig.halt.halt("", "own", CALLER)
        assert halted.cancelled is not None
        async with asyncio.timeout(20):
            while len(broker.cancelled) < 12:
                await asyncio.sleep(0.01)
        assert ("cancel-all", 0) not in broker.wire


@pytest.mark.parametrize(("count", "kinds"), [(10, ["cancel"] * 10), (11, ["cancel-all"])])
async def test_from_so_many_on_one_message_is_quicker(
    tmp_path: Path, count: int, kinds: list[str]
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        for number in range(count):
            await rig.place(f"key-{number}")
        result = await rig.canceller.cancel_open("own")
        assert (len(result.requested), result.failed, result.queued) == (count, (), ())
        assert [kind for kind, _ in broker.wire if kind != "place"] == kinds


async def test_one_message_that_could_not_be_sent_is_followed_by_one_for_each(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()

    async def fails() -> None:
        raise NotConnectedError("gone")

    async with opened(tmp_path, broker) as rig:
        orders = await _many(rig)
        broker.cancel_all_orders = fails  # type: ignore[method-assign]
        result = await rig.canceller.cancel_open("own")
        assert set(result.requested) == {each.order_id for each in orders}
        assert len(broker.cancelled) == 12
        assert (await rig.canceller.cancel_open("all")).failed == ("other clients",)
        assert (await rig.canceller.cancel_open("none")).requested == ()


PENDING = PendingChange(at=NOON)
TERMINAL = {"state": State.TERMINAL, "status": Status.FILLED}
UNKNOWN = {"state": State.UNKNOWN, "status": Status.UNKNOWN}
WORKING = {"state": State.ACKNOWLEDGED, "status": Status.SUBMITTED}


@pytest.mark.parametrize(
    ("fields", "waits", "answered"),
    [
        (WORKING, False, True),
        (WORKING | {"pending": PENDING}, True, False),
        (UNKNOWN, False, False),
        (UNKNOWN | {"pending": PENDING}, True, False),
        (TERMINAL, False, True),
        (TERMINAL | {"pending": PENDING}, False, True),
    ],
)
def test_when_a_cancel_is_answered(fields: dict[str, Any], waits: bool, answered: bool) -> None:
    assert cancel._waits(record(**fields)) is waits
    assert cancel._answered(record(**fields)) is answered


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        (TERMINAL, OrderNotOpenError, "is Filled already"),
        (UNKNOWN, OrderFateUnknownError, "still unknown"),
        (UNKNOWN | {"pending": PENDING}, OrderFateUnknownError, "still unknown"),
        (WORKING | {"pending": PENDING}, OrderPendingError, "not answered in time"),
        (WORKING, ChangeRejectedError, "no reason given"),
        (WORKING | {"warning": "too late"}, ChangeRejectedError, "cancel: too late"),
    ],
)
def test_what_is_told_of_a_cancel_that_did_not_end_the_order(
    fields: dict[str, Any], error: type[BridgeError], said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        cancel._cancelled(record(**fields), journaled=True)
    assert raised.value.extra["order"]["orderId"] == "o7"


@pytest.mark.parametrize("journaled", [True, False])
def test_a_cancelled_order_is_shown_with_what_the_journal_holds(journaled: bool) -> None:
    ended = record(state=State.TERMINAL, status=Status.CANCELLED)
    assert cancel._cancelled(ended, journaled=journaled).journaled is journaled
