"""Exercising options and letting them lapse, over HTTP, at the simulator."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bridge.orders.test_order_types import codes
from tests.bridge.orders.test_over_http import Body, Desk, soon
from tests.bridge.rig import SimulatorProcess

RULES: Body = {"option_price_band_percent": None, "max_notional": None}


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    made = SimulatorProcess(tmp_path / "simulator.log", "--start", "2026-11-20T10:00:00-05:00")
    yield made
    made.stop()


@pytest.fixture
def bridge(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[Desk]:
    made = Desk(tmp_path / "bridge", simulator, **RULES)
    yield made
    made.bridge.stop()


def option(bridge: Desk, held: int = 3) -> Body:
    """A call in the money, `held` of which are held."""
    chain = bridge.bridge.get("/options/chain", symbol="AAPL").json()
    strikes = chain["strikes"]
    named = {
        "symbol": "AAPL",
        "secType": "OPT",
        "expiration": next(each["expiration"] for each in chain["expirations"] if each["dte"] > 20),
        "strike": strikes[0],
        "right": "C",
    }
    order = (
        bridge.placed(**named, action="BUY", quantity=held, orderType="LMT", limitPrice=900.0)
        if held
        else {}
    )
    if held:
        soon(lambda: bridge.has_status(order["orderId"], "Filled"))
    return named


def exercise(bridge: Desk, key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    asked = {"action": "exercise", "quantity": 1, "confirm": True} | body
    return bridge.client.post("/options/exercise", json=asked, headers=headers)


def sent(bridge: Desk) -> list[Body]:
    return [
        each for each in bridge.simulator.book()["requests"] if each["message"] == "exerciseOptions"
    ]


def test_one_is_exercised_after_the_close_and_delivers(bridge: Desk) -> None:
    named = option(bridge)
    answer = exercise(bridge, "one-key", **named, quantity=2)
    assert answer.status_code == 201, answer.text
    order = answer.json()
    assert (order["orderType"], order["quantity"], order["state"]) == (
        "EXERCISE",
        2,
        "acknowledged",
    )
    again = exercise(bridge, "one-key", **named, quantity=2)
    assert (again.json()["orderId"], len(sent(bridge))) == (order["orderId"], 1)
    bridge.simulator.advance(7 * 3600)
    soon(lambda: bridge.has_status(order["orderId"], "Filled"))
    held = {
        (each["symbol"], each["secType"]): each["quantity"]
        for each in bridge.bridge.get("/positions").json()["positions"]
    }
    assert held == {("AAPL", "OPT"): 1, ("AAPL", "STK"): 200}


def test_one_that_lapses_can_be_taken_back(bridge: Desk) -> None:
    named = option(bridge)
    refused = exercise(bridge, **named, action="lapse")  # it is in the money
    assert (refused.status_code, refused.json()["code"]) == (422, "order-rejected")
    order = exercise(bridge, **named, action="lapse", override=True).json()
    assert order["orderType"] == "LAPSE"
    changed = bridge.client.patch(f"/order/{order['orderId']}", json={"quantity": 2})
    assert codes(changed) == {"unexpected-field"}
    gone = bridge.client.delete(f"/order/{order['orderId']}")
    assert gone.json()["status"] == "Cancelled"


def test_nothing_is_sent_without_a_confirmation_or_beyond_what_is_held(bridge: Desk) -> None:
    named = option(bridge)
    assert codes(exercise(bridge, **named, confirm=False)) == {"confirmation-required"}
    assert codes(exercise(bridge, **named, quantity=4)) == {"exceeds-position"}
    assert exercise(bridge, **named, quantity=2).status_code == 201
    assert codes(exercise(bridge, **named, quantity=2)) == {"exceeds-position"}
    assert "invalid-field" in codes(exercise(bridge, symbol="AAPL", conId=265598))
    assert len(sent(bridge)) == 1


def test_after_a_crash_it_is_found_again_and_not_sent_twice(
    bridge: Desk, simulator: SimulatorProcess
) -> None:
    named = option(bridge)
    order = exercise(bridge, "crash-key", **named).json()
    os.kill(bridge.bridge.pid, signal.SIGKILL)
    bridge.bridge.process.wait()
    after = Desk(bridge.bridge.folder, simulator, **RULES)
    try:
        again = exercise(after, "crash-key", **named)
        assert again.json()["orderId"] == order["orderId"]
        assert (after.order(order["orderId"])["state"], len(sent(after))) == ("acknowledged", 1)
    finally:
        after.bridge.stop()
