"""The order routes as an app meets them: real simulator, real bridge, HTTP."""

from __future__ import annotations

import csv
import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess

Body = dict[str, Any]


class SimulatedBridge:
    """A bridge over a simulator."""

    def __init__(
        self, folder: Path, simulator: SimulatorProcess, *, state: str = "ready", **rules: Any
    ) -> None:
        folder.mkdir(exist_ok=True)
        file = folder / "trading.json"
        file.write_text(json.dumps(rules))
        self.simulator = simulator
        self.bridge = BridgeProcess(folder, simulator.port, BRIDGE_TRADING_FILE=str(file))
        self.bridge.wait_for(state)
        self.client = self.bridge.client

    def place(self, key: str = "", **body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.client.post("/order", json=body, headers=headers)

    def placed(self, **body: Any) -> Body:
        answer = self.place(**body)
        assert answer.status_code == 201, answer.text
        found: Body = answer.json()
        return found

    def order(self, order_id: str) -> Body:
        answer = self.bridge.get(f"/order/{order_id}")
        assert answer.status_code == 200, answer.text
        found: Body = answer.json()
        return found

    def has_status(self, order_id: str, status: str) -> bool:
        return bool(self.order(order_id)["status"] == status)

    def paid(self, count: int, **params: Any) -> bool:
        """Whether so many fills are there, and nothing is to come of any."""
        found = self.executions(**params)
        return len(found) >= count and all(each["commission"] is not None for each in found)

    def executions(self, **params: Any) -> list[Body]:
        answer = self.bridge.get("/executions", **params)
        assert answer.status_code == 200, answer.text
        found: list[Body] = answer.json()["executions"]
        return found

    def booked(self, order_id: str) -> list[Body]:
        reference = self.order(order_id)["orderRef"]
        return [each for each in self.simulator.book()["orders"] if each["orderRef"] == reference]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedBridge]:
    folder = tmp_path_factory.mktemp("orders")
    simulator = SimulatorProcess(folder / "simulator.log")
    made = SimulatedBridge(folder / "bridge", simulator, max_quantity=100)
    yield made
    made.bridge.stop()
    simulator.stop()


def soon(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return value


RESTING: Body = {
    "symbol": "AAPL",
    "action": "BUY",
    "quantity": 1,
    "orderType": "LMT",
    "limitPrice": 1.0,
}


def test_a_limit_buy_far_below_the_market_stays_submitted(simulated: SimulatedBridge) -> None:
    answer = simulated.place(**RESTING)
    assert answer.status_code == 201
    order = answer.json()
    assert order["status"] in {"PreSubmitted", "Submitted"}
    assert answer.headers["Location"] == f"/order/{order['orderId']}"
    soon(partial(simulated.has_status, order["orderId"], "Submitted"))
    time.sleep(0.5)
    assert simulated.order(order["orderId"])["status"] == "Submitted"
    listed = simulated.bridge.get("/orders", open="true").json()["orders"]
    assert order["orderId"] in {each["orderId"] for each in listed}


def test_a_market_buy_fills_and_shows_in_executions(simulated: SimulatedBridge) -> None:
    order = simulated.placed(symbol="MSFT", action="BUY", quantity=2, orderType="MKT")

    def mine() -> list[Body]:
        found = simulated.executions(symbol="MSFT")
        return [each for each in found if each["orderId"] == order["orderId"]]

    soon(lambda: sum(each["quantity"] for each in mine()) == 2)
    soon(lambda: all(each["commission"] is not None for each in mine()))
    assert {(each["side"], each["symbol"], each["secType"]) for each in mine()} == {
        ("BUY", "MSFT", "STK")
    }
    done = simulated.order(order["orderId"])
    assert (done["status"], done["filled"], done["remaining"]) == ("Filled", 2, 0)


def test_a_limit_sell_of_an_option_resolves_its_contract(simulated: SimulatedBridge) -> None:
    chain = simulated.bridge.get("/options/chain", symbol="AAPL").json()
    later = next(each for each in chain["expirations"] if each["dte"] > 20)
    strike = chain["strikes"][len(chain["strikes"]) // 2]
    option = {
        "symbol": "AAPL",
        "secType": "OPT",
        "expiration": later["expiration"],
        "strike": strike,
        "right": "C",
        "action": "SELL",
        "quantity": 1,
    }
    order = simulated.placed(**option, orderType="LMT", limitPrice=500.0)
    assert (order["secType"], order["multiplier"], order["strike"]) == ("OPT", "100", strike)
    assert order["conId"] > 0
    refused = simulated.place(**option, orderType="MKT")
    assert refused.status_code == 422
    codes = {each["code"] for each in refused.json()["violations"]}
    assert "market-order-on-option" in codes
    unknown = simulated.place(**(option | {"strike": 3.33}), orderType="LMT", limitPrice=500.0)
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown-contract")


def test_the_same_key_is_one_order(simulated: SimulatedBridge) -> None:
    first = simulated.place("one-key", **RESTING)
    second = simulated.place("one-key", **RESTING)
    assert second.json() == first.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    other = simulated.place("one-key", **(RESTING | {"quantity": 2}))
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")
    assert len(simulated.booked(first.json()["orderId"])) == 1


def test_a_key_is_needed(simulated: SimulatedBridge) -> None:
    answer = simulated.client.post("/order", json=RESTING)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-required")


def test_every_violation_comes_at_once_with_its_code(simulated: SimulatedBridge) -> None:
    answer = simulated.place(
        symbol="AAPL", action="BUY", quantity=500, orderType="LMT", limitPrice=900.001
    )
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "order-refused")
    assert answer.headers["Content-Type"] == "application/problem+json"
    codes = {each["code"] for each in problem["violations"]}
    assert {"max-quantity", "max-notional", "price-band", "price-off-tick"} <= codes


@pytest.mark.parametrize(
    "body",
    [
        RESTING | {"action": "HOLD"},
        RESTING | {"quantity": "1"},
        RESTING | {"orderType": "MAGIC"},
        RESTING | {"limitprice": 1.0},
        {"symbol": "AAPL"},
        RESTING | {"expiration": "20260619"},
    ],
)
def test_malformed_orders_are_refused(simulated: SimulatedBridge, body: Body) -> None:
    answer = simulated.place(**body)
    assert answer.status_code == 422
    assert answer.json()["code"] in {"invalid-request", "order-refused"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "missing"),
        (b"{", "malformed"),
        (b'{"symbol": 1, ', "malformed"),
        (b'{"symbol": NaN}', "malformed"),
        (b'["AAPL"]', "invalid"),
        (b'{"symbol": "\xff"}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (
            b'{"symbol":"AAPL","action":"BUY","quantity":1,"quantity":99,'
            b'"orderType":"LMT","limitPrice":1}',
            "repeated",
        ),
        (
            b'{"symbol":"AAPL","action":"BUY","quantity":1,"orderType":"LMT","limitPrice":1,'
            b'"bracket":{"takeProfit":{"limitPrice":2,"limitPrice":3}}}',
            "repeated",
        ),
    ],
)
def test_bodies_that_are_not_one_clear_order(
    simulated: SimulatedBridge, body: bytes, code: str
) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
    answer = simulated.client.post("/order", content=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid-request"), answer.text
    assert code in {each["code"] for each in problem["errors"]}


def test_a_nul_never_reaches_the_gateway(simulated: SimulatedBridge) -> None:
    before = len(simulated.simulator.book()["orders"])
    for name in ("symbol", "exchange", "currency", "account", "ocaGroup", "goodTillDate"):
        answer = simulated.place(**(RESTING | {name: "X\0U7654321"}))
        assert answer.status_code == 422, (name, answer.text)
    assert simulated.bridge.get("/contracts", symbol="AA\0PL").status_code == 422
    assert len(simulated.simulator.book()["orders"]) == before
    assert simulated.bridge.get("/ready").status_code == 200


def test_modify_and_cancel(simulated: SimulatedBridge) -> None:
    order = simulated.placed(**RESTING)
    path = f"/order/{order['orderId']}"
    changed = simulated.client.patch(path, json={"limitPrice": 1.5, "quantity": 3})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["limitPrice"], changed.json()["quantity"]) == (1.5, 3)
    (booked,) = simulated.booked(order["orderId"])
    assert (booked["limitPrice"], booked["quantity"]) == (1.5, 3)
    cancelled = simulated.client.delete(path)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "Cancelled")
    assert simulated.client.delete(path).json()["status"] == "Cancelled"
    late = simulated.client.patch(path, json={"limitPrice": 2.0})
    assert (late.status_code, late.json()["code"]) == (409, "order-not-open")
    assert simulated.bridge.get("/order/nobody").status_code == 404


def test_a_bracket_and_an_oca_group(simulated: SimulatedBridge) -> None:
    bracket = {"takeProfit": {"limitPrice": 900.0}, "stopLoss": {"stopPrice": 0.5}}
    order = simulated.placed(**RESTING, bracket=bracket)
    assert [leg["role"] for leg in order["legs"]] == ["take-profit", "stop-loss"]
    entry = simulated.booked(order["orderId"])[0]
    for leg in order["legs"]:
        assert simulated.booked(leg["orderId"])[0]["parentPermId"] == entry["permId"]
    assert simulated.client.delete(f"/order/{order['orderId']}").status_code == 200
    for leg in order["legs"]:
        soon(partial(simulated.has_status, leg["orderId"], "Cancelled"))

    filling = {"symbol": "MSFT", "action": "BUY", "quantity": 1, "orderType": "MKT"}
    asked = {"orders": [RESTING, filling]}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    group = simulated.client.post("/orders/oca", json=asked, headers=headers)
    assert group.status_code == 201, group.text
    first, second = group.json()["orders"]
    assert first["ocaGroup"] == second["ocaGroup"]
    soon(partial(simulated.has_status, second["orderId"], "Filled"))
    soon(partial(simulated.has_status, first["orderId"], "Cancelled"))


def test_dry_run_and_preview_send_nothing(simulated: SimulatedBridge) -> None:
    before = len(simulated.simulator.book()["orders"])
    dry = simulated.client.post("/order", params={"dryRun": "true"}, json=RESTING)
    assert (dry.status_code, dry.json()["dryRun"]) == (200, True)
    preview = simulated.client.post("/order/preview", json=RESTING)
    assert preview.status_code == 200, preview.text
    assert preview.json()["commission"] is not None
    assert preview.json()["initMarginChange"] is not None
    assert len(simulated.simulator.book()["orders"]) == before
    order = simulated.placed(**RESTING)  # the number that the preview used up is no obstacle
    assert order["status"] in {"PreSubmitted", "Submitted"}


def test_csv_by_parameter_and_by_accept(simulated: SimulatedBridge) -> None:
    order = simulated.placed(symbol="NVDA", action="BUY", quantity=1, orderType="MKT")
    soon(lambda: simulated.paid(1, symbol="NVDA"))
    plain = simulated.bridge.get("/executions", symbol="NVDA", format="csv")
    asked = simulated.client.get(
        "/executions", params={"symbol": "NVDA"}, headers={"Accept": "text/csv, */*"}
    )
    assert plain.headers["Content-Type"].startswith("text/csv")
    assert plain.text == asked.text
    rows = list(csv.DictReader(io.StringIO(plain.text)))
    assert rows[0]["orderId"] == order["orderId"]
    wrong = simulated.bridge.get("/executions", since="yesterday")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid-request")
    assert simulated.executions(since="2099-01-01T00:00:00Z") == []
    assert simulated.executions(until="2001-01-01") == []


def test_pages_of_executions(simulated: SimulatedBridge) -> None:
    for _ in range(3):
        simulated.placed(symbol="SPY", action="BUY", quantity=1, orderType="MKT")
    soon(lambda: simulated.paid(3, symbol="SPY") and simulated.paid(3))
    seen: list[str] = []
    cursor = ""
    while True:
        page = simulated.bridge.get("/executions", limit=1, cursor=cursor, symbol="SPY").json()
        seen += [each["execId"] for each in page["executions"]]
        if page["nextCursor"] is None:
            break
        cursor = page["nextCursor"]
    assert seen == [each["execId"] for each in simulated.executions(symbol="SPY")]
    changes = page["changesCursor"]
    assert simulated.bridge.get("/executions", cursor=changes).json()["executions"] == []


def test_the_kill_switch_over_http(simulated: SimulatedBridge) -> None:
    order = simulated.placed(**RESTING)
    halted = simulated.client.post(
        "/trading/halt", json={"reason": "test", "cancelOpenOrders": True}
    )
    assert halted.status_code == 200
    told = halted.json()["cancelled"]  # what a busy machine has not sent yet follows by itself
    assert order["orderId"] in [*told["requested"], *told["queued"]]
    try:
        refused = simulated.place(**RESTING)
        assert (refused.status_code, refused.json()["code"]) == (423, "trading-halted")
        assert simulated.bridge.health()["state"] == "halted"
        assert simulated.bridge.get("/trading/halt").json()["reason"] == "test"
        soon(lambda: simulated.order(order["orderId"])["status"] == "Cancelled")
    finally:
        assert simulated.client.delete("/trading/halt").json()["halted"] is False
    assert simulated.place(**RESTING).status_code == 201


def test_scopes_of_the_order_routes(simulated: SimulatedBridge) -> None:
    keys = {
        scope: simulated.client.post("/keys", json={"label": scope, "scope": scope}).json()["key"]
        for scope in ("read", "trade")
    }

    def status(scope: str, method: str, path: str, body: Body | None = None) -> int:
        headers = {"X-API-KEY": keys[scope], "Idempotency-Key": str(uuid.uuid4())}
        url = simulated.bridge.url + path
        return httpx.request(
            method, url, json=body, headers=headers, timeout=20, trust_env=False
        ).status_code

    assert status("read", "POST", "/order", RESTING) == 403
    assert status("read", "GET", "/orders") == 200
    assert status("read", "GET", "/executions") == 200
    assert status("trade", "POST", "/order", RESTING) == 201
    assert status("trade", "GET", "/audit") == 403
    assert status("trade", "DELETE", "/trading/halt") == 403

    def audited() -> Any:  # an entry of what was refused may follow the answer
        found = simulated.bridge.get("/audit").json()["entries"]
        return found if found[0]["action"] == "DELETE /trading/halt" else None

    entries = soon(audited)
    assert entries[0]["result"] == "forbidden"
    assert entries[1]["action"] == "order.place"
    assert entries[1]["apiKeyId"] != "admin-key-file"
    text = json.dumps(entries)
    assert not any(key in text for key in (*keys.values(), ADMIN_KEY))


def test_orders_and_executions_reach_the_stream(simulated: SimulatedBridge) -> None:
    address = simulated.bridge.url.replace("http", "ws", 1) + "/stream"
    headers = {"X-API-KEY": ADMIN_KEY}
    with connect(address, additional_headers=headers, proxy=None) as stream:
        for channel in ("orders", "executions"):
            stream.send(json.dumps({"op": "subscribe", "channel": channel}))
            while json.loads(stream.recv(timeout=15))["type"] != "subscribed":
                pass
        order = simulated.placed(symbol="AAPL", action="BUY", quantity=1, orderType="MKT")
        heard: set[str] = set()
        while heard != {"orders", "executions"}:
            message = stream.recv(timeout=15)
            if order["orderId"] in str(message):
                kind = json.loads(message)["type"]
                heard.add("orders" if kind.startswith("order") else "executions")


def test_a_restart_keeps_halt_orders_and_answers(tmp_path: Path) -> None:
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    try:
        first = SimulatedBridge(tmp_path / "bridge", simulator)
        answer = first.place("over the restart", **RESTING)
        first.client.post("/trading/halt", json={})
        assert first.bridge.stop() == 0
        second = SimulatedBridge.__new__(SimulatedBridge)
        second.simulator = simulator
        second.bridge = BridgeProcess(tmp_path / "bridge", simulator.port)
        second.client = second.bridge.client
    except BaseException:
        simulator.stop()
        raise
    try:
        second.bridge.wait_for("halted")
        again = second.place("over the restart", **RESTING)
        assert again.json() == answer.json()
        assert second.place("another", **RESTING).status_code == 423
        assert len(simulator.book()["orders"]) == 1
    finally:
        second.bridge.stop()
        simulator.stop()


@pytest.mark.parametrize("wanted", [False, True])
def test_a_gateway_that_is_read_only_is_read_and_not_ready_for_orders_unless_that_is_wanted(
    tmp_path: Path, wanted: bool
) -> None:
    rules = tmp_path / "trading.json"
    rules.write_text(json.dumps({"gateway_read_only": wanted}))
    simulator = SimulatorProcess(tmp_path / "simulator.log", "--read-only")
    bridge = BridgeProcess(tmp_path / "bridge", simulator.port, BRIDGE_TRADING_FILE=str(rules))
    simulated = SimulatedBridge.__new__(SimulatedBridge)
    simulated.simulator, simulated.bridge, simulated.client = simulator, bridge, bridge.client
    try:
        bridge.wait_for("ready" if wanted else "read-only")
        assert simulated.bridge.get("/quote/AAPL").status_code == 200
        ready = simulated.bridge.get("/ready")
        assert ready.status_code == (200 if wanted else 503)
        if not wanted:
            assert ready.json()["state"] == "read-only"
            assert simulated.bridge.get("/health").json()["status"] == "degraded"
            assert (
                "gateway.read_only: false" in simulated.bridge.get("/health").json()["nextAction"]
            )
        answer = simulated.place(**RESTING)
        problem = answer.json()
        assert (answer.status_code, problem["brokerCode"]) == (422, 321)
        assert "gateway.read_only: false" in problem["nextStep"]
    finally:
        simulated.bridge.stop()
        simulator.stop()


@pytest.mark.parametrize("number", ["9" * 19, str(2**63), "9" * 20, "9" * 40])
def test_a_number_that_no_order_can_have_is_no_order(
    simulated: SimulatedBridge, number: str
) -> None:
    for name in (f"perm-{number}", number):
        for answer in (
            simulated.client.get(f"/order/{name}"),
            simulated.client.delete(f"/order/{name}"),
            simulated.client.patch(f"/order/{name}", json={"quantity": 1}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown-order")
