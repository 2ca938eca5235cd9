"""What of others' orders counts for a close, and what stands of our own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from bridge.model import Contract
from bridge.rules.closing_orders import ClosingOrders
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import opened
from tests.bridge.orders.test_exposure import Exercised, Lister, order, record
from tests.bridge.rules.made import only, option, stock


def orders_beside(left: float, held: float) -> ClosingOrders:
    nothing: Any = None
    return ClosingOrders(
        database=nothing,
        gateway=cast("Any", Lister(left, held)),
        journal=cast("Any", SimpleNamespace(open={})),
        submitter=nothing,
        modifier=nothing,
        canceller=nothing,
    )


async def test_of_another_client_s_order_what_is_left_counts() -> None:
    """Of their 60, 59 are filled: the last one alone can still be sold by them."""
    for left, held in ((1.0, 41.0), (30.0, 70.0)):
        holding = only(stock(held, con_id=11))
        assert await orders_beside(left, held).working(holding) == left


async def test_an_exercise_of_ours_counts_once() -> None:
    terms = structs.replace(order("SELL", 2), order_type="EXERCISE")
    own = record("exercise", Contract(con_id=11), terms)
    orders = orders_beside(0.0, 5.0)
    orders.gateway = cast("Any", Exercised(5.0, client_id=1, order_id=1, perm_id=70))
    orders.journal = cast("Any", SimpleNamespace(open={own.id: own}))
    assert await orders.working(only(stock(5.0, con_id=11))) == 2.0


async def test_what_the_broker_holds_back_is_open_and_idle(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        orders = orders_beside(0.0, 0.0)
        orders.database = rig.database
        placed = await rig.place("stop")
        for word, idle in (("Submitted", False), ("Inactive", True), ("Submitted", False)):
            broker.book[placed.broker_order_id].status = word
            broker.say(placed.broker_order_id)
            await rig.journal.flush()
            state = await orders.state_of("stop")
            assert (state.state, state.idle) == ("open", idle)


@pytest.mark.parametrize(
    ("limits", "market", "why"),
    [
        ({"max_quantity": 1, "max_contracts": 1, "max_notional": 1}, False, ""),
        ({"read_only": True}, False, "this bridge is read-only (trading.read_only)"),
        ({"deny_symbols": ["SPY"]}, False, "SPY is in trading.deny_symbols"),
        ({"allow_sec_types": ["STK"]}, False, "OPT is not in trading.allow_sec_types"),
        ({"allow_accounts": ["DU2"]}, False, "account DU1234567 is not in trading.allow_accounts"),
        ({}, True, "MKT on an option may fill at any price: use LMT with a limitPrice"),
        ({"market_orders_on_options": True}, True, ""),
    ],
)
async def test_what_settings_refuse_is_known_before(
    tmp_path: Path, limits: dict[str, Any], market: bool, why: str
) -> None:
    async with opened(tmp_path, FakeBroker(), **limits) as rig:
        orders = orders_beside(0.0, 0.0)
        orders.submitter = rig.submitter
        holding = structs.replace(only(option(-1, 250, 11)), account="DU1234567")
        assert orders.refused(holding, market=market) == why
