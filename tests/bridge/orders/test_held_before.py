"""A bridge begins, and its gateway has just logged in: what was held is not listed yet."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.bridge.orders.test_over_http import SimulatedBridge, soon
from tests.bridge.orders.test_target import RULES, close, fills, held, reached, target
from tests.bridge.rig import SimulatorProcess

LISTS_NOTHING = [{"action": "drop", "direction": "to-client", "message": 61}]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    made = SimulatorProcess(tmp_path / "simulator.log")
    yield made
    made.stop()


def _is_kept(folder: Path) -> bool:
    """Whether the journal has the position."""
    with closing(sqlite3.connect(folder / "data" / "journal.sqlite3")) as connection:
        rows = connection.execute("SELECT value FROM settings WHERE name = 'account.held'")
        return any(b'"AAPL"' in value for (value,) in rows)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_not_listed_yet_is_not_bought_again(
    tmp_path: Path, simulator: SimulatorProcess, number: int
) -> None:
    folder = tmp_path / "bridge"
    before = SimulatedBridge(folder, simulator, **RULES)
    reached(before, 30)
    soon(lambda: _is_kept(folder))
    before.bridge.stop(number)
    simulator.fault("wire-rewrite", rules=LISTS_NOTHING)
    after = SimulatedBridge(folder, simulator, **RULES)
    try:
        refused = target(after, 40)
        assert refused.status_code == 503, refused.text
        assert refused.json()["code"] == "positions-moving"
        assert fills(after) == 30
        simulator.clear("wire-rewrite")
        assert reached(after, 40)["quantity"] == 10
    finally:
        after.bridge.stop()


def _placed_stop(bridge: SimulatedBridge) -> str:
    stop = bridge.placed(symbol="AAPL", action="SELL", quantity=30, orderType="STP", stopPrice=1.0)
    found: str = stop["orderId"]
    return found


def _halted(bridge: SimulatedBridge) -> list[str]:
    """Which orders stay."""
    answer = bridge.client.post("/trading/halt", json={})
    assert answer.status_code == 200, answer.text
    found: list[str] = answer.json()["cancelled"]["kept"]
    return found


@pytest.mark.parametrize("halted", ["before", "after"])
def test_a_halt_leaves_the_stop_of_what_is_not_listed_yet(
    tmp_path: Path, simulator: SimulatorProcess, halted: str
) -> None:
    folder = tmp_path / "bridge"
    before = SimulatedBridge(folder, simulator, **RULES)
    reached(before, 30)
    soon(lambda: _is_kept(folder))
    stop = _placed_stop(before)
    if halted == "before":
        assert _halted(before) == [stop]
    before.bridge.stop()
    simulator.fault("wire-rewrite", rules=LISTS_NOTHING)
    state = "halted" if halted == "before" else "ready"
    after = SimulatedBridge(folder, simulator, state=state, **RULES)
    try:
        if halted == "after":
            assert _halted(after) == [stop]
        after.client.get("/positions")
        time.sleep(1)
        assert after.order(stop)["status"] in {"PreSubmitted", "Submitted"}
    finally:
        after.bridge.stop()


def test_closing_names_what_is_not_listed_yet(tmp_path: Path, simulator: SimulatorProcess) -> None:
    folder = tmp_path / "bridge"
    before = SimulatedBridge(folder, simulator, **RULES)
    reached(before, 30)
    soon(lambda: _is_kept(folder))
    found = before.bridge.get("/positions", group="strategy").json()
    (strategy,) = [each["id"] for each in found["strategies"]]
    reached(before, 5, symbol="MSFT")
    before.bridge.stop()
    simulator.fault("wire-rewrite", rules=[LISTS_NOTHING[0] | {"where": {"4": "AAPL"}}])
    after = SimulatedBridge(folder, simulator, **RULES)
    try:
        for body in ({"symbol": "AAPL"}, {"strategy": strategy}):
            refused = close(after, **body)
            assert refused.status_code == 503, refused.text
            assert refused.json()["code"] == "positions-moving"
        for unknown in (
            {"symbol": "GE"},
            {"strategy": "none/x:1/2"},
            {"account": "U1", "all": True},
        ):
            assert close(after, **unknown).status_code == 404
        answer = close(after, "one-key", all=True).json()
        assert not answer["complete"]
        listed, late = answer["positions"]
        assert (listed["symbol"], listed["order"]["quantity"]) == ("MSFT", 5)
        assert (late["symbol"], late["position"], late["order"]) == ("AAPL", 30, None)
        assert late["problem"]["code"] == "positions-moving"
        simulator.clear("wire-rewrite")
        soon(lambda: held(after) == 30)
        assert close(after, "one-key", all=True).json()["complete"]
        soon(lambda: held(after) == 0)
        assert fills(after) == 70
    finally:
        after.bridge.stop()
