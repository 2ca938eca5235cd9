from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.orders.bracket_changes import bracket_problems
from bridge.orders.errors import OrderRefusedByRulesError
from bridge.orders.request import Bracket, ChangeRequest, StopLoss, TakeProfit
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
        return [each.limit for each in bracket_problems(gain, terms, (head, gain, loss))]

    assert limits(2.0) == limits(1.0) == []  # as it is, and smaller, it may always be
    assert limits(max(most, 2.0)) == []
    assert limits(max(most, 2.0) + 1) == [most]
