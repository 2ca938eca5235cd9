"""A bridge that is killed at every point where an order, a cancel or a halt could go astray.

Each life of the bridge is armed with one point, is given work until it dies there, and the next one
has to finish what it left. In the end the books are held side by side (`crash.Books`).
`GANGWAY_KILLS` and `GANGWAY_CRASH_SEED` say how many and in which order (`make soak`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bridge.orders.crash import (
    CHANGE,
    HELD_PRICE,
    MIXED,
    RESTING,
    RULES,
    Books,
    Clients,
    Flow,
    settle,
    spreads,
)
from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess
from tests.closed_port import free_port

# How many times at most a point is passed by before the bridge dies there.
POINTS = {
    "order-not-noted": 5,
    "order-in-transaction": 5,
    "order-noted": 5,
    "order-unwritten": 8,
    "order-written": 8,
    "order-sent": 8,
    "order-heard": 8,
    "status-heard": 8,
    "execution-heard": 2,
    "commission-heard": 2,
    "acknowledgement-in-transaction": 6,
    "acknowledgement-kept": 6,
    "acknowledgement-told": 6,
    "order-answered": 4,
    "change-in-transaction": 1,
    "change-noted": 1,
    "change-heard": 1,
    "change-answered": 1,
    "cancel-not-noted": 2,
    "cancel-in-transaction": 2,
    "cancel-noted": 2,
    "cancel-unwritten": 2,
    "cancel-written": 2,
    "cancel-sent": 2,
    "cancel-heard": 2,
    "cancel-answered": 2,
    "halt-on": 1,
    "halt-marked": 1,
    "halt-in-transaction": 1,
    "halt-kept": 1,
    "halt-cancelling": 1,
    "halt-cancelled": 1,
    "resume-begun": 1,
    "resume-journaled": 1,
    "resume-done": 1,
}
SURVIVING = {"halt-marked", "halt-kept"}
"""Dead there, the bridge has left a halt that the next one must find."""
KILLS = int(os.environ.get("GANGWAY_KILLS", len(POINTS)))
KILLS_A_BOOK = 50
KILLS_A_LULL = 8
DEATH_SECONDS = 45.0
HALT_SECONDS = 60.0


class KilledBridge(BridgeProcess):
    """One life, up to the point where it is killed; without a point it lives on."""

    MODULE = "tests.bridge.orders.killed_bridge"

    def _port(self) -> int:
        try:
            return super()._port()
        except AssertionError:  # dead as soon as it listened
            if self.point:
                return next(int(e["port"]) for e in self.events() if e.get("event") == "listening")
            raise

    @property
    def point(self) -> str | None:
        """Where it was killed."""
        found = (e["point"] for e in self.events() if e.get("event") == "killed")
        return next(found, None)


class Lives:
    """The bridge's lives on one address and one data folder."""

    def __init__(self, folder: Path, simulator: SimulatorProcess, rules: Path) -> None:
        self._folder = folder
        self._simulator = simulator
        self._env = {
            "BRIDGE_TRADING_FILE": str(rules),
            "BRIDGE_LISTEN": f"127.0.0.1:{free_port()}",
        }
        self.kills = Counter[str]()
        self.bridge = KilledBridge(folder, simulator.port, **self._env)

    def begin(self, point: str = "", times: int = 1) -> None:
        """The next life, after an end in peace or by the point."""
        self.bridge.stop(signal.SIGTERM)
        more = {"GANGWAY_KILL_AT": f"{point}:{times}"} if point else {}
        self.bridge = KilledBridge(self._folder, self._simulator.port, **self._env, **more)

    async def death(self, point: str) -> None:
        """Waits until it has died there, and nowhere else."""
        code = await asyncio.to_thread(self.bridge.process.wait, DEATH_SECONDS)
        assert (code, self.bridge.point) == (-signal.SIGKILL, point)
        self.kills[point] += 1


class Halter:
    """Halts, sees that it holds and what it cancelled, and lifts it; whatever dies meanwhile."""

    def __init__(self, url: str, simulator: SimulatorProcess) -> None:
        self._simulator = simulator
        self._http = httpx.AsyncClient(
            base_url=url, headers={"X-API-KEY": ADMIN_KEY}, timeout=20, trust_env=False
        )
        self.differences: list[str] = []
        self.halts = 0

    async def close(self) -> None:
        await self._http.aclose()

    async def carry_out(self, point: str, died: asyncio.Event) -> None:
        async with asyncio.timeout(HALT_SECONDS):
            halting = asyncio.create_task(self._until(200, "POST", json={"reason": "a test"}))
            if point in SURVIVING:
                halting.cancel()  # one request is under way at most, and it dies with the bridge
                await self._once("POST", json={"reason": "a test"})
                await died.wait()
                if not (await self._until(200, "GET")).json()["halted"]:
                    self.differences.append(f"{point}: the next bridge is not halted")
                halting = asyncio.create_task(self._until(200, "POST", json={"reason": "a test"}))
            answer = (await halting).json()
            sent = self._sent()
            self.halts += 1
            if not (answer["halted"] and answer["survivesRestart"]):
                self.differences.append(f"{point}: a halt answered {answer}")
            await self._all_cancelled(point)
            if self._sent() != sent:
                self.differences.append(f"{point}: an order was sent while halted")
            lifted = (await self._until(200, "DELETE")).json()
            if lifted["halted"]:
                self.differences.append(f"{point}: lifted, and still halted")

    async def _all_cancelled(self, point: str) -> None:
        """A halt that was answered takes back all that opens, also by the next life."""
        deadline = time.monotonic() + 30
        while working := [each for each in self._simulator.book()["orders"] if _working(each)]:
            if time.monotonic() > deadline:
                self.differences.append(f"{point}: halted, and works: {working}")
                return
            await asyncio.sleep(0.1)

    def _sent(self) -> int:
        requests = self._simulator.book()["requests"]
        return sum(each["message"] == "placeOrder" for each in requests)

    async def _until(self, status: int, method: str, **request: Any) -> httpx.Response:
        while True:
            answer = await self._once(method, **request)
            if answer is not None and answer.status_code == status:
                return answer
            await asyncio.sleep(0.05)

    async def _once(self, method: str, **request: Any) -> httpx.Response | None:
        try:
            return await self._http.request(method, "/trading/halt", **request)
        except httpx.TransportError:
            return None


def _working(order: dict[str, Any]) -> bool:
    return order["status"] in {"PreSubmitted", "Submitted"} and order["action"] == "BUY"


def _work(first: int, chance: random.Random, mixed: list[Any]) -> list[Flow]:
    """One flow of each kind at least, so that every point is passed, and two of other types."""
    buy = {"symbol": "AAPL", "action": "BUY", "quantity": 1}
    held = buy | {"orderType": "LMT", "limitPrice": HELD_PRICE}
    bracket = {
        "takeProfit": {"limitPrice": 900.0},
        "stopLoss": {"stopPrice": 0.5, "limitPrice": 0.45},
    }
    wanted: list[tuple[dict[str, Any], str]] = [
        (buy | {"orderType": "MKT"}, ""),
        (buy | {"orderType": "MKT"}, ""),
        (held, "cancel"),
        (held, "cancel"),
        (held, "modify"),
        (held, "modify-once"),
        (held | {"bracket": bracket}, ""),
    ]
    others = [(buy | more, then, change) for more, then, change in chance.sample(mixed, 2)]
    all_of_them = [*((body, then, dict(CHANGE)) for body, then in wanted), *others]
    chance.shuffle(all_of_them)
    return [
        Flow(first + at, body, then, f"named-{first + at}-{chance.random()}", change=change)
        for at, (body, then, change) in enumerate(all_of_them)
    ]


def _plan(kills: int, chance: random.Random) -> list[tuple[str, int]]:
    """Every point as often as the others, in no order."""
    names = [*POINTS] * (kills // len(POINTS)) + chance.sample([*POINTS], kills % len(POINTS))
    chance.shuffle(names)
    return [(name, chance.randint(1, POINTS[name])) for name in names]


def _lots() -> list[int]:
    """How many kills each pair of books goes through."""
    return [min(KILLS_A_BOOK, KILLS - done) for done in range(0, KILLS, KILLS_A_BOOK)]


async def _through(
    plan: list[tuple[str, int]], lives: Lives, clients: Clients, halter: Halter, chance: Any
) -> list[Flow]:
    mixed = [*MIXED, *spreads(lives.bridge)]
    flows: list[Flow] = []
    under_way: list[asyncio.Task[None]] = []
    try:
        for done, (point, times) in enumerate(plan):
            if done % KILLS_A_LULL == 0:  # every client gets its answer, however slow the machine
                await asyncio.to_thread(lives.begin)
                await asyncio.gather(*under_way)
            await asyncio.to_thread(lives.begin, point, times)
            more, died = _work(len(flows) + 1, chance, mixed), asyncio.Event()
            flows += more
            under_way += [asyncio.create_task(clients.carry_out(flow)) for flow in more]
            halting = None
            if point.startswith(("halt", "resume")):
                halting = asyncio.create_task(halter.carry_out(point, died))
            try:
                await lives.death(point)
                died.set()
                if halting is not None:
                    await asyncio.to_thread(lives.begin)
                    await halting
            finally:
                if halting is not None:
                    halting.cancel()
        await asyncio.to_thread(lives.begin)
        await asyncio.gather(*under_way)
    finally:
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    return flows


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lot", range(len(_lots())))
async def test_killed_at_each_named_point_the_books_agree(tmp_path: Path, lot: int) -> None:
    seed = int(os.environ.get("GANGWAY_CRASH_SEED", "20260213")) + lot
    chance = random.Random(seed)
    print(f"lot {lot}, GANGWAY_CRASH_SEED={seed - lot}", file=sys.stderr)
    rules = tmp_path / "trading.json"
    rules.write_text(json.dumps(RULES))
    simulator = SimulatorProcess(tmp_path / "simulator.log", "--rate-limit", "100")
    lives = Lives(tmp_path / "bridge", simulator, rules)
    clients = Clients(lives.bridge.url, 40)
    halter = Halter(lives.bridge.url, simulator)
    begun = time.monotonic()
    try:
        # The first number of all proves nothing about lost orders: see orders/order_ids.py.
        first = Flow(0, RESTING, "", f"first-{chance.random()}")
        await clients.carry_out(first)
        plan = _plan(_lots()[lot], chance)
        flows = [first, *await _through(plan, lives, clients, halter, chance)]
        await settle(lives.bridge, simulator)
        books = Books(lives.bridge, simulator, flows)
        assert [*books.differences(), *halter.differences] == []
        assert lives.kills == Counter(point for point, _ in plan)
    finally:
        await clients.close()
        await halter.close()
        lives.bridge.stop()
        simulator.stop()
    seconds = time.monotonic() - begun
    print(
        f"lot {lot}: {lives.kills.total()} kills at {len(lives.kills)} points, {len(flows)} flows,"
        f" {sum(flow.tries for flow in flows)} requests, {halter.halts} halts in {seconds:.0f} s",
        file=sys.stderr,
    )
