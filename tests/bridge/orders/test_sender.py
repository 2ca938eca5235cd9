"""Orders on their way to the wire: written down together, sent one behind the other."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bridge.model import Contract, Position
from bridge.orders import sender
from bridge.orders.errors import (
    OrderRefusedByRulesError,
    PositionsMovingError,
    TooManyOrdersError,
)
from bridge.orders.request import ChangeRequest
from bridge.orders.views import OrderView
from bridge.store import orders
from bridge.store.orders import Status
from bridge.tws.errors import ConnectionLostError
from tests.bridge.orders.fake_broker import FakeBroker, lost, option
from tests.bridge.orders.order_rig import CALLER, Rig, opened, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANY = sender.MOST_UNDER_WAY


class SlowDisk:
    """Durable transactions wait until they are let go; how many writes each of them had."""

    def __init__(self, rig: Rig) -> None:
        self._go = threading.Event()
        self._real = rig.database._transact
        self.durable: list[int] = []
        self.held = 0
        """How many writes the first of them has: those that came before the disk began."""

    def transact(self, batch: list[Any]) -> Any:
        if any(write.durable for write in batch):
            self.held = self.held or len(batch)
            assert self._go.wait(30)
            self.durable.append(len(batch))
        return self._real(batch)

    def let_go(self) -> None:
        self._go.set()


@contextmanager
def slow_disk(rig: Rig) -> Iterator[SlowDisk]:
    disk = SlowDisk(rig)
    rig.database.__dict__["_transact"] = disk.transact
    try:
        yield disk
    finally:
        disk.let_go()
        del rig.database.__dict__["_transact"]


async def until(enough: Any) -> None:
    async with asyncio.timeout(20):
        while not enough():
            await asyncio.sleep(0.001)


def started(rig: Rig, count: int) -> list[asyncio.Task[OrderView]]:
    """So many orders at once, each under a key of its own."""
    return [asyncio.create_task(rig.place(key=f"k{number}")) for number in range(count)]


def waiting(rig: Rig) -> int:
    """How many writes the disk has not taken yet."""
    return len(rig.database._pending)


async def test_orders_that_come_at_once_share_a_sync(tmp_path: Path) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker, answer_within_seconds=0.01) as rig:
        with slow_disk(rig) as disk:
            tasks = started(rig, MANY)
            await until(lambda: waiting(rig) + disk.held == MANY)
            assert broker.wire == []
            disk.let_go()
            await until(lambda: len(broker.placed) == MANY)
            assert (sum(disk.durable), len(disk.durable) <= 2) == (MANY, True)
        assert broker.placed == sorted(broker.placed)
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_more_are_under_way_than_the_wire_takes_at_once(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        with slow_disk(rig) as disk:
            tasks = started(rig, MANY + 5)
            await until(lambda: waiting(rig) + disk.held == MANY)
            await asyncio.sleep(0.05)
            assert waiting(rig) + disk.held == MANY
            disk.let_go()
            views = await asyncio.gather(*tasks)
        assert {each.status for each in views} == {Status.SUBMITTED}
        assert len(broker.placed) == MANY + 5


@pytest.mark.parametrize(
    ("under_way", "more", "goes"),
    [
        ([], MANY, True),
        ([], MANY + 1, True),  # alone there is always room
        ([MANY - 1], 1, True),
        ([MANY], 1, False),
        ([MANY - 1], 2, False),
        ([1, MANY - 2], 1, True),
        ([1, MANY - 2], 2, False),
        ([MANY], MANY, False),
        ([1], MANY, False),
    ],
)
async def test_room_is_for_all_together(
    tmp_path: Path, under_way: list[int], more: int, goes: bool
) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        line = rig.submitter.sender
        places = [line._take_place(orders) for orders in under_way]
        entering = asyncio.create_task(line._room(more))
        for _ in range(5):
            await asyncio.sleep(0)
        assert entering.done() is goes
        for place in places:
            place.leave()
        async with asyncio.timeout(20):
            await entering


async def test_one_that_is_refused_holds_nobody_up(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_quantity=100) as rig:
        with slow_disk(rig) as disk:
            first = asyncio.create_task(rig.place(key="first"))
            await until(lambda: disk.held)
            wrong = asyncio.create_task(rig.place(key="wrong", quantity=500))
            last = asyncio.create_task(rig.place(key="last"))
            await until(lambda: waiting(rig) == 2)
            disk.let_go()
            told = await asyncio.gather(first, wrong, last, return_exceptions=True)
        assert isinstance(told[1], OrderRefusedByRulesError)
        assert [each.status for each in told if isinstance(each, OrderView)] == [
            Status.SUBMITTED,
            Status.SUBMITTED,
        ]


async def test_a_closing_order_counts_what_waits_for_the_disk_before_it(tmp_path: Path) -> None:
    broker = FakeBroker(quiet=True)
    apple = Contract(symbol="AAPL", con_id=265598)
    broker.held = (Position(account="DU1234567", contract=apple, quantity=10, average_cost=1.0),)
    async with opened(tmp_path, broker, answer_within_seconds=0.01) as rig:
        with slow_disk(rig) as disk:
            plain = asyncio.create_task(rig.place(key="plain", action="SELL"))
            await until(lambda: disk.held)
            closing = asyncio.create_task(
                rig.submitter.place(request(action="SELL"), "closing", CALLER, only_closing=True)
            )
            await asyncio.sleep(0.05)
            assert waiting(rig) == 0
            disk.let_go()
            told = await asyncio.gather(plain, closing, return_exceptions=True)
        assert isinstance(told[1], OrderRefusedByRulesError)
        assert told[1].violations[0].code == "not-closing"
        assert len(broker.placed) == 1


async def test_behind_one_that_does_not_go_nothing_is_sent_and_keys_stay_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = asyncio.Event()
    broker = FakeBroker(hold=hold)
    async with opened(tmp_path, broker) as rig:
        with monkeypatch.context() as impatient:
            impatient.setattr(sender, "_TURN_SECONDS", 1.0)
            first = asyncio.create_task(rig.place(key="first"))
            await until(lambda: hold._waiters)
            told = await asyncio.gather(*started(rig, MANY + 1), return_exceptions=True)
        assert {type(each) for each in told} == {TooManyOrdersError}
        written, _ = await rig.database.read(
            lambda connection: orders.page(connection, only_open=False, before=None, limit=50)
        )
        assert len(written) == MANY  # the last two had not even been written down
        hold.set()
        assert (await first).status is Status.SUBMITTED
        assert len(broker.placed) == 1
        again = await asyncio.gather(*started(rig, MANY + 1))
        assert {each.status for each in again} == {Status.SUBMITTED}
        assert len(broker.placed) == MANY + 2


LIMITED: dict[str, Any] = {
    "max_quantity": 5,
    "max_notional": 500,
    "max_notional_per_day": 500,
    "max_orders_per_day": 1,
    "max_open_orders": 1,
    "price_band_percent": 1,
}


def holding(quantity: float, contract: Contract | None = None) -> FakeBroker:
    broker = FakeBroker()
    held = contract or Contract(symbol="AAPL", con_id=265598)
    broker.held = (
        Position(account="DU1234567", contract=held, quantity=quantity, average_cost=1.0),
    )
    return broker


async def test_what_a_rule_closes_is_bound_by_the_position_and_not_by_limits(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, holding(10), **LIMITED) as rig:
        sell = request(action="SELL", quantity=10, limit_price=90.0)
        with pytest.raises(OrderRefusedByRulesError, match="max_quantity"):
            await rig.submitter.place(sell, "person", CALLER)
        placed = (await rig.submitter.place(sell, "rule", CALLER, only_closing=True)).answer
        assert isinstance(placed, OrderView)
        assert placed.status is Status.SUBMITTED
        lower = ChangeRequest(limit_price=80.0)
        with pytest.raises(OrderRefusedByRulesError, match="max_"):
            await rig.modifier.modify(placed.order_id, lower, CALLER)
        after = await rig.modifier.modify(placed.order_id, lower, CALLER, only_closing=True)
        assert after.limit_price == 80.0


@pytest.mark.parametrize(
    ("held", "changes"),
    [
        (10, {"action": "SELL", "quantity": 11}),  # would turn it round
        (10, {"action": "BUY", "quantity": 1}),  # would enlarge it
        (0, {"action": "SELL", "quantity": 1}),  # would open one
        (-10, {"action": "BUY", "quantity": 11}),
        (-10, {"action": "SELL", "quantity": 1}),
    ],
)
async def test_what_a_rule_sends_never_opens_enlarges_or_turns_a_position(
    tmp_path: Path, held: float, changes: dict[str, Any]
) -> None:
    broker = holding(held)
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(OrderRefusedByRulesError) as told:
            await rig.submitter.place(request(**changes), "rule", CALLER, only_closing=True)
        assert [each.code for each in told.value.violations] == ["not-closing"]
        assert broker.placed == []


async def test_a_rule_s_change_beyond_what_is_held_is_not_sent(tmp_path: Path) -> None:
    """Also not within the limits: an order of 100 of which 40 are filled, 60 are held."""
    broker = holding(10)
    async with opened(tmp_path, broker) as rig:
        sell = request(action="SELL", quantity=8)
        placed = (await rig.submitter.place(sell, "rule", CALLER, only_closing=True)).answer
        assert isinstance(placed, OrderView)
        for quantity, passes in ((10, True), (11, False)):
            change = ChangeRequest(quantity=quantity)
            if passes:
                await rig.modifier.modify(placed.order_id, change, CALLER, only_closing=True)
                continue
            with pytest.raises(OrderRefusedByRulesError, match="enlarge a position"):
                await rig.modifier.modify(placed.order_id, change, CALLER, only_closing=True)
        assert broker.book[placed.broker_order_id].order.quantity == 10
        broker.fill(placed.broker_order_id, 4)
        broker.held = holding(3).held
        nearer = ChangeRequest(limit_price=80.0)
        with pytest.raises(OrderRefusedByRulesError, match="enlarge a position"):
            await rig.modifier.modify(placed.order_id, nearer, CALLER, only_closing=True)


async def test_a_rule_s_order_gets_smaller_whatever_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit and no lost list of positions keeps it as large as it was."""
    broker = holding(10)
    async with opened(tmp_path, broker, **LIMITED) as rig:
        sell = request(action="SELL", quantity=10, limit_price=90.0)
        placed = (await rig.submitter.place(sell, "rule", CALLER, only_closing=True)).answer
        assert isinstance(placed, OrderView)

        async def silent(**_: object) -> None:
            raise lost()

        monkeypatch.setattr(broker, "positions", silent)
        with pytest.raises(ConnectionLostError):
            await rig.modifier.modify(
                placed.order_id, ChangeRequest(limit_price=80.0), CALLER, only_closing=True
            )
        smaller = ChangeRequest(quantity=7)
        after = await rig.modifier.modify(placed.order_id, smaller, CALLER, only_closing=True)
        assert (after.quantity, after.limit_price) == (7, 90.0)


async def test_nothing_is_said_to_close_after_a_fill_that_the_positions_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has closed it; the list of a moment before still shows all."""
    broker = holding(10)
    async with opened(tmp_path, broker) as rig:
        sell = request(action="SELL", quantity=5, limit_price=90.0)
        placed = (await rig.submitter.place(sell, "first", CALLER, only_closing=True)).answer
        assert isinstance(placed, OrderView)
        late = {("DU1234567", 265598)}
        monkeypatch.setattr(rig.submitter.preparer, "is_confirmed", lambda place: place not in late)
        with pytest.raises(PositionsMovingError):
            await rig.submitter.place(sell, "second", CALLER, only_closing=True)
        nearer = ChangeRequest(limit_price=80.0)
        with pytest.raises(PositionsMovingError):
            await rig.modifier.modify(placed.order_id, nearer, CALLER, only_closing=True)
        late.clear()
        await rig.modifier.modify(placed.order_id, nearer, CALLER, only_closing=True)
        assert len(broker.book) == 1


async def test_a_rule_pays_no_price_whatever_for_an_option(tmp_path: Path) -> None:
    """What a person may close at the market, nobody looks at here."""
    contract = option().contract
    async with opened(tmp_path, holding(2, contract)) as rig:
        sell = request(
            symbol=contract.symbol, con_id=contract.con_id, action="SELL", quantity=1,
            order_type="MKT", limit_price=None,
        )  # fmt: skip
        with pytest.raises(OrderRefusedByRulesError) as told:
            await rig.submitter.place(sell, "rule", CALLER, only_closing=True)
        assert [each.code for each in told.value.violations] == ["market-order-on-option"]


async def test_what_fills_while_a_change_is_judged_does_not_count_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10, 4 are filled between the broker's list and the look at what is held."""
    broker = holding(10)
    async with opened(tmp_path, broker) as rig:
        sell = request(action="SELL", quantity=10, limit_price=90.0)
        placed = (await rig.submitter.place(sell, "rule", CALLER, only_closing=True)).answer
        assert isinstance(placed, OrderView)
        prepare = rig.submitter.preparer.prepare_change

        async def meanwhile(*given: Any) -> Any:
            broker.fill(placed.broker_order_id, 4)
            broker.held = holding(6).held
            await rig.journal.flush()
            return await prepare(*given)

        monkeypatch.setattr(rig.submitter.preparer, "prepare_change", meanwhile)
        nearer = ChangeRequest(limit_price=80.0)
        after = await rig.modifier.modify(placed.order_id, nearer, CALLER, only_closing=True)
        assert (after.filled, after.limit_price) == (4, 80.0)
