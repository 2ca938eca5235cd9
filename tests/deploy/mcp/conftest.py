"""A simulator and a bridge for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bridge.orders.crash import RULES
from tests.bridge.rig import BridgeProcess, SimulatorProcess


@dataclass
class Served:
    """A bridge that is ready, and files with keys to it."""

    simulator: SimulatorProcess
    bridge: BridgeProcess
    folder: Path

    def key(self, scope: str) -> Path:
        """A file with a fresh key of a scope."""
        made = self.bridge.client.post("/keys", json={"label": "agent", "scope": scope}).json()
        file = self.folder / f"{made['id']}.key"
        file.write_text(made["key"])
        return file

    def orders(self) -> list[dict[str, object]]:
        """What the broker has."""
        found: list[dict[str, object]] = self.simulator.book()["orders"]
        return found


def served(folder: Path, mode: str) -> Iterator[Served]:
    """A simulator of the mode's accounts, and a bridge before it."""
    rules = folder / "trading.json"
    rules.write_text(json.dumps({**RULES, "live": mode == "live"}))
    account = "DU1234567" if mode == "paper" else "U1234567"
    simulator = SimulatorProcess(folder / "simulator.log", "--accounts", account)
    bridge = BridgeProcess(
        folder / "bridge",
        simulator.port,
        BRIDGE_TRADING_FILE=str(rules),
        BRIDGE_TRADING_MODE=mode,
    )
    try:
        bridge.wait_for("ready")
        yield Served(simulator, bridge, folder)
    finally:
        bridge.stop()
        simulator.stop()


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(tmp_path_factory.mktemp("paper"), "paper")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(tmp_path_factory.mktemp("live"), "live")
