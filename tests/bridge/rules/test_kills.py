"""A bridge that is killed while it closes positions: one close, the position 0, never crossed.

Each position is closed by lives of the bridge that die at a named point of the way, while somebody
else sells a part of it in between: plain positions, such with a stop at the broker (never left
behind, never two at a time), and combinations (closed as one, no leg crossed). `GANGWAY_KILLS` says
how many kills (`make soak`: 500); without it each kind is there with its most telling points.
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
    nearest,
    simulator_of,
    soon,
    trading_hours,
)

PLAIN = (
    "deciding", "close-in-transaction", "keeping-close", "others-known", "order-not-noted",
    "order-noted", "order-written", "order-answered", "change-noted", "close-kept:2",
    "keeping-close:4", "decided", "close-kept", "sending", "order-unwritten", "order-sent", "sent",
    "telling", "told", "changing", "change-answered", "changed", "close-in-transaction:2",
    "close-kept:3", "others-known:3",
)  # fmt: skip
GUARDED = (
    "stop-planned", "order-noted", "order-sent", "withdrawing", "cancelling-stop",
    "stop-cancelled", "withdrawn", "order-noted:2", "stop-placed", "order-written",
    "order-unwritten", "order-not-noted", "keeping-memory", "memory-kept", "memory-kept:2",
    "cancel-unwritten", "cancel-written", "cancel-sent", "decided", "keeping-close", "order-sent:2",
    "close-kept:2", "keeping-memory:2", "told",
)  # fmt: skip
"""The first order of such a rule is its stop, the second the close."""
COMBINED = (
    "order-noted", "order-sent", "close-kept:2", "changing", "deciding", "keeping-close",
    "order-unwritten", "order-written", "order-answered", "told", "close-in-transaction",
    "change-noted", "changed", "others-known", "sent", "close-kept",
)  # fmt: skip


def trials(count: int) -> list[tuple[str, str]]:
    """Which kind of position dies at which point: eleven plain, eight guarded, four combined."""
    kinds = {"plain": (11, PLAIN), "guarded": (8, GUARDED), "combined": (4, COMBINED)}
    found: list[tuple[str, str]] = []
    for turn in range(count):
        for kind, (share, points) in kinds.items():
            found += [(kind, points[(turn * share + n) % len(points)]) for n in range(share)]
        if len(found) >= count:
            break
    return found[:count]


KILLS = int(os.environ.get("GANGWAY_KILLS", 23))
DEATH_SECONDS = 40.0
ENDED = {"Filled", "Cancelled", "ApiCancelled", "Inactive"}


class Victim(Rig):
    """Lives of a bridge on one folder."""

    legs: tuple[dict[str, Any], ...] | list[dict[str, Any]] = ()

    def put_raw(self, rules: list[dict[str, Any]]) -> None:
        self.bridge.client.put("/rules", json={"rules": rules})

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
    killed = 0
    for number, (kind, point) in enumerate(trials(KILLS)):
        symbol = "SPY" if kind == "combined" else ("AAPL", "MSFT", "NVDA", "AMZN")[number % 4]
        rule = f"close-{number}"
        opened = open_one(victim, kind, symbol, 10 + number)
        victim.put(written(kind, symbol, rule, enabled=False))
        victim.live(point if ":" in point else f"{point}:1")
        begin(victim, kind, rule)
        died = dies(victim, rule)
        killed += died
        victim.bridge.stop(signal.SIGKILL)
        if kind != "combined" and chance.random() < 0.4 and nothing_works(victim, symbol):
            asyncio.run(sell_elsewhere(victim.simulator.port, symbol, 3))
        victim.live("")
        victim.bridge.wait_for("ready")
        begin(victim, kind, rule)
        soon(partial(ended, victim, rule), 60)
        soon(partial(no_order_works, victim, symbol))
        check(victim, symbol, rule)
        check_stops(victim, symbol, f"{rule} ({kind}, {point})")
        if kind == "combined":
            check_closed_as_one(victim, opened, rule)
        print(f"{rule}: {kind}, {point}, {'died' if died else 'lived'}", flush=True)
    assert killed >= KILLS * 0.6, f"only {killed} of {KILLS} lives died where they should"


def open_one(victim: Victim, kind: str, symbol: str, quantity: int) -> dict[str, Any]:
    """What is to be closed."""
    if kind != "combined":
        return victim.buy(symbol, quantity)
    if not victim.legs:
        chain = victim.bridge.get("/options/chain", symbol=symbol).json()
        last = victim.bridge.get(f"/quote/{symbol}").json()["last"]["value"]
        victim.legs = [
            {"action": action, "secType": "OPT", "symbol": symbol, "right": "P", "strike": strike,
             "expiration": chain["expirations"][4]["expiration"]}
            for action, strike in (
                ("SELL", nearest(chain["strikes"], last)),
                ("BUY", nearest(chain["strikes"], last * 0.95)),
            )
        ]  # fmt: skip
    return victim.buy(symbol, 2, secType="BAG", legs=victim.legs)


def written(kind: str, symbol: str, rule: str, *, enabled: bool) -> dict[str, Any]:
    """The rule that closes it at once; a guarded one first only puts its stop there."""
    match = {"symbol": symbol, "combination": True} if kind == "combined" else {"symbol": symbol}
    made = {"id": rule, "mode": "trade", "match": match, "enabled": enabled,
            "close": {"steps": 3, "stepSeconds": 1}, "maxSpreadPercent": 1000}  # fmt: skip
    if kind == "combined":
        return made | {"stopLoss": {"price": 0.01}}
    if kind == "guarded":
        return made | {"stopLoss": {"percent": 40}, "protect": "broker"}
    return made | {"stopLoss": {"price": 1e6}}


def begin(victim: Victim, kind: str, rule: str) -> None:
    """By way of the API, as far as the bridge still lives."""
    try:
        victim.bridge.wait_for("ready")
        found = victim.bridge.get("/rules").json()["rules"]
        wanted = [each | {"enabled": True} for each in found if each["id"] == rule]
        if wanted != [each for each in found if each["id"] == rule]:
            victim.put_raw(wanted)
        if kind == "guarded" and not found_closing(wanted):
            soon(partial(stopped_or_dead, victim, wanted[0]["match"]["symbol"]), DEATH_SECONDS)
            victim.put_raw([each | {"takeProfit": {"price": 0.01}} for each in wanted])
    except Exception:
        soon(victim.dead)  # its sockets end a moment before the process has


def found_closing(rules: list[dict[str, Any]]) -> bool:
    return any(each.get("takeProfit") for each in rules)


def stopped_or_dead(victim: Victim, symbol: str) -> bool:
    """Whether a stop stands at the broker."""
    if victim.dead():
        return True
    settle_unknown(victim)
    return any(
        each["symbol"] == symbol and each["orderType"] == "STP" and each["status"] not in ENDED
        for each in victim.simulator.book()["orders"]
    )


def dies(victim: Victim, rule: str) -> bool:
    """Whether it came to its point before the close had ended."""
    deadline = time.monotonic() + DEATH_SECONDS
    while not victim.dead() and "closed" not in kinds(victim, rule):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return victim.dead()


def no_order_works(victim: Victim, symbol: str) -> bool:
    """At the broker itself."""
    ours = [each for each in victim.simulator.book()["orders"] if each["symbol"] == symbol]
    return all(each["status"] in ENDED for each in ours)


def check_stops(victim: Victim, symbol: str, what: str) -> None:
    """No stop is left, and there were never two at a time."""
    times: list[tuple[float, int]] = []
    for each in victim.simulator.book()["orders"]:
        if each["symbol"] == symbol and each["orderType"] == "STP":
            assert each["completedAt"] is not None, f"{what}: a stop is left behind"
            times += [(each["placedAt"], 1), (each["completedAt"], -1)]
    working = 0
    for _, change in sorted(times):
        working += change
        assert working <= 1, f"{what}: two stops at once"


def check_closed_as_one(victim: Victim, opened: dict[str, Any], rule: str) -> None:
    """One order for all legs was filled, once, and no leg went to the other side."""
    book = victim.simulator.book()
    held: dict[int, float] = {}
    for fill in book["fills"]:
        if fill["symbol"] == "SPY" and fill["secType"] == "OPT":
            before = held.get(fill["conId"], 0.0)
            after = before + fill["quantity"] * (1 if fill["side"] in {"BOT", "BUY"} else -1)
            assert before * after >= 0, f"{rule}: a leg was crossed"
            held[fill["conId"]] = after
    assert not any(held.values()), f"{rule}: {held} are left"
    closing = [
        each
        for each in book["orders"]
        if each["secType"] == "BAG" and each["placedAt"] > opening_at(book, opened)
    ]
    assert sum(each["filled"] for each in closing) == 2, closing
    others = [each for each in book["orders"] if each["secType"] == "OPT"]
    assert not others, f"{rule}: a leg was ordered alone"


def opening_at(book: dict[str, Any], opened: dict[str, Any]) -> float:
    return next(
        float(each["placedAt"]) for each in book["orders"] if each["orderRef"] == opened["orderRef"]
    )


def ended(victim: Victim, rule: str) -> bool:
    """Whether the close has come to its end."""
    settle_unknown(victim)
    return bool({"closed", "gone"} & set(victim.kinds(rule)))


def settle_unknown(victim: Victim) -> None:
    """An order that the bridge cannot know about any more is settled, as a person would."""
    sent = {each["orderRef"] for each in victim.simulator.book()["orders"]}
    for order in victim.bridge.get("/orders", open="true").json()["orders"]:
        if order["state"] == "unknown" and order["orderRef"] not in sent:
            victim.bridge.client.post(
                f"/order/{order['orderId']}/settle", json={"status": "NotSent"}
            ).raise_for_status()


def nothing_works(victim: Victim, symbol: str) -> bool:
    """Whether the position is still held and no order of ours is out, but perhaps a stop."""
    book = victim.simulator.book()
    ours = [each for each in book["orders"] if each["symbol"] == symbol]
    sold = sum(each["filled"] * (1 if each["action"] == "BUY" else -1) for each in ours)
    return sold > 3 and all(each["status"] in ENDED or each["orderType"] == "STP" for each in ours)


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
        if fill["symbol"] == symbol and fill["secType"] == "STK":
            sign = 1 if fill["side"] in {"BOT", "BUY"} else -1
            position += sign * fill["quantity"]
            assert position >= 0, f"{rule}: {symbol} was crossed"
    assert position == 0, f"{rule}: {position} of {symbol} are left"
    soon(lambda: not victim.bridge.get("/orders", open="true").json()["orders"])  # is told of it
    decided = [each for each in victim.events(rule) if each["kind"] == "decided"]
    assert len(decided) == 1, f"{rule}: decided {len(decided)} times"
