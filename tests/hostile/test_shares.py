"""A reader that takes all it can get: an order is checked as if nobody else were there."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.bridge.rig import BridgeProcess, SimulatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WANTED = 100


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    process = BridgeProcess(tmp_path / "bridge", simulator.port)
    process.wait_for("ready")
    yield process
    process.stop()
    simulator.stop()


def options(bridge: BridgeProcess) -> list[dict[str, Any]]:
    """Many options that really exist."""
    chain = bridge.get("/options/chain", symbol="AAPL").json()
    found: list[dict[str, Any]] = []
    for expiration in (item["expiration"] for item in chain["expirations"][2:]):
        part = bridge.get("/options/quotes", symbol="AAPL", expiration=expiration, count=10).json()
        found += [
            {
                "symbol": "AAPL",
                "secType": "OPT",
                "expiration": expiration,
                "strike": each["strike"],
                "right": each["right"],
            }
            for each in part["options"]
        ]
        if len(found) >= WANTED:
            return found[:WANTED]
    raise AssertionError(f"only {len(found)} options")


def order(bridge: BridgeProcess, **terms: Any) -> Any:
    body = {"symbol": "NVDA", "quantity": 1, **terms}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return bridge.client.post("/order", json=body, headers=headers)


def test_a_reader_of_a_hundred_options_leaves_no_order_unchecked(bridge: BridgeProcess) -> None:
    """Invariant: a lower privilege cannot weaken a higher one."""
    wanted = options(bridge)
    made = bridge.client.post("/keys", json={"label": "reader", "scope": "read"}).json()
    address = bridge.url.replace("http", "ws") + "/stream"
    headers = {"X-API-KEY": made["key"]}
    with connect(address, additional_headers=headers, proxy=None) as stream:
        stream.send(json.dumps({"op": "subscribe", "channel": "quotes", "contracts": wanted}))
        refused = 0
        while True:
            message = json.loads(stream.recv(timeout=20))
            refused += message["type"] == "error" and message["code"] == "market-data-lines"
            if message["type"] == "subscribed":
                break
        assert len(message["instruments"]) == 60
        assert refused == WANTED - 60
        absurd = order(bridge, action="BUY", orderType="LMT", limitPrice=5000)
        assert absurd.status_code == 422
        assert [each["code"] for each in absurd.json()["violations"]] == ["price-band"]
        market = order(bridge, action="SELL", orderType="MKT")
        assert market.status_code == 201, market.text
        preview = {"symbol": "MSFT", "quantity": 1, "action": "BUY", "orderType": "MKT"}
        answer = bridge.client.post("/order/preview", json=preview)
        assert answer.json().get("referencePrice"), answer.text
