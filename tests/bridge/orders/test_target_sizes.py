"""How large the order is that a position lacks, over a broker in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.model import Position
from bridge.orders.errors import OrdersInTheWayError
from bridge.orders.exposure import Working
from bridge.orders.held_and_working import Standing, require_clear
from bridge.orders.submit import TargetReached
from bridge.orders.target import TargetPlacer, TargetRequest, _any_size
from bridge.orders.views import OrderView
from bridge.quantity import orderable
from tests.bridge.orders.fake_broker import FakeBroker, listed
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.samples import AAPL

PLACE = ("DU1234567", AAPL.con_id)


def held(quantity: float) -> tuple[Position, ...]:
    return (Position(account=PLACE[0], contract=AAPL, quantity=quantity, average_cost=100.0),)


async def lacks(rig: Rig, target: float, **more: Any) -> tuple[str, float] | None:
    """The side and the size of what is sent; None: nothing."""
    before = set(rig.broker.book)
    fields: dict[str, Any] = {"symbol": "AAPL", "order_type": "LMT", "limit_price": 100.0}
    request = TargetRequest(**(fields | {"target_quantity": target} | more))
    key = f"key-{target}-{len(before)}-{more}"
    placed = await rig.services[TargetPlacer].place(request, key, CALLER)
    again = await rig.services[TargetPlacer].place(request, key, CALLER)
    assert (placed.replayed, again.replayed) == (False, True)
    fresh = [booked.order for number, booked in rig.broker.book.items() if number not in before]
    assert isinstance(placed.answer, OrderView if fresh else TargetReached)
    assert len(fresh) < 2, "and once for a key"
    return (fresh[0].action, fresh[0].quantity) if fresh else None


@pytest.mark.parametrize(
    ("position", "target", "sent"),
    [
        (0.0, 5.0, ("BUY", 5.0)),
        (3.0, 5.0, ("BUY", 2.0)),
        (5.0, 5.0, None),
        (7.0, 5.0, ("SELL", 2.0)),
        (7.0, 0.0, ("SELL", 7.0)),
        (-3.0, 0.0, ("BUY", 3.0)),
        (10.4, 0.0, ("SELL", 10.0)),  # the broker takes no fraction
        (-10.4, 0.0, ("BUY", 10.0)),
        (10.4, 5.2, ("SELL", 5.2)),
        (-3.0, 2.0, ("BUY", 5.0)),
        (-3.0, -5.0, ("SELL", 2.0)),
    ],
)
async def test_the_difference_is_sent(
    tmp_path: Path, position: float, target: float, sent: tuple[str, float] | None
) -> None:
    broker = FakeBroker()
    broker.held = held(position) if position else ()
    async with opened(tmp_path, broker) as rig:
        assert await lacks(rig, target) == sent


@pytest.mark.parametrize(
    ("kind", "held", "sold"),
    [("STK", 3.999999999999, 4.0), ("STK", 0.4, 0.4), ("CRYPTO", 10.4, 10.4), ("OPT", 3.0, 3.0)],
)
def test_of_shares_an_order_takes_the_whole_ones(kind: str, held: float, sold: float) -> None:
    assert orderable(kind, held) == sold


async def test_beside_an_order_for_the_whole_shares_a_fraction_needs_none(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.held = held(10.4)
    async with opened(tmp_path, broker) as rig:
        assert await lacks(rig, 0.0, limit_price=101.0) == ("SELL", 10.0)
        assert await lacks(rig, 0.0, limit_price=101.0, tif="GTC") is None
        broker.held = held(11.9)
        assert await lacks(rig, 0.0, limit_price=101.0) == ("SELL", 1.0)
        assert await lacks(rig, 0.0, limit_price=101.0, tif="GTC") is None


async def test_what_works_counts_as_filled(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.held = held(2.0)
    async with opened(tmp_path, broker) as rig:
        await rig.place(quantity=4, limit_price=99.0)
        assert await lacks(rig, 6.0) is None
        assert await lacks(rig, 9.0) == ("BUY", 3.0)
        with pytest.raises(OrdersInTheWayError):
            await lacks(rig, 1.0)
        assert await lacks(rig, 1.0, cancel_orders=True) == ("SELL", 1.0)
        assert sorted(broker.cancelled) == [1, 2], "both that worked, and no more"


async def test_parts_of_a_share_that_work_count_as_parts(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.details = {"AAPL": (listed(size_increment=0.5),)}
    broker.held = held(9.0)
    async with opened(tmp_path, broker) as rig:
        await rig.place("buys", quantity=2.5, limit_price=99.0)
        assert await lacks(rig, 13.0) == ("BUY", 1.5)
    other = FakeBroker()
    other.details = dict(broker.details)
    other.held = held(9.0)
    (tmp_path / "other").mkdir()
    async with opened(tmp_path / "other", other) as rig:
        await rig.place("sells", quantity=2.5, action="SELL", limit_price=101.0)
        assert await lacks(rig, 5.0) == ("SELL", 1.5)


def test_the_contract_is_looked_up_with_a_size_that_an_order_may_have() -> None:
    for target, size in ((5.0, 5.0), (-5.0, 5.0), (0.5, 0.5), (0.0, 1.0)):
        request = TargetRequest(symbol="AAPL", target_quantity=target)
        assert _any_size(request) == size


async def test_a_sale_that_works_counts_against_it(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.held = held(9.0)
    async with opened(tmp_path, broker) as rig:
        await rig.place(quantity=4, action="SELL", limit_price=101.0)
        assert await lacks(rig, 5.0) is None
        assert await lacks(rig, 3.0) == ("SELL", 2.0)
        placer = rig.services[TargetPlacer]
        assert await placer.free_to_close(*PLACE) == 3.0
        broker.held = held(1.0)
        assert await placer.free_to_close(*PLACE) == 0.0


def working(action: str, quantity: float, together: str = "", name: str = "o1") -> Working:
    return Working(
        name=name, account=PLACE[0], con_id=PLACE[1], action=action, quantity=quantity,
        together=together or name,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("position", "target", "missing", "works", "waits", "clear"),
    [
        (0.0, 5.0, 5.0, [working("BUY", 1.0)], [], True),
        (0.0, 5.0, 5.0, [working("SELL", 1.0)], [], False),
        (0.0, 5.0, 5.0, [working("SELL", 0.0)], [], True),
        (9.0, 5.0, -4.0, [working("BUY", 1.0)], [], False),
        (9.0, 5.0, 0.0, [working("BUY", 1.0)], [], True),
        (9.0, 5.0, -4.0, [], [working("SELL", 5.0)], True),
        (9.0, 5.0, -4.0, [], [working("SELL", 5.5)], False),
        (9.0, 5.0, 0.0, [], [working("SELL", 5.5)], True),
        (9.0, 0.0, -9.0, [], [working("SELL", 0.5)], False),
        (9.0, 0.0, -9.0, [], [working("BUY", 0.5)], False),
        (9.0, 5.0, -4.0, [], [working("BUY", 9.0)], True),
        (-9.0, -5.0, 4.0, [], [working("BUY", 5.0)], True),
        (-9.0, -5.0, 4.0, [], [working("BUY", 5.5)], False),
        (-9.0, -5.0, 4.0, [], [working("SELL", 9.0)], True),
        (9.0, 5.0, -4.0, [], [working("SELL", 5.0, "g"), working("SELL", 4.0, "g", "o2")], True),
        (9.0, 5.0, -4.0, [], [working("SELL", 5.0), working("SELL", 4.0, name="o2")], False),
        (2.0, 5.0, 3.0, [], [working("SELL", 2.0)], True),
    ],
)
def test_what_is_in_the_way(
    position: float,
    target: float,
    missing: float,
    works: list[Working],
    waits: list[Working],
    clear: bool,
) -> None:
    elsewhere = Working(
        name="x", account=PLACE[0], con_id=7, action="SELL", quantity=99.0, together="x"
    )
    standing = Standing({PLACE: position}, (*works, elsewhere), (*waits, elsewhere))
    if clear:
        require_clear(standing, PLACE, target, missing)
        return
    with pytest.raises(OrdersInTheWayError) as refused:
        require_clear(standing, PLACE, target, missing)
    assert "x" not in str(refused.value.extra)
