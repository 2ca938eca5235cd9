"""Bringing positions to a size and closing them, over HTTP, at the simulator."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.bridge.orders.test_over_http import Body, SimulatedBridge, soon
from tests.bridge.rig import SimulatorProcess

RULES: Body = {"max_quantity": 100, "price_band_percent": 1, "restart_guard_seconds": 120}


@pytest.fixture
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedBridge]:
    folder = tmp_path_factory.mktemp("target")
    simulator = SimulatorProcess(folder / "simulator.log")
    made = SimulatedBridge(folder / "bridge", simulator, **RULES)
    yield made
    made.bridge.stop()
    simulator.stop()


def target(bridge: SimulatedBridge, quantity: float, key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    asked = {"symbol": "AAPL", "targetQuantity": quantity} | body
    return bridge.client.post("/order/target", json=asked, headers=headers)


def close(bridge: SimulatedBridge, key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    return bridge.client.post("/positions/close", json=body, headers=headers)


def held(bridge: SimulatedBridge, symbol: str = "AAPL") -> float:
    found = bridge.bridge.get("/positions").json()["positions"]
    return float(sum(each["quantity"] for each in found if each["symbol"] == symbol))


def reached(bridge: SimulatedBridge, quantity: float, **body: Any) -> Body:
    answer = target(bridge, quantity, **body)
    assert answer.status_code == 201, answer.text
    soon(lambda: held(bridge, body.get("symbol", "AAPL")) == quantity)
    found: Body = answer.json()
    return found


def fills(bridge: SimulatedBridge) -> float:
    """Shares that were traded in all, whatever the side."""
    return float(sum(each["quantity"] for each in bridge.simulator.book()["fills"]))


def test_the_difference_is_bought_and_sold(bridge: SimulatedBridge) -> None:
    assert reached(bridge, 30)["quantity"] == 30
    assert (reached(bridge, 50)["quantity"], fills(bridge)) == (20, 50)
    sold = reached(bridge, 20)
    assert (sold["action"], sold["quantity"]) == ("SELL", 30)
    assert reached(bridge, -10)["quantity"] == 30
    assert reached(bridge, 0)["action"] == "BUY"
    there = target(bridge, 0)
    assert (there.status_code, there.json()["reached"], fills(bridge)) == (200, True, 120)


def test_a_key_is_good_for_one_difference(bridge: SimulatedBridge) -> None:
    first = target(bridge, 30, "one-key")
    soon(lambda: held(bridge) == 30)
    reached(bridge, 10)
    again = target(bridge, 30, "one-key")
    assert again.json()["orderId"] == first.json()["orderId"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (target(bridge, 40, "one-key").status_code, held(bridge)) == (409, 10)
    nothing = target(bridge, 10, "other-key")
    reached(bridge, 5)
    assert target(bridge, 10, "other-key").json() == nothing.json()
    assert held(bridge) == 5


def test_of_many_requests_at_once_only_one_buys(bridge: SimulatedBridge) -> None:
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(target(bridge, 40))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.status_code for each in answers} <= {200, 201, 503}
    soon(lambda: held(bridge) == 40)
    assert fills(bridge) == 40


def test_what_works_counts_and_is_never_traded_against(bridge: SimulatedBridge) -> None:
    working = bridge.placed(
        symbol="AAPL", action="BUY", quantity=15, orderType="LMT", limitPrice=1.0
    )
    assert reached_more(bridge, 40) == 25
    refused = target(bridge, 10)
    assert (refused.status_code, refused.json()["code"]) == (409, "orders-in-the-way")
    assert refused.json()["orders"] == [working["orderId"]]
    sold = reached(bridge, 10, cancelOrders=True)
    assert (sold["action"], sold["quantity"]) == ("SELL", 15)
    assert bridge.order(working["orderId"])["status"] == "Cancelled"


def reached_more(bridge: SimulatedBridge, quantity: float) -> float:
    answer = target(bridge, quantity)
    assert answer.status_code == 201, answer.text
    ordered = float(answer.json()["quantity"])
    soon(lambda: held(bridge) == ordered)
    return ordered


def test_a_stop_does_not_count_and_is_not_left_behind(bridge: SimulatedBridge) -> None:
    reached(bridge, 30)
    stop = bridge.placed(symbol="AAPL", action="SELL", quantity=30, orderType="STP", stopPrice=1.0)
    reached(bridge, 40)
    refused = close(bridge, symbol="AAPL")
    [position] = refused.json()["positions"]
    assert (refused.json()["complete"], position["problem"]["code"]) == (
        False,
        "orders-in-the-way",
    )
    done = close(bridge, symbol="AAPL", cancelOrders=True)
    assert done.json()["complete"], done.text
    soon(lambda: held(bridge) == 0)
    assert bridge.order(stop["orderId"])["status"] == "Cancelled"


def test_all_positions_are_closed_once(bridge: SimulatedBridge) -> None:
    reached(bridge, 20)
    reached(bridge, -15, symbol="MSFT")
    first = close(bridge, "close-key", all=True)
    assert first.json()["complete"], first.text
    assert {each["symbol"]: each["order"]["action"] for each in first.json()["positions"]} == {
        "AAPL": "SELL",
        "MSFT": "BUY",
    }
    soon(lambda: held(bridge) == 0 and held(bridge, "MSFT") == 0)
    reached(bridge, 5)
    assert close(bridge, "close-key", all=True).json() == first.json()
    assert held(bridge) == 5
    refused = close(bridge)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "all")
    absent: list[Body] = [
        {"symbol": "APPL"},
        {"symbol": "AAPL", "account": "DU7"},
        {"strategy": "gone"},
        {"conId": 1},
        {"all": True, "account": "DU7"},
    ]
    for named in [*absent, *(each | {"all": True} for each in absent)]:
        missed = close(bridge, **named)
        assert (missed.status_code, missed.json()["code"]) == (404, "no-position"), named
    assert held(bridge) == 5
    assert close(bridge, "last-key", symbol="AAPL").json()["complete"]
    soon(lambda: held(bridge) == 0)
    assert close(bridge, "last-key", symbol="AAPL").json()["positions"][0]["symbol"] == "AAPL"
    assert close(bridge, symbol="AAPL").status_code == 404
    assert close(bridge, all=True).json() == {"complete": True, "positions": []}


def test_what_an_order_still_opens_is_not_said_to_be_gone(bridge: SimulatedBridge) -> None:
    """Nothing is held, but would be by the next fill: whoever closes it is told, and can cancel."""
    far = {"orderType": "LMT", "limitPrice": 1.0, "roundToTick": True}  # far below the market
    entry = bridge.placed(symbol="AAPL", action="BUY", quantity=5, **far)
    assert close(bridge, symbol="APPL").status_code == 404
    assert close(bridge, all=True).json() == {"complete": True, "positions": []}
    for named in ({"symbol": "AAPL"}, {"conId": entry["conId"]}):
        told = close(bridge, "one-key" + str(named), **named).json()
        (one,) = told["positions"]
        assert (told["complete"], one["position"]) == (False, 0), told
        assert one["problem"]["code"] == "orders-in-the-way"
        assert entry["orderId"] in str(one["problem"])
    gone = close(bridge, symbol="AAPL", cancelOrders=True).json()
    assert (gone["complete"], gone["positions"][0]["cancelled"]) == (True, [entry["orderId"]])
    soon(lambda: bridge.order(entry["orderId"])["status"] == "Cancelled")
    assert close(bridge, "one-key" + str({"symbol": "AAPL"}), symbol="AAPL").status_code == 404
    stop = bridge.placed(symbol="AAPL", action="SELL", quantity=5, orderType="STP", stopPrice=1.0)
    assert close(bridge, symbol="AAPL").status_code == 404, stop  # opens nothing by itself
    assert fills(bridge) == 0


def test_closing_is_bound_by_the_position_and_not_by_limits(bridge: SimulatedBridge) -> None:
    for _ in range(2):
        bridge.placed(symbol="AAPL", action="BUY", quantity=100, orderType="MKT")
    soon(lambda: held(bridge) == 200)
    assert target(bridge, 350).status_code == 422  # max_quantity is 100
    far = {"orderType": "LMT", "limitPrice": 1.0, "roundToTick": True}  # far through the market
    order = reached(bridge, 0, **far)
    assert (order["action"], order["quantity"]) == ("SELL", 200)
    assert target(bridge, -150).status_code == 422


def test_while_halted_only_what_closes_passes(bridge: SimulatedBridge) -> None:
    reached(bridge, 20)
    bridge.client.post("/trading/halt", json={"reason": "test", "allowClosing": True})
    assert target(bridge, 30).status_code == 423
    assert reached(bridge, 5)["quantity"] == 15


def spread(bridge: SimulatedBridge) -> Body:
    """A vertical of SPY, as the fields of an order."""
    chain = bridge.bridge.get("/options/chain", symbol="SPY").json()
    day = next(each["expiration"] for each in chain["expirations"] if each["dte"] > 20)
    middle = len(chain["strikes"]) // 2
    leg = {"symbol": "SPY", "secType": "OPT", "expiration": day, "right": "C"}
    legs = [
        leg | {"action": "BUY", "strike": chain["strikes"][middle]},
        leg | {"action": "SELL", "strike": chain["strikes"][middle + 2]},
    ]
    body = {"symbol": "SPY", "secType": "BAG", "legs": legs, "orderType": "LMT", "quantity": 2}
    priced = body | {"action": "BUY", "limitPrice": 0.01}
    market = bridge.client.post("/order/preview", json=priced).json()["referencePrice"]
    return priced | {"limitPrice": round(market + 0.1, 2)}


def strategies(bridge: SimulatedBridge) -> list[Body]:
    found: list[Body] = bridge.bridge.get("/positions", group="strategy").json()["strategies"]
    return found


def test_what_was_opened_as_one_is_shown_and_closed_as_one(bridge: SimulatedBridge) -> None:
    order = bridge.placed(**spread(bridge))
    reached(bridge, 5)
    soon(lambda: bridge.has_status(order["orderId"], "Filled"))
    whole = soon(lambda: [each for each in strategies(bridge) if len(each["legs"]) == 2])[0]
    assert (whole["units"], whole["closingAction"], whole["underlying"]) == (2, "SELL", "SPY")
    assert sorted(each["ratio"] for each in whole["legs"]) == [-1, 1]
    known = soon(
        lambda: (
            (found := strategies(bridge)[1])["delta"] is not None
            and found["marketPrice"] is not None
            and found
        )
    )
    assert known["id"] == whole["id"]
    assert 0 < known["delta"] < 200  # of 200 shares, the bought call's more than the sold one's
    assert known["averagePrice"] * 200 == pytest.approx(known["costBasis"], abs=0.01)
    options = [each for each in bridge.bridge.get("/positions").json()["positions"] if each["dte"]]
    assert all(each["vega"] > 0 > each["theta"] for each in options)
    assert all(each["greeksTag"] and each["greeksAge"] < 30 for each in options)

    closed = close(bridge, "as-one", strategy=whole["id"])
    [done] = closed.json()["positions"]
    assert (closed.json()["complete"], done["strategy"]) == (True, whole["id"]), closed.text
    assert (done["order"]["secType"], done["order"]["quantity"]) == ("BAG", 2)
    soon(lambda: held(bridge, "SPY") == 0 and len(strategies(bridge)) == 1)
    assert held(bridge) == 5
    assert close(bridge, "as-one", strategy=whole["id"]).json() == closed.json()
    assert len(bridge.bridge.get("/orders", open="false").json()["orders"]) == 3
