from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.orders.bracket_changes import bracket_problems
from bridge.orders.errors import OrderRefusedByRulesError
from bridge.orders.request import Bracket, ChangeRequest, StopLoss, TakeProfit
from bridge.orders.risk_context import Reference
from bridge.orders.views import OrderView
from bridge.store.keys import KeyBounds
from bridge.store.orders import OrderRecord, State, Status
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.samples import record

BRACKET = Bracket(take_profit=TakeProfit(limit_price=120.0), stop_loss=StopLoss(stop_price=90.0))
GAIN, LOSS = "-1", "-2"
BOUND = structs.replace(CALLER, bounds=KeyBounds(max_notional=500.0))


async def _modify(rig: Rig, order_id: str, caller: Any = CALLER, **changes: Any) -> OrderView:
    return await rig.modifier.modify(order_id, ChangeRequest(**changes), caller)


async def _refused(rig: Rig, order_id: str, caller: Any = CALLER, **changes: Any) -> set[str]:
    with pytest.raises(OrderRefusedByRulesError) as raised:
        await _modify(rig, order_id, caller, **changes)
    return {each.code for each in raised.value.violations}


async def _filled(rig: Rig, broker: FakeBroker, view: OrderView) -> None:
    broker.fill(view.broker_order_id)
    assert (await rig.view(view.order_id)).status is Status.FILLED


@pytest.mark.parametrize("exit_", [GAIN, LOSS])
async def test_an_enlarged_exit_is_held_against_the_limits(tmp_path: Path, exit_: str) -> None:
    broker = FakeBroker()
    limits: dict[str, Any] = {
        "max_notional": 1500.0,
        "max_notional_per_day": 1500.0,
        "max_quantity": 20,
    }
    async with opened(tmp_path, broker, **limits) as rig:
        view = await rig.place(bracket=BRACKET)
        await _filled(rig, broker, view)
        before = len(broker.placed)
        codes = {"exit-exceeds-entry", "max-quantity", "max-notional", "max-notional-per-day"}
        assert await _refused(rig, view.order_id + exit_, quantity=1000) == codes
        bound = await _refused(rig, view.order_id + exit_, BOUND, quantity=1000)
        assert bound == codes | {"key-max-notional"}
        assert await _refused(rig, view.order_id + exit_, quantity=11) >= {"exit-exceeds-entry"}
        assert len(broker.placed) == before


async def test_an_exit_shrinks_as_what_closes_and_grows_as_what_opens(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_notional_per_day=1500) as rig:
        view = await rig.place(bracket=BRACKET)
        await _filled(rig, broker, view)
        gain = view.order_id + GAIN
        assert (await _modify(rig, gain, BOUND, quantity=4)).quantity == 4
        assert (await _modify(rig, gain, BOUND, limit_price=121.0)).limit_price == 121.0
        assert await _refused(rig, gain, BOUND, quantity=10) == {
            "key-max-notional",
            "max-notional-per-day",
        }
        assert (await _modify(rig, gain, quantity=5, limit_price=100.0)).quantity == 5
        # what it was enlarged by counts for the day
        assert await _refused(rig, gain, quantity=6) == {"max-notional-per-day"}


def _family(entry: dict[str, Any], *exits: dict[str, Any]) -> list[OrderRecord]:
    head = record(**{"broker_order_id": 1, "id": "b", "group_id": "b", "role": "entry"} | entry)
    hanging = [
        record(
            **{"broker_order_id": number, "id": f"b-{number}", "group_id": "b", "parent_id": "b"}
            | terms
        )
        for number, terms in enumerate(exits, 2)
    ]
    return [head, *hanging]


ENDED = {"state": State.TERMINAL}


@pytest.mark.parametrize(
    ("entry", "other", "most"),
    [
        ({}, {}, 10.0),
        ({**ENDED, "status": Status.FILLED}, {}, 10.0),
        ({**ENDED, "status": Status.FILLED, "filled": 10.0}, {"filled": 4.0}, 6.0),
        ({**ENDED, "status": Status.CANCELLED, "filled": 3.0}, {}, 3.0),
        ({**ENDED, "status": Status.CANCELLED, "filled": 3.0}, {"filled": 4.0}, 0.0),
        ({"id": "another"}, {}, 0.0),
    ],
)
def test_an_exit_grows_up_to_what_its_entry_leaves(
    entry: dict[str, Any], other: dict[str, Any], most: float
) -> None:
    small = structs.replace(record().terms, quantity=2.0)
    head, gain, loss = _family(entry, {"terms": small}, other)

    def limits(quantity: float) -> list[float | str | None]:
        terms = structs.replace(small, quantity=quantity)
        return [each.limit for each in bracket_problems(gain, terms, (head, gain, loss), None)]

    assert limits(2.0) == limits(1.0) == []  # as it is, and smaller, it may always be
    assert limits(max(most, 2.0)) == []
    assert limits(max(most, 2.0) + 1) == [most]


@pytest.mark.parametrize("quantity", [2, 20])
async def test_an_entry_keeps_its_quantity_while_its_exits_are_open(
    tmp_path: Path, quantity: int
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(bracket=BRACKET)
        assert await _refused(rig, view.order_id, quantity=quantity) == {"entry-has-exits"}
        broker.fill(view.broker_order_id, 1)
        assert await _refused(rig, view.order_id, quantity=quantity) == {"entry-has-exits"}
        same = await _modify(rig, view.order_id, quantity=10, limit_price=100.5)
        assert (same.quantity, same.limit_price) == (10, 100.5)
        for leg in (GAIN, LOSS):
            await rig.canceller.cancel(view.order_id + leg, CALLER)
        assert (await _modify(rig, view.order_id, quantity=quantity)).quantity == quantity


async def test_an_entry_stays_between_its_exits(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, price_band_percent=None) as rig:
        view = await rig.place(bracket=BRACKET)
        for beyond in (120.0, 125.0, 90.0, 85.0):
            assert await _refused(rig, view.order_id, limit_price=beyond) == {"invalid-field"}
        assert (await _modify(rig, view.order_id, limit_price=119.0)).limit_price == 119.0
        await rig.canceller.cancel(view.order_id + GAIN, CALLER)
        assert (await _modify(rig, view.order_id, limit_price=125.0)).limit_price == 125.0


async def test_an_exit_stays_on_its_side_of_an_entry_that_waits(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(bracket=BRACKET, limit_price=95.0)
        gain, loss = view.order_id + GAIN, view.order_id + LOSS
        assert await _refused(rig, gain, limit_price=95.0) == {"invalid-field"}
        assert await _refused(rig, loss, stop_price=95.0) == {"invalid-field"}
        assert (await _modify(rig, gain, limit_price=96.0)).limit_price == 96.0
        assert (await _modify(rig, loss, stop_price=94.0)).stop_price == 94.0


async def test_a_short_ones_exits_are_on_the_other_sides(tmp_path: Path) -> None:
    broker = FakeBroker()
    exits = Bracket(take_profit=TakeProfit(limit_price=90.0), stop_loss=StopLoss(stop_price=110.0))
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(bracket=exits, action="SELL")
        assert await _refused(rig, view.order_id + LOSS, stop_price=99.0) == {"invalid-field"}
        await _filled(rig, broker, view)
        assert await _refused(rig, view.order_id + LOSS, stop_price=100.1) == {"invalid-field"}
        assert (await _modify(rig, view.order_id + LOSS, stop_price=100.2)).stop_price == 100.2


async def test_a_stop_stays_on_its_side_of_the_market_and_a_gain_may_be_taken(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(bracket=BRACKET)
        await _filled(rig, broker, view)
        gain, loss = view.order_id + GAIN, view.order_id + LOSS
        for beyond in (99.9, 105.0):
            assert await _refused(rig, loss, stop_price=beyond) == {"invalid-field"}
        assert (await _modify(rig, loss, stop_price=99.8)).stop_price == 99.8
        assert (await _modify(rig, gain, limit_price=99.5)).limit_price == 99.5


def test_a_stop_that_the_market_has_passed_is_still_changed_in_other_things() -> None:
    terms = structs.replace(
        record().terms, action="SELL", order_type="STP LMT", stop_price=95.0, limit_price=94.0
    )
    filled = {**ENDED, "status": Status.FILLED}
    head, stop = _family(filled, {"terms": terms, "role": "stop-loss"})
    market = Reference(bid=80.0, ask=80.2)

    def fields(**changes: Any) -> list[str]:
        changed = structs.replace(terms, **changes)
        return [each.field for each in bracket_problems(stop, changed, (head, stop), market)]

    assert fields(quantity=5.0, limit_price=79.0) == []
    assert fields(stop_price=94.0) == ["stopPrice"]
    assert fields(stop_price=79.0) == []


async def test_a_trailing_exit_is_not_put_beyond_the_market(tmp_path: Path) -> None:
    broker = FakeBroker()
    trailing = Bracket(stop_loss=StopLoss(trail_amount=5.0, stop_price=95.0))
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(bracket=trailing)
        loss = view.order_id + GAIN
        assert await _refused(rig, loss, trail_stop_price=100.0) == {"invalid-field"}
        await _filled(rig, broker, view)
        assert await _refused(rig, loss, trail_stop_price=101.0) == {"invalid-field"}
        assert (await _modify(rig, loss, trail_amount=4.0)).trail_amount == 4.0
        assert (await _modify(rig, loss, trail_stop_price=96.0)).trail_stop_price == 96.0
        beyond = Bracket(stop_loss=StopLoss(trail_amount=5.0, stop_price=101.0))
        with pytest.raises(OrderRefusedByRulesError, match="must be below the market"):
            await rig.place(key="2", order_type="MKT", limit_price=None, bracket=beyond)


async def test_an_exit_of_a_market_order_that_waits_is_held_against_the_market(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(order_type="MKT", limit_price=None, bracket=BRACKET)
        assert await _refused(rig, view.order_id + GAIN, limit_price=100.1) == {"invalid-field"}
        assert await _refused(rig, view.order_id + LOSS, stop_price=100.1) == {"invalid-field"}
        assert (await _modify(rig, view.order_id + LOSS, stop_price=99.0)).stop_price == 99.0


@pytest.mark.parametrize("kind", ["STP_LMT", "LIT"])
async def test_a_stop_stays_clear_of_both_prices_of_an_entry_that_has_two(
    tmp_path: Path, kind: str
) -> None:
    """It may fill at either, in a change as in a new bracket."""
    near, far = (104.0, 106.0) if kind == "STP_LMT" else (95.0, 97.0)
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        bracket = Bracket(stop_loss=StopLoss(stop_price=near - 2))
        prices: dict[str, Any] = {"stop_price": near, "limit_price": far}
        view = await rig.place(order_type=kind, bracket=bracket, **prices)
        nearer = await _refused(rig, view.order_id, stop_price=near - 3)
        assert nearer == {"invalid-field"}
        assert await _refused(rig, view.order_id + "-1", stop_price=near + 1) == {"invalid-field"}
        assert (await _modify(rig, view.order_id, stop_price=near - 1)).stop_price == near - 1
        assert (await _modify(rig, view.order_id + "-1", stop_price=90.0)).stop_price == 90.0


async def test_an_entry_that_would_fill_at_the_market_stays_clear_of_its_stop(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        bracket = Bracket(stop_loss=StopLoss(stop_price=98.5))
        view = await rig.place(limit_price=99.0, bracket=bracket)
        assert (await _modify(rig, view.order_id, limit_price=105.0)).limit_price == 105.0
        stop = view.order_id + "-1"  # below the limit, and above where it fills
        assert await _refused(rig, stop, stop_price=103.0) == {"invalid-field"}
        assert (await _modify(rig, stop, stop_price=99.0)).stop_price == 99.0
