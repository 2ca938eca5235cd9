"""What people are told of rules: by the running bridge, at a hook that is as Discord's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridge.rules.test_over_http import Rig, simulator_of, soon, trading_hours
from tests.discord_hook import DiscordHook, discord_hook


@pytest.fixture
def hook() -> Iterator[DiscordHook]:
    with discord_hook() as made:
        yield made


def test_people_are_told_what_was_decided_and_how_it_ended(
    tmp_path: Path, hook: DiscordHook
) -> None:
    addresses = tmp_path / "addresses"
    addresses.touch(mode=0o600)
    addresses.write_text(hook.address + "\n")
    start = trading_hours()
    simulator = simulator_of(tmp_path, start)
    rig = Rig(tmp_path / "b", simulator, start, BRIDGE_ALERTS_FILE=str(addresses))
    try:
        rig.buy("AAPL", 10)
        rig.put(
            {"id": "told", "mode": "trade", "match": {"symbol": "AAPL"}, "stopLoss": {"price": 1e6}}
        )
        soon(lambda: len(hook.received) == 2, 40)
        decided, closed = sorted(hook.received, key=lambda text: "has closed" in text)
        assert "told closes 10 AAPL; stopLoss: " in decided
        assert "told has closed 10 " in closed
    finally:
        rig.bridge.stop()
        simulator.stop()
