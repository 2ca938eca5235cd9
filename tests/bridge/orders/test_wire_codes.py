"""What the broker says about an order, rewritten on the wire: bridge and simulator as processes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess, eventually

RESTING = {
    "symbol": "AAPL",
    "action": "BUY",
    "quantity": 1,
    "orderType": "LMT",
    "limitPrice": 1.0,
}
PLACE, STATUS, OPEN_ORDER, EXECUTION = 3, 3, 5, 11
PENDING = {"direction": "to-gateway", "message": PLACE, "times": 1}


class Wire:
    def __init__(self, folder: Path, *options: str) -> None:
        self.simulator = SimulatorProcess(folder / "simulator.log", *options)
        self.bridge = BridgeProcess(folder / "bridge", self.simulator.port)
        self.bridge.wait_for("ready")

    def rules(self, *rules: dict[str, Any]) -> None:
        self.simulator.fault("wire-rewrite", rules=list(rules))

    def place(self, key: str = "key", path: str = "/order", **body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return self.bridge.client.post(path, json=RESTING | body, headers=headers)

    def order(self, order_id: str) -> Any:
        return self.bridge.get(f"/order/{order_id}").json()

    def in_book(self) -> list[str]:
        return [each["status"] for each in self.simulator.book()["orders"]]


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path)
    yield made
    assert not [each for each in made.bridge.events() if "exception" in each]
    made.bridge.stop()
    made.simulator.stop()


def say(code: int, text: str, **more: Any) -> dict[str, Any]:
    return {"action": "inject", **PENDING, "fields": [4, 2, "{1}", code, text, ""], **more}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("code", [2174, 10018, 481, 10349, 31337])
async def test_a_code_that_is_not_final_leaves_the_order_working(
    wire: Wire, code: int, before: bool
) -> None:
    wire.rules(say(code, "Something to know", before=before))
    answer = wire.place()
    assert answer.status_code == 201, answer.text  # perhaps PreSubmitted, which comes first
    order_id = answer.json()["orderId"]
    await eventually(lambda: wire.order(order_id)["status"] == "Submitted")
    await eventually(lambda: wire.order(order_id)["warning"] == f"{code}: Something to know")
    assert wire.place().json()["orderId"] == order_id
    halted = wire.bridge.client.post("/trading/halt", json={"cancelOpenOrders": True})
    assert halted.status_code == 200, halted.text
    await eventually(lambda: wire.in_book() == ["Cancelled"])


@pytest.mark.parametrize("code", [10018, 10349, 31337])
def test_nor_does_it_refuse_a_preview(wire: Wire, code: int) -> None:
    wire.rules(say(code, "Something to know", before=True))
    answer = wire.place(path="/order/preview")
    assert (answer.status_code, answer.json()["accepted"]) == (200, True), answer.text


@pytest.mark.parametrize("code", [200, 201, 321])
def test_a_final_code_without_a_status_is_a_rejection(wire: Wire, code: int) -> None:
    wire.rules(say(code, "No", before=True), {"action": "drop", **PENDING})
    answer = wire.place()
    assert (answer.status_code, answer.json()["brokerCode"]) == (422, code), answer.text


@pytest.mark.parametrize("code_first", [True, False])
@pytest.mark.parametrize(("word", "code"), [("Cancelled", 202), ("Inactive", 201)])
def test_code_text_and_next_step_belong_to_the_order(
    wire: Wire, word: str, code: int, code_first: bool
) -> None:
    """The order never reaches the market; the broker gives an end and a reason for it."""
    text = "Order refused - reason:limit price too far from the market"
    status = [STATUS, "{1}", word, 0, 1, 0, 77, 0, 0, 1, "", 0]
    end = {"action": "inject", **PENDING, "fields": status}
    told = say(code, text, seconds=0 if code_first else 0.05)
    wire.rules(*([told, end] if code_first else [end, told]), {"action": "drop", **PENDING})
    answer = wire.place().json()
    shown = answer.get("order", answer)
    assert (shown["brokerCode"], shown["brokerText"]) == (code, text)
    assert shown["nextStep"]
    history = wire.order(shown["orderId"])["history"]
    assert any(text in str(each) for each in history)


@pytest.mark.parametrize(
    ("lost", "named"), [((7,), ("executions",)), ((99,), ("completed orders",)), ((7, 99), ())]
)
async def test_a_list_that_never_comes_costs_that_one_answer(
    wire: Wire, lost: tuple[int, ...], named: tuple[str, ...]
) -> None:
    """Executions (7), completed orders (99); open orders alone are needed to send orders."""
    working = wire.place("working").json()["orderId"]
    drops = [{"action": "drop", "direction": "to-gateway", "message": each} for each in lost]
    wire.rules(*drops, {"action": "drop", **PENDING})
    unknown = wire.place("lost")  # it never gets to the gateway, and nobody can know
    assert unknown.status_code == 504, unknown.text
    wire.rules(*drops)
    wire.bridge.client.post("/connection/reconnect").raise_for_status()
    wire.bridge.wait_for("ready")
    assert wire.bridge.client.delete(f"/order/{working}").json()["status"] == "Cancelled"
    assert wire.place("new").status_code == 201
    health = wire.bridge.health()
    action = health["nextAction"]
    assert (health["state"], health["status"]) == ("ready", "degraded")
    assert wire.bridge.client.get("/ready").json() == {"ready": True, "state": "ready"}
    for each in named:
        assert f"{each} got no answer since" in action
    again = wire.place("lost")
    assert again.json()["code"] in {"order-fate-unknown", "order-pending"}, again.text
    assert len(wire.in_book()) == 2
    wire.simulator.clear("wire-rewrite")
    await eventually(lambda: "no answer" not in wire.bridge.health()["nextAction"], 60.0)
    assert wire.bridge.health()["status"] == "ok"


TIMES = {
    "20250710-10:30:00": "2025-07-10T10:30:00Z",
    "20250710 10:30:00 US/Eastern": "2025-07-10T14:30:00Z",
    "20250710  10:30:00": "2025-07-10T14:30:00Z",
    "1752157800": "2025-07-10T14:30:00Z",
    "20250710 10:30:00 JST": "2025-07-10T01:30:00Z",
    "20250710 10:30:00 HKT": "2025-07-10T02:30:00Z",
    "20250710 10:30:00 EDT": "2025-07-10T14:30:00Z",
    "20250710 10:30:00 China Standard Time": "2025-07-10T02:30:00Z",
    "20250710 10:30:00 CST": None,  # Chicago's or China's: nothing here tells
    "20250710 10:30:00 Nowhere/Atall": None,
    "20250710": None,
    "=soon": None,
    "": None,
}


async def test_a_fill_is_kept_whatever_its_time_looks_like(wire: Wire) -> None:
    began = datetime.now(UTC)
    address = wire.bridge.url.replace("http", "ws") + "/stream"
    with connect(address, additional_headers={"X-API-KEY": ADMIN_KEY}, proxy=None) as stream:
        stream.send('{"op": "subscribe", "channel": "executions"}')
        subscribed(stream)
        orders: dict[str, str] = {}
        for number, text in enumerate(TIMES):
            change = {"action": "rewrite", "message": EXECUTION, "set": {"15": text}}
            wire.rules(change)
            placed = wire.place(f"key-{number}", limitPrice=205.0, quantity=1)
            assert placed.status_code == 201, placed.text
            order_id = placed.json()["orderId"]
            orders[order_id] = text
            await eventually(lambda: wire.order(order_id)["status"] == "Filled")  # noqa: B023
        told: dict[str, Any] = {}
        while set(told) < set(orders):
            said = json.loads(stream.recv(timeout=20))
            if said["type"] == "execution":
                told.setdefault(said["data"]["orderId"], said["data"])
    page = wire.bridge.get("/executions").json()["executions"]
    rows = csv.DictReader(io.StringIO(wire.bridge.get("/executions", format="csv").text))
    listed = {each["orderId"]: each for each in page}
    in_csv = {each["orderId"]: each for each in rows}
    assert len(page) == len(in_csv) == len(TIMES)
    for order_id, text in orders.items():
        moment = TIMES[text]
        for shown in (told[order_id], listed[order_id]):
            assert shown["timeKnown"] is (moment is not None)
            assert shown["timeText"] == (None if moment else text or None)
        row = in_csv[order_id]
        assert row["timeKnown"] == ("true" if moment else "false")
        assert row["timeText"].lstrip("'") == ("" if moment else text)
        assert row["time"] == listed[order_id]["time"]
        if moment is not None:
            assert listed[order_id]["time"] == moment
        else:
            since = datetime.fromisoformat(listed[order_id]["time"]) - began
            assert timedelta(seconds=-5) < since < timedelta(seconds=60)
    assert wire.bridge.get("/journal").json()["quarantined"] == 0


async def test_a_fill_told_again_with_a_time_that_can_be_read_is_dated(wire: Wire) -> None:
    unknown = "20250710 10:30:00 CST"
    wire.rules({"action": "rewrite", "message": EXECUTION, "set": {"15": unknown}})
    order_id = wire.place(limitPrice=205.0).json()["orderId"]
    await eventually(lambda: wire.order(order_id)["status"] == "Filled")

    def shown() -> Any:
        (only,) = wire.bridge.get("/executions").json()["executions"]
        return only

    assert (shown()["timeKnown"], shown()["timeText"]) == (False, unknown)
    wire.rules({"action": "rewrite", "message": EXECUTION, "set": {"15": "20250710-10:30:00"}})
    wire.bridge.client.post("/connection/reconnect").raise_for_status()
    await eventually(lambda: shown()["timeKnown"], 20.0)
    assert (shown()["time"], shown()["timeText"]) == ("2025-07-10T10:30:00Z", None)


async def test_a_change_that_is_told_and_then_refused_leaves_the_order_working(
    wire: Wire,
) -> None:
    """The gateway tells the new terms, and 201 a moment later."""
    order_id = wire.place().json()["orderId"]
    refusal = "Order rejected - reason:the new limit price is too far from the market"
    wire.rules(say(201, refusal, seconds=2.0))  # a busy bridge must not read both in one go
    changed = wire.bridge.client.patch(f"/order/{order_id}", json={"limitPrice": 1.5})
    assert (changed.status_code, changed.json()["limitPrice"]) == (200, 1.5), changed.text
    await eventually(lambda: refusal in (wire.order(order_id)["warning"] or ""))
    assert wire.order(order_id)["status"] == "Submitted"
    assert wire.in_book() == ["Submitted"]
    cancelled = wire.bridge.client.delete(f"/order/{order_id}")
    assert cancelled.json()["status"] == "Cancelled", cancelled.text
    await eventually(lambda: wire.in_book() == ["Cancelled"])


def test_the_stream_tells_the_brokers_reason(wire: Wire) -> None:
    text = "Order rejected - reason:the account may not trade this"
    address = wire.bridge.url.replace("http", "ws") + "/stream"
    with connect(address, additional_headers={"X-API-KEY": ADMIN_KEY}, proxy=None) as stream:
        stream.send('{"op": "subscribe", "channel": "orders"}')
        subscribed(stream)
        wire.rules(say(201, text, seconds=0.05), {"action": "drop", **PENDING})
        refused = wire.place()
        assert refused.status_code == 422, refused.text
        said: dict[str, Any] = {}
        while said.get("data", {}).get("status") != "Rejected":
            said = json.loads(stream.recv(timeout=20))
    assert (said["data"]["brokerCode"], said["data"]["brokerText"]) == (201, text)
    assert said["data"]["nextStep"]


async def test_the_announced_end_of_a_gateway_version_needs_a_person(wire: Wire) -> None:
    text = (
        "The version of the application you are running, 1039.1, needs to be upgraded, as it will"
        " be desupported on 20261215. The minimum supported version at that time will be 1050.1. "
    )
    wire.rules(say(2172, text) | {"fields": [4, 2, -1, 2172, text, ""]})  # as at each connect
    assert wire.place().status_code == 201
    await eventually(lambda: "version-ends" in needs(wire))
    assert "1039.1 from 2026-12-15 on" in needs(wire)["version-ends"]["message"]
    assert "upgrade gateway" in needs(wire)["version-ends"]["nextStep"]
    assert wire.bridge.health()["status"] == "ok"  # trading goes on
    wire.simulator.clear("wire-rewrite")
    wire.bridge.client.post("/connection/reconnect").raise_for_status()
    await eventually(lambda: needs(wire) == {}, 20.0)


def subscribed(stream: ClientConnection) -> None:
    """Reads to the confirmation: what happens from then on is told."""
    while json.loads(stream.recv(timeout=20))["type"] != "subscribed":
        pass


def needs(wire: Wire) -> dict[str, dict[str, str]]:
    return {each["code"]: each for each in wire.bridge.health()["needs"]}
