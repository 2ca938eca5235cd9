"""A bridge that is killed while it closes positions: one close, the position 0, never crossed.

Each position is closed by lives of the bridge that die at a named point of the way, while somebody
else sells a part of it in between. `GANGWAY_KILLS` says how many kills (`make soak`: 500).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ib_async import IB, MarketOrder, Stock

from tests.bridge.rules.test_over_http import (
    Rig,
    ShiftedBridge,
    simulator_of,
    soon,
    trading_hours,
)

POINTS = (
    "deciding", "close-in-transaction", "decided", "keeping-close", "close-kept", "others-known",
    "sending", "order-not-noted", "order-noted", "order-unwritten", "order-written", "order-sent",
    "order-answered", "sent", "telling", "told", "changing", "change-noted", "change-answered",
    "changed", "close-kept:2", "close-in-transaction:2", "close-kept:3", "others-known:3",
    "keeping-close:4",
)  # fmt: skip
KILLS = int(os.environ.get("GANGWAY_KILLS", len(POINTS)))
DEATH_SECONDS = 20.0
ENDED = {"Filled", "Cancelled", "ApiCancelled", "Inactive"}


class Victim(Rig):
    """Lives of a bridge on one folder."""

    def live(self, point: str) -> None:
        """Begins a new life, which ends at that point; an empty one lives on."""
        self.bridge.stop(signal.SIGKILL)
        self.bridge = self.made(point)

    def made(self, point: str) -> ShiftedBridge:
        env = {**self.env, "GANGWAY_KILL_AT": point}
        return ShiftedBridge(self.folder, self.simulator.port, **env)

    def dead(self) -> bool:
        return self.bridge.process.poll() is not None


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    start = trading_hours()
    simulator = simulator_of(tmp_path, start)
    made = Victim(tmp_path / "bridge", simulator, start)
    yield made
    made.bridge.stop()
    simulator.stop()


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * KILLS)
def test_a_position_is_closed_once_whenever_the_bridge_dies(victim: Victim) -> None:
    chance = random.Random(int(os.environ.get("GANGWAY_CRASH_SEED", "1")))
    points = [POINTS[number % len(POINTS)] for number in range(KILLS)]
    killed = 0
    for number, point in enumerate(points):
        symbol = ("AAPL", "MSFT", "NVDA", "AMZN")[number % 4]
        victim.live("")
        victim.bridge.wait_for("ready")
        quantity = 10 + number
        victim.buy(symbol, quantity)
        rule = f"close-{number}"
        victim.put(
            {"id": rule, "mode": "trade", "match": {"symbol": symbol}, "stopLoss": {"price": 1e6},
             "enabled": False, "close": {"steps": 3, "stepSeconds": 1}}
        )  # fmt: skip
        victim.live(point if ":" in point else f"{point}:1")
        switch_on(victim, rule)
        deadline = time.monotonic() + DEATH_SECONDS
        while not victim.dead() and "closed" not in kinds(victim, rule):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        killed += victim.dead()
        victim.bridge.stop(signal.SIGKILL)
        if chance.random() < 0.4 and nothing_works(victim, symbol):
            asyncio.run(sell_elsewhere(victim.simulator.port, symbol, 3))
        victim.live("")
        victim.bridge.wait_for("ready")
        switch_on(victim, rule)
        soon(partial(ended, victim, rule), 40)
        check(victim, symbol, rule)
    assert killed >= KILLS * 0.6, f"only {killed} of {KILLS} lives died where they should"


def ended(victim: Victim, rule: str) -> bool:
    """An order that the bridge cannot know about any more is settled, as a person would."""
    sent = {each["orderRef"] for each in victim.simulator.book()["orders"]}
    for order in victim.bridge.get("/orders", open="true").json()["orders"]:
        if order["state"] == "unknown" and order["orderRef"] not in sent:
            victim.bridge.client.post(
                f"/order/{order['orderId']}/settle", json={"status": "NotSent"}
            ).raise_for_status()
    return bool({"closed", "gone"} & set(victim.kinds(rule)))


def nothing_works(victim: Victim, symbol: str) -> bool:
    """Whether the position is still held and no order of ours is out."""
    book = victim.simulator.book()
    ours = [each for each in book["orders"] if each["symbol"] == symbol]
    sold = sum(each["filled"] * (1 if each["action"] == "BUY" else -1) for each in ours)
    return sold > 3 and all(each["status"] in ENDED for each in ours)


async def sell_elsewhere(port: int, symbol: str, quantity: int) -> None:
    """A person's fill, between the decision and the send: from another client."""
    client = IB()
    await client.connectAsync("127.0.0.1", port, clientId=77, timeout=10)
    try:
        order = MarketOrder("SELL", quantity, tif="DAY")
        trade = client.placeOrder(Stock(symbol, "SMART", "USD"), order)
        async with asyncio.timeout(15):
            while not trade.isDone():
                await asyncio.sleep(0.05)
    finally:
        client.disconnect()


def switch_on(victim: Victim, rule: str) -> None:
    """By way of the API, as far as the bridge still lives."""
    try:
        victim.bridge.wait_for("ready")
        found = victim.bridge.get("/rules").json()
        changed = [each | {"enabled": True} for each in found["rules"] if each["id"] == rule]
        if changed != [each for each in found["rules"] if each["id"] == rule]:
            victim.bridge.client.put("/rules", json={"rules": changed})
    except Exception:
        assert victim.dead()


def kinds(victim: Victim, rule: str) -> list[str]:
    try:
        return victim.kinds(rule)
    except (json.JSONDecodeError, KeyError, OSError):
        return []
    except Exception:
        return []


def check(victim: Victim, symbol: str, rule: str) -> None:
    """The simulator's own record: never crossed, and nobody sold more than was held."""
    book: dict[str, Any] = victim.simulator.book()
    position = 0.0
    for fill in book["fills"]:
        if fill["symbol"] == symbol:
            sign = 1 if fill["side"] in {"BOT", "BUY"} else -1
            position += sign * fill["quantity"]
            assert position >= 0, f"{rule}: {symbol} was crossed"
    assert position == 0, f"{rule}: {position} of {symbol} are left"
    open_orders = victim.bridge.get("/orders", open="true").json()["orders"]
    assert not open_orders, f"{rule}: left behind {open_orders}"
    decided = [each for each in victim.events(rule) if each["kind"] == "decided"]
    assert len(decided) == 1, f"{rule}: decided {len(decided)} times"
