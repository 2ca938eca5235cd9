"""Every type of order, over HTTP, at the simulator: placed, changed, cancelled, filled, refused."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.orders.order_types import KINDS
from tests.bridge.orders.test_over_http import Body, SimulatedBridge, soon
from tests.bridge.rig import SimulatorProcess

FAR: Body = {"symbol": "AAPL", "action": "BUY", "quantity": 1}
"""A buy that rests where its price is far below the market."""
RESTING: dict[str, Body] = {
    "LMT": {"limitPrice": 1.0},
    "STP": {"stopPrice": 5000.0},
    "STP_LMT": {"stopPrice": 5000.0, "limitPrice": 5001.0},
    "TRAIL": {"trailAmount": 40.0},
    "TRAIL_LMT": {"trailPercent": 30.0, "limitOffset": 0.5},
    "MIT": {"stopPrice": 1.0},
    "LIT": {"stopPrice": 1.5, "limitPrice": 1.0},
    "MOC": {},
    "LOC": {"limitPrice": 1.0},
    "REL": {"limitPrice": 1.0, "limitOffset": 0.01},
    "PEG_MID": {"limitPrice": 1.0, "limitOffset": 0.02},
    "MIDPRICE": {"limitPrice": 1.0},
}
CHANGED: dict[str, Body] = {
    "LMT": {"limitPrice": 1.5},
    "STP": {"stopPrice": 5100.0},
    "STP_LMT": {"limitPrice": 5002.0},
    "TRAIL": {"trailAmount": 41.0},
    "TRAIL_LMT": {"trailPercent": 31.0, "limitOffset": 0.75},
    "MIT": {"stopPrice": 1.25},
    "LIT": {"limitPrice": 1.25},
    "MOC": {"quantity": 2},
    "LOC": {"limitPrice": 1.25},
    "REL": {"limitOffset": 0.02},
    "PEG_MID": {"limitPrice": 1.25},
    "MIDPRICE": {"limitPrice": 1.25},
}
NO_LIMITS: Body = {"max_notional": None, "max_notional_per_day": None, "max_quantity": None}
WORDS = {"STP_LMT": "STP LMT", "TRAIL_LMT": "TRAIL LIMIT", "PEG_MID": "PEG MID"}
PAGE = (Path(__file__).parents[3] / "docs/orders.md").read_text()
EXAMPLES = re.findall(r"^\| `([A-Za-z_]+)` \| .* \| `(\{.*\})` \|$", PAGE, re.MULTILINE)
AT_ONCE = ("MKT", "MTL", "MIDPRICE", "PEG_MID", "MIT", "LIT")


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedBridge]:
    folder = tmp_path_factory.mktemp("types")
    simulator = SimulatorProcess(folder / "simulator.log")
    made = SimulatedBridge(folder / "bridge", simulator, price_band_percent=None, **NO_LIMITS)
    yield made
    made.bridge.stop()
    simulator.stop()


def booked(bridge: SimulatedBridge, order: Body) -> Body:
    [found] = bridge.booked(order["orderId"])
    return found


def changed(bridge: SimulatedBridge, order: Body, **body: Any) -> httpx.Response:
    return bridge.client.patch(f"/order/{order['orderId']}", json=body)


def codes(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {each["code"] for each in answer.json()["violations"]}


@pytest.mark.parametrize("kind", RESTING)
def test_one_is_placed_changed_and_cancelled(bridge: SimulatedBridge, kind: str) -> None:
    order = bridge.placed(**FAR, orderType=kind, **RESTING[kind])
    assert order["orderType"] == kind
    assert {name: order[name] for name in RESTING[kind]} == RESTING[kind]
    assert booked(bridge, order)["orderType"] == WORDS.get(kind, kind)
    soon(lambda: bridge.order(order["orderId"])["state"] == "acknowledged")
    answer = changed(bridge, order, **CHANGED[kind])
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in CHANGED[kind]} == CHANGED[kind]
    after = booked(bridge, order)
    assert after["quantity"] == CHANGED[kind].get("quantity", 1)
    gone = bridge.client.delete(f"/order/{order['orderId']}")
    assert (gone.status_code, gone.json()["status"]) == (200, "Cancelled")
    assert booked(bridge, order)["status"] == "Cancelled"


@pytest.mark.parametrize("kind", AT_ONCE)
def test_one_that_can_trade_is_filled(bridge: SimulatedBridge, kind: str) -> None:
    prices = {"MIT": {"stopPrice": 5000.0}, "LIT": {"stopPrice": 5000.0, "limitPrice": 5000.0}}
    order = bridge.placed(**FAR, orderType=kind, **prices.get(kind, {}))
    soon(lambda: bridge.has_status(order["orderId"], "Filled"))
    [fill] = bridge.order(order["orderId"])["fills"]
    assert (fill["secType"], fill["side"], fill["quantity"]) == ("STK", "BUY", 1)


def test_a_trailing_stop_is_carried_along_by_a_change(bridge: SimulatedBridge) -> None:
    order = bridge.placed(**FAR, orderType="TRAIL", trailPercent=20.0, trailStopPrice=4000.0)
    assert order["trailStopPrice"] == 4000.0
    stood = soon(lambda: bridge.order(order["orderId"])["trailStopPrice"])
    after = changed(bridge, order, quantity=2).json()
    assert (after["quantity"], after["trailPercent"]) == (2, 20.0)
    assert after["trailStopPrice"] <= stood  # a buy's only ever comes down
    assert booked(bridge, order)["stopPrice"] <= stood
    assert "unexpected-field" in codes(changed(bridge, order, trailAmount=3.0))


def test_the_time_to_begin_and_the_algorithm_reach_the_broker(bridge: SimulatedBridge) -> None:
    order = bridge.placed(
        **FAR,
        orderType="LMT",
        limitPrice=1.0,
        tif="GTC",
        goodAfterTime="20991120 15:00:00 US/Eastern",
    )
    assert order["goodAfterTime"] == "20991120 15:00:00 US/Eastern"
    assert bridge.order(order["orderId"])["status"] == "PreSubmitted"
    after = changed(bridge, order, limitPrice=1.25).json()
    assert (after["limitPrice"], after["goodAfterTime"]) == (1.25, order["goodAfterTime"])
    adaptive = bridge.placed(
        **FAR, orderType="MKT", algo={"strategy": "Adaptive", "priority": "Patient"}
    )
    assert adaptive["algo"] == {"strategy": "Adaptive", "priority": "Patient"}
    soon(lambda: bridge.has_status(adaptive["orderId"], "Filled"))


def test_conditions_hold_an_order_back_or_cancel_it(bridge: SimulatedBridge) -> None:
    spy = {"symbol": "SPY", "above": 1.0}
    future = {"after": "20991120 15:00:00 US/Eastern", "join": "and"}
    held = bridge.placed(**FAR, orderType="MKT", conditions=[future, spy])
    assert [each["after"] for each in held["conditions"]] == [future["after"], None]
    assert held["conditions"][1]["conId"] > 0
    assert bridge.order(held["orderId"])["filled"] == 0
    either = bridge.placed(**FAR, orderType="MKT", conditions=[future | {"join": "or"}, spy])
    soon(lambda: bridge.has_status(either["orderId"], "Filled"))
    cancelled = bridge.placed(
        **FAR, orderType="LMT", limitPrice=1.0, conditions=[spy], conditionsAction="cancel"
    )
    assert cancelled["conditionsAction"] == "cancel"
    soon(lambda: bridge.has_status(cancelled["orderId"], "Cancelled"))
    kept = changed(bridge, held, quantity=2).json()
    assert (kept["quantity"], len(kept["conditions"])) == (2, 2)


def test_a_bracket_may_trail_its_stop(bridge: SimulatedBridge) -> None:
    order = bridge.placed(
        **FAR,
        orderType="LMT",
        limitPrice=1.0,
        bracket={"takeProfit": {"limitPrice": 4000.0}, "stopLoss": {"trailPercent": 10.0}},
    )
    kinds = {each["role"]: each["orderType"] for each in order["legs"]}
    assert kinds == {"take-profit": "LMT", "stop-loss": "TRAIL"}
    [stop] = [each for each in order["legs"] if each["role"] == "stop-loss"]
    assert stop["trailPercent"] == 10.0


def test_an_oca_group_takes_every_type(bridge: SimulatedBridge) -> None:
    sell = {"symbol": "MSFT", "action": "SELL", "quantity": 1}
    orders = [
        sell | {"orderType": "TRAIL", "trailPercent": 30.0, "tif": "GTC"},
        sell | {"orderType": "LIT", "stopPrice": 5000.0, "limitPrice": 5000.0},
    ]
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    answer = bridge.client.post("/orders/oca", json={"orders": orders}, headers=headers)
    assert answer.status_code == 201, answer.text
    assert [each["orderType"] for each in answer.json()["orders"]] == ["TRAIL", "LIT"]


def test_currencies_are_bought_for_an_amount_of_money(bridge: SimulatedBridge) -> None:
    euro = {"symbol": "EUR", "secType": "CASH", "currency": "USD", "action": "BUY"}
    order = bridge.placed(**euro, orderType="MKT", cashQuantity=10_000)
    assert order["cashQuantity"] == 10_000
    done = soon(lambda: (found := bridge.order(order["orderId"]))["status"] == "Filled" and found)
    assert done["filled"] * done["averagePrice"] == pytest.approx(10_000, rel=0.01)
    shares: Body = FAR | {"quantity": None, "orderType": "MKT", "cashQuantity": 1000}
    assert codes(bridge.place(**shares)) == {"cash-quantity-not-supported"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"orderType": "TRAIL"}, "missing-field"),
        ({"orderType": "TRAIL", "trailAmount": 1, "trailPercent": 2}, "unexpected-field"),
        ({"orderType": "TRAIL", "trailPercent": 100}, "invalid-field"),
        ({"orderType": "TRAIL_LMT", "trailAmount": 1}, "missing-field"),
        ({"orderType": "MKT", "trailStopPrice": 5}, "unexpected-field"),
        ({"orderType": "MIT"}, "missing-field"),
        ({"orderType": "MOC", "tif": "GTC"}, "invalid-field"),
        ({"orderType": "REL", "tif": "OPG"}, "invalid-field"),
        ({"orderType": "MKT", "algo": {"strategy": "Vwap"}}, "algo-not-supported"),
        ({"orderType": "MOC", "algo": {"strategy": "Adaptive"}}, "invalid-field"),
        ({"orderType": "MKT", "conditions": [{"symbol": "SPY"}]}, "invalid-field"),
        ({"orderType": "MKT", "conditions": [{"above": 3}]}, "invalid-field"),
        ({"orderType": "MKT", "conditions": [{"after": "noon"}]}, "invalid-field"),
        ({"orderType": "MKT", "exchange": "OVERNIGHT"}, "invalid-field"),
        ({"orderType": "MKT", "goodAfterTime": "noon"}, "invalid-field"),
        ({"orderType": "MKT", "quantity": None}, "missing-field"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    bridge: SimulatedBridge, body: Body, code: str
) -> None:
    before = len(bridge.simulator.book()["requests"])
    assert code in codes(bridge.place(**(FAR | body)))
    assert len(bridge.simulator.book()["requests"]) == before


def test_a_type_that_the_contract_does_not_list_is_refused_before_it_is_sent(
    bridge: SimulatedBridge,
) -> None:
    euro: Body = {"symbol": "EUR", "secType": "CASH", "currency": "USD", "action": "BUY"}
    euro["quantity"] = 1
    answer = bridge.place(**euro, orderType="MIDPRICE")
    assert "order-type-not-supported" in codes(answer)


def test_an_order_for_the_night(bridge: SimulatedBridge) -> None:
    order = bridge.placed(**FAR, orderType="LMT", limitPrice=1.0, exchange="OVERNIGHT")
    assert (order["exchange"], order["tif"]) == ("OVERNIGHT", "DAY")


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_the_examples_of_the_page_are_taken(
    bridge: SimulatedBridge, name: str, example: str
) -> None:
    body = FAR | json.loads(example)
    preview = bridge.client.post("/order/preview", json=body)
    assert (preview.status_code, preview.json()["violations"]) == (200, []), preview.text
    dry = bridge.client.post("/order", params={"dryRun": "true"}, json=body)
    assert dry.json()["dryRun"], dry.text
    assert bridge.place(**body).status_code == 201


def test_the_page_has_an_example_of_every_type() -> None:
    assert {*KINDS, "algo", "conditions", "goodAfterTime", "OVERNIGHT"} == dict(EXAMPLES).keys()


def test_a_question_that_the_gateway_asks_before_an_order_is_shown(bridge: SimulatedBridge) -> None:
    asked = '{"8230": "NOOPENCLS", "fullText": "This order closes nothing. Send it?"}'
    question = {"direction": "to-client", "action": "rewrite", "message": 4, "where": {"3": "201"}}
    bridge.simulator.fault("wire-rewrite", rules=[question | {"set": {"5": asked}}])
    try:
        answer = bridge.place(
            symbol="SPY", action="BUY", quantity=20_000, orderType="LMT", limitPrice=590.0
        )
    finally:
        bridge.simulator.clear()
    assert (answer.status_code, answer.json()["code"]) == (422, "order-rejected"), answer.text
    assert "This order closes nothing. Send it?" in answer.json()["brokerText"]


def test_the_page_s_change_of_a_trailing_stop_is_taken(bridge: SimulatedBridge) -> None:
    [body] = re.findall(r'`(\{"trailStopPrice": [^`]*\})`', PAGE)
    bought = bridge.placed(symbol="AAPL", action="BUY", quantity=1, orderType="MKT")
    soon(lambda: bridge.has_status(bought["orderId"], "Filled"))
    order = bridge.placed(
        symbol="AAPL", action="SELL", quantity=1, orderType="TRAIL", trailPercent=60, tif="GTC"
    )
    soon(lambda: bridge.order(order["orderId"])["state"] == "acknowledged")
    answer = bridge.client.patch(f"/order/{order['orderId']}", json=json.loads(body))
    assert answer.status_code == 200, answer.text
    assert answer.json()["trailStopPrice"] >= json.loads(body)["trailStopPrice"]
    assert answer.json()["trailPercent"] == 60
    bridge.client.delete(f"/order/{order['orderId']}")
