"""The client library's objects as ours, and back: nothing is lost or turned round."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from bridge import model
from bridge.tws.convert import (
    from_contract,
    from_execution,
    from_order,
    to_contract,
    to_order,
)
from bridge.tws.values import RefusedError
from tests.bridge.wound import START

APPLE = model.Contract(symbol="AAPL", sec_type="STK", exchange="SMART", currency="USD")


def execution(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "execId": "1.2.3", "shares": 5.0, "price": 9.5, "exchange": "NASDAQ", "acctNumber": "DU1",
        "side": "BOT", "permId": 7, "clientId": 1, "orderId": 3, "orderRef": "mine",
        "cumQty": 5.0, "avgPrice": 9.5, "liquidation": 0, "lastLiquidity": 1,
        "pendingPriceRevision": False, "evRule": "", "evMultiplier": 0.0, "modelCode": "",
        "submitter": "", "time": "",
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def fill(time: str = "20260302 09:30:00 US/Eastern", **changes: Any) -> model.Execution:
    zone = "America/New_York"
    return from_execution(to_contract(APPLE), execution(**changes), time, zone, START)


def test_a_fill() -> None:
    found = fill()
    assert found.time.isoformat() == "2026-03-02T14:30:00+00:00"
    assert (found.time_known, found.time_text) == (True, "")
    assert (found.exec_id, found.quantity, found.price) == ("1.2.3", 5.0, 9.5)
    assert (found.side, found.account, found.exchange) == ("BOT", "DU1", "NASDAQ")
    assert (found.perm_id, found.client_id) == (7, 1)


@pytest.mark.parametrize("time", ["", "yesterday", "20261345 99:00:00"])
def test_a_fill_whose_time_cannot_be_read_has_the_moment_it_came(time: str) -> None:
    found = fill(time)
    assert (found.time, found.time_known, found.time_text) == (START, False, time)


def test_a_fill_of_another_moment_keeps_its_own() -> None:
    assert fill("20250102 09:30:00 US/Eastern").time < START


@pytest.mark.parametrize(
    "changes", [{"execId": ""}, {"shares": 0.0}, {"shares": -1.0}, {"price": -1.0}]
)
def test_what_is_no_fill_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        fill(**changes)


def test_the_legs_of_a_combination() -> None:
    legs = (
        model.ComboLeg(con_id=1, ratio=2, action="BUY", exchange="SMART"),
        model.ComboLeg(con_id=2, ratio=1, action="SELL", exchange="CBOE"),
    )
    bag = model.Contract(symbol="SPY", sec_type="BAG", exchange="SMART", currency="USD", legs=legs)
    assert from_contract(to_contract(bag)).legs == legs


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("above", [True, False])
def test_conditions(joined: bool, above: bool) -> None:
    price = model.OrderCondition(
        con_id=7, exchange="SMART", price=5.5, above=above, method=4, joined_by_and=joined
    )
    time = model.OrderCondition(time="20260619 16:00:00", above=above, joined_by_and=joined)
    order = model.Order(
        quantity=1, conditions=(price, time), conditions_cancel=joined, conditions_outside_rth=above
    )
    found = from_order(to_order(order))
    assert found.conditions == (price, time)
    assert (found.conditions_cancel, found.conditions_outside_rth) == (joined, above)
    low = structs.replace(price, price=0.0)
    assert from_order(to_order(model.Order(quantity=1, conditions=(low,)))).conditions == (low,)


@pytest.mark.parametrize("guaranteed", [True, False, None])
def test_whether_a_combination_is_guaranteed(guaranteed: bool | None) -> None:
    order = model.Order(quantity=1, non_guaranteed=guaranteed)
    sent = to_order(order).smartComboRoutingParams or []
    words = [(each.tag, each.value) for each in sent]
    expected = {True: [("NonGuaranteed", "1")], False: [("NonGuaranteed", "0")], None: []}
    assert words == expected[guaranteed]


@pytest.mark.parametrize("action", ["BUY", "SELL"])
def test_an_order_of_each_side(action: Any) -> None:
    order = model.Order(action=action, quantity=3, order_type="LMT", limit_price=5.0)
    assert from_order(to_order(order)).action == action
    short = to_order(order)
    short.action = "SSHORT"
    assert from_order(short).action == "SELL"
    money = to_order(model.Order(quantity=3, cash_quantity=50.0))
    assert (money.totalQuantity, money.cashQty) == (0.0, 50.0)
