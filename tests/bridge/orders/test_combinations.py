"""Combinations of two to four legs, over HTTP, at the simulator."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.model import Contract, ContractDetails
from bridge.orders.combination import explained, most_lost
from bridge.orders.risk_context import PricedLeg
from tests.bridge.orders.test_order_types import codes
from tests.bridge.orders.test_over_http import Body, SimulatedBridge, soon
from tests.bridge.rig import SimulatorProcess


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedBridge]:
    folder = tmp_path_factory.mktemp("combinations")
    simulator = SimulatorProcess(folder / "simulator.log")
    made = SimulatedBridge(folder / "bridge", simulator, max_notional=None, max_contracts=40)
    yield made
    made.bridge.stop()
    simulator.stop()


@pytest.fixture(scope="module")
def chain(bridge: SimulatedBridge) -> tuple[str, str, list[float]]:
    """Two expirations of SPY, and strikes around the money."""
    found = bridge.bridge.get("/options/chain", symbol="SPY").json()
    days = [each["expiration"] for each in found["expirations"] if each["dte"] > 20]
    middle = len(found["strikes"]) // 2
    return days[0], days[1], found["strikes"][middle - 3 : middle + 3]


def leg(action: str, right: str, strike: float, day: str, ratio: int = 1) -> Body:
    return {
        "symbol": "SPY",
        "secType": "OPT",
        "action": action,
        "right": right,
        "strike": strike,
        "expiration": day,
        "ratio": ratio,
    }


def combination(action: str, quantity: int, *legs: Body, **more: Any) -> Body:
    head = {"symbol": "SPY", "secType": "BAG", "action": action, "quantity": quantity}
    return head | {"legs": list(legs), "orderType": "LMT"} | more


def preview(bridge: SimulatedBridge, body: Body) -> Body:
    answer = bridge.client.post("/order/preview", json=body)
    assert answer.status_code == 200, answer.text
    found: Body = answer.json()
    return found


def market(bridge: SimulatedBridge, body: Body) -> float:
    """What the combination costs at the market, on the order's side."""
    return float(preview(bridge, body | {"limitPrice": 0.0})["referencePrice"])


def kinds(chain: tuple[str, str, list[float]]) -> dict[str, list[Body]]:
    near, far, strikes = chain
    low, high = strikes[1], strikes[4]
    stock = {"symbol": "SPY", "action": "BUY", "ratio": 100}
    return {
        "vertical": [leg("BUY", "C", low, near), leg("SELL", "C", high, near)],
        "calendar": [leg("BUY", "C", low, far), leg("SELL", "C", low, near)],
        "straddle": [leg("BUY", "C", low, near), leg("BUY", "P", low, near)],
        "covered call": [stock, leg("SELL", "C", high, near)],
        "butterfly": [
            leg("BUY", "C", strikes[1], near),
            leg("SELL", "C", strikes[2], near, 2),
            leg("BUY", "C", strikes[3], near),
        ],
        "condor": [
            leg("BUY", "P", strikes[0], near),
            leg("SELL", "P", strikes[1], near),
            leg("SELL", "C", strikes[4], near),
            leg("BUY", "C", strikes[5], near),
        ],
    }


@pytest.mark.parametrize(
    "kind", ["vertical", "calendar", "straddle", "covered call", "butterfly", "condor"]
)
def test_each_is_filled_leg_by_leg_and_as_a_whole(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]], kind: str
) -> None:
    legs = kinds(chain)[kind]
    body = combination("BUY", 2 if kind != "covered call" else 1, *legs)
    price = round(market(bridge, body) + 0.05, 2)
    order = bridge.placed(**(body | {"limitPrice": price}))
    assert [each["ratio"] for each in order["comboLegs"]] == [each["ratio"] for each in legs]
    done = soon(
        lambda: (
            (found := bridge.order(order["orderId"]))["status"] == "Filled"
            and len(found["fills"]) == 1 + len(legs)
            and all(each["commission"] for each in found["fills"][1:])
            and found
        )
    )
    whole, *parts = done["fills"]
    assert (done["filled"], whole["secType"], whole["quantity"]) == (
        order["quantity"],
        "BAG",
        order["quantity"],
    )
    assert whole["averagePrice"] <= price
    assert whole["commission"] is None
    for asked, part in zip(legs, parts, strict=True):
        assert part["side"] == asked["action"]
        assert part["quantity"] == asked["ratio"] * order["quantity"]
    money = sum(
        (1 if part["side"] == "BUY" else -1)
        * part["quantity"]
        * part["averagePrice"]
        * (100 if part["secType"] == "OPT" else 1)
        for part in parts
    )
    paid = whole["averagePrice"] * 100 * order["quantity"]
    assert money == pytest.approx(paid, abs=0.01)


def test_parts_of_it_are_filled_leg_by_leg(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    near, _, strikes = chain
    legs = [leg("BUY", "P", strikes[3], near), leg("SELL", "P", strikes[1], near, 2)]
    body = combination("BUY", 20, *legs)  # the simulator shows at most 20 of each leg
    price = round(market(bridge, body) + 0.2, 2)
    order = bridge.placed(**(body | {"limitPrice": price}))

    def agree() -> bool:
        found = bridge.order(order["orderId"])
        if not found["fills"]:
            return False
        whole, *parts = found["fills"]
        counts = [each["quantity"] for each in parts]
        return len(parts) == 2 and counts == [whole["quantity"], 2 * whole["quantity"]]

    soon(lambda: bridge.has_status(order["orderId"], "Filled") and agree())
    rows = [each for each in bridge.executions(symbol="SPY") if each["orderId"] == order["orderId"]]
    assert {each["secType"] for each in rows} == {"BAG", "OPT"}
    wholes = [each for each in rows if each["secType"] == "BAG"]
    assert len(rows) == 3 * len(wholes) > 3


def test_the_example_of_the_page_is_taken(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    page = (Path(__file__).parents[3] / "docs/orders.md").read_text()
    [example] = re.findall(r"```json\n(\{[^`]*\"BAG\"[^`]*)```", page)
    near, _, strikes = chain
    body = json.loads(example)
    for each, strike in zip(body["legs"], (strikes[1], strikes[4]), strict=True):
        each |= {"expiration": near, "strike": strike}
    assert preview(bridge, body)["net"] == "you receive 1.20 a unit, 120.00 USD in all"
    bridge.placed(**body)


def test_one_that_rests_is_changed_and_cancelled(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    body = combination("BUY", 1, *kinds(chain)["vertical"], limitPrice=0.01, tif="GTC")
    order = bridge.placed(**body)
    soon(lambda: bridge.order(order["orderId"])["state"] == "acknowledged")
    answer = bridge.client.patch(f"/order/{order['orderId']}", json={"limitPrice": 0.02})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["limitPrice"], len(answer.json()["comboLegs"])) == (0.02, 2)
    gone = bridge.client.delete(f"/order/{order['orderId']}")
    assert gone.json()["status"] == "Cancelled"


def test_the_preview_says_what_is_received_and_what_can_be_lost(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    near, _, strikes = chain
    low, high = strikes[1], strikes[4]
    credit = combination(
        "BUY", 3, leg("SELL", "C", low, near), leg("BUY", "C", high, near), limitPrice=-1.2
    )
    shown = preview(bridge, credit)
    assert shown["net"] == "you receive 1.20 a unit, 360.00 USD in all"
    assert shown["maxLoss"] == pytest.approx(3 * ((high - low) * 100 - 120))
    assert shown["referencePrice"] < 0 < shown["notional"]
    assert shown["initMarginChange"] is not None
    same = combination(
        "SELL", 3, leg("BUY", "C", low, near), leg("SELL", "C", high, near), limitPrice=1.2
    )
    assert preview(bridge, same)["net"] == shown["net"]
    assert preview(bridge, same)["maxLoss"] == shown["maxLoss"]
    naked = combination("SELL", 1, *kinds(chain)["straddle"], limitPrice=20.0)
    assert preview(bridge, naked)["maxLoss"] is None


def refused(bridge: SimulatedBridge, body: Body) -> httpx.Response:
    before = len(bridge.simulator.book()["requests"])
    answer = bridge.place(**body)
    assert len(bridge.simulator.book()["requests"]) == before
    return answer


def test_what_is_no_combination_is_refused(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    near, _, strikes = chain
    one = leg("BUY", "C", strikes[0], near)
    two = leg("SELL", "C", strikes[1], near)
    price = {"limitPrice": 1.0}
    assert codes(refused(bridge, combination("BUY", 1, one, **price))) == {"invalid-field"}
    assert codes(refused(bridge, combination("BUY", 1, one, one, **price))) == {"invalid-field"}
    five = combination("BUY", 1, *([one, two] * 2), one, **price)
    assert codes(refused(bridge, five)) == {"invalid-field"}
    trailing = combination("BUY", 1, one, two, orderType="TRAIL", trailAmount=1.0)
    assert codes(refused(bridge, trailing)) == {"invalid-field"}
    stock = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}
    assert codes(refused(bridge, stock | {"legs": [one, two]})) == {"unexpected-field"}
    other = combination("BUY", 1, one, {"symbol": "AAPL", "action": "SELL"}, **price)
    assert codes(refused(bridge, other)) == {"invalid-field"}


def test_limits_hold_for_the_gross_of_the_legs(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    near, _, strikes = chain
    legs = (leg("BUY", "C", strikes[1], near), leg("SELL", "C", strikes[2], near))
    body = combination("BUY", 11, *legs, limitPrice=0.05)
    shown = preview(bridge, combination("BUY", 1, *legs, limitPrice=0.05))
    assert shown["notional"] > 100 * 0.05  # the net is next to nothing
    many = combination(
        "BUY",
        21,
        leg("BUY", "C", strikes[1], near),
        leg("SELL", "C", strikes[2], near, 2),
        limitPrice=-20.0,
    )
    assert codes(refused(bridge, many)) >= {"max-contracts"}
    at_any_price = body | {"orderType": "MKT", "limitPrice": None}
    assert "market-order-on-option" in codes(refused(bridge, at_any_price))


def priced(right: str | None, strike: float | None, sign: int, ratio: int = 1) -> PricedLeg:
    contract = Contract(symbol="SPY", sec_type="STK")
    if right is not None:
        contract = Contract(
            symbol="SPY",
            sec_type="OPT",
            right=right,  # type: ignore[arg-type]
            strike=strike,
            expiration="20261218",
            multiplier="100",
        )
    return PricedLeg(details=ContractDetails(contract=contract), ratio=ratio, sign=sign)


@pytest.mark.parametrize(
    ("legs", "action", "price", "lost"),
    [
        ([priced("C", 100, 1), priced("C", 105, -1)], "BUY", 2.0, 200.0),
        ([priced("C", 100, 1), priced("C", 105, -1)], "SELL", 2.0, 300.0),
        ([priced("P", 100, -1), priced("P", 95, 1)], "BUY", -1.5, 350.0),
        ([priced("C", 100, 1), priced("P", 100, 1)], "BUY", 7.0, 700.0),
        ([priced("C", 100, 1), priced("P", 100, 1)], "SELL", 7.0, None),
        ([priced(None, None, 1, 100), priced("C", 110, -1)], "BUY", 98.0, 9800.0),
        ([priced("C", 100, 1), priced("C", 105, -1, 2)], "BUY", 1.0, None),
    ],
)
def test_what_can_be_lost(
    legs: list[PricedLeg], action: str, price: float, lost: float | None
) -> None:
    assert most_lost(legs, action, price, 100.0) == lost


def test_a_price_in_words() -> None:
    assert explained("BUY", 1.25, 2, 100, "USD") == "you pay 1.25 a unit, 250.00 USD in all"
    assert explained("SELL", 1.25, 2, 100, "USD") == "you receive 1.25 a unit, 250.00 USD in all"
    assert explained("BUY", 0.0, 2, 100, "USD").startswith("even")


def quoted(bridge: SimulatedBridge, *legs: str, symbol: str = "SPY") -> httpx.Response:
    return bridge.bridge.get("/options/quotes", symbol=symbol, legs=",".join(legs))


def test_a_combination_is_quoted_from_its_legs(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    near, _, strikes = chain
    low, high = strikes[1], strikes[4]
    legs = [f"SELL:{near}:{low:g}:C", f"BUY:{near}:{high:g}:C"]
    credit = quoted(bridge, *legs).json()
    assert credit["bid"] <= credit["mid"] <= credit["ask"] < 0
    assert credit["mid"] == pytest.approx((credit["bid"] + credit["ask"]) / 2, abs=1e-5)
    assert credit["toBuy"].startswith(f"you receive {-credit['ask']:.2f} a unit")
    assert credit["toSell"].startswith(f"you pay {-credit['bid']:.2f} a unit")
    sold, bought = (each["quote"] for each in credit["legs"])
    at_the_market = bought["ask"]["value"] - sold["bid"]["value"]
    assert credit["ask"] == pytest.approx(at_the_market, abs=1e-6)
    assert (credit["tag"], credit["failed"]) == ("live", [])
    assert credit["age"] >= max(sold["bid"]["age"], bought["ask"]["age"])
    body = combination("BUY", 1, leg("SELL", "C", low, near), leg("BUY", "C", high, near))
    assert market(bridge, body) == pytest.approx(credit["ask"], abs=0.2)

    numbers = [each["conId"] for each in credit["legs"]]
    debit = quoted(bridge, f"BUY:{numbers[0]}", f"SELL:{numbers[1]}").json()
    assert 0 < debit["bid"] <= debit["ask"]
    assert debit["toBuy"].startswith("you pay")
    known = soon(
        lambda: (
            (found := quoted(bridge, f"BUY:{numbers[0]}:2", f"SELL:{numbers[1]}").json())["delta"]
            and found
        )
    )
    deltas = [each["quote"]["delta"]["value"] for each in known["legs"]]
    assert known["delta"] == pytest.approx(2 * deltas[0] - deltas[1], abs=1e-5)
    assert [each["ratio"] for each in known["legs"]] == [2, 1]


@pytest.mark.parametrize(
    "legs",
    [
        ("SELL:20271217:590:C",),
        ("SELL:20271217:590:C", "HOLD:20271217:595:C"),
        ("SELL:20271217:590:X", "BUY:20271217:595:C"),
        ("BUY:1",) * 5,
    ],
)
def test_what_is_no_combination_is_not_quoted(
    bridge: SimulatedBridge, legs: tuple[str, ...]
) -> None:
    answer = quoted(bridge, *legs)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "legs")


def test_a_leg_twice_is_no_combination(
    bridge: SimulatedBridge, chain: tuple[str, str, list[float]]
) -> None:
    near, _, strikes = chain
    answer = quoted(bridge, *[f"BUY:{near}:{strikes[2]:g}:P"] * 2)
    assert (answer.status_code, "the same" in answer.text) == (422, True)
