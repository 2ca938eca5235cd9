"""Agents whose servers, and whose bridge, are killed at random moments, and who repeat.

Each order has a quantity of its own. In the end the broker's book must hold each exactly once.
`GANGWAY_MCP_KILLS` and `GANGWAY_CRASH_SEED` say how many and in which order (`make soak`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.bridge.orders.crash import RULES
from tests.bridge.rig import BridgeProcess, SimulatorProcess
from tests.closed_port import free_port
from tests.deploy.mcp.clients import DiedError, Spoken, command

KILLS = int(os.environ.get("GANGWAY_MCP_KILLS", "50"))
AGENTS = 5
KILLS_A_BRIDGE = 5
"""So many servers are killed for each bridge that is."""


class Bridges:
    """The bridge's lives on one address and one data folder."""

    def __init__(self, folder: Path, simulator: SimulatorProcess) -> None:
        rules = folder / "trading.json"
        rules.write_text(json.dumps(RULES))
        self._folder, self._simulator = folder / "bridge", simulator
        self._env = {"BRIDGE_TRADING_FILE": str(rules), "BRIDGE_TRADING_MODE": "paper"}
        self._env["BRIDGE_LISTEN"] = f"127.0.0.1:{free_port()}"
        self.bridge = BridgeProcess(self._folder, simulator.port, **self._env)
        self.kills = 0
        self._lock = asyncio.Lock()

    async def kill(self) -> None:
        async with self._lock:
            await asyncio.to_thread(self.bridge.stop, 9)
            self.kills += 1
            self.bridge = await asyncio.to_thread(
                lambda: BridgeProcess(self._folder, self._simulator.port, **self._env)
            )
            await asyncio.to_thread(self.bridge.wait_for, "ready", 30)


class Agent:
    """Previews an order, and places it until it has an answer; its server dies in between."""

    def __init__(self, client: Spoken, bridges: Bridges, chance: random.Random) -> None:
        self._client, self._bridges, self._chance = client, bridges, chance
        self.placed: dict[int, str] = {}
        self.kills = 0
        self.tries = 0

    async def carry_out(self, quantity: int) -> None:
        token, said = await self._previewed(quantity)
        killer = asyncio.create_task(self._killed_soon(quantity))
        try:
            while True:
                self.tries += 1
                try:
                    fine, answer = await self._client.call("place_order", token=token, order=said)
                except (DiedError, OSError):
                    await self._again()
                    continue
                if fine:
                    self.placed[quantity] = answer["orderId"]
                    break
                assert "token-expired" not in answer, answer
                await asyncio.sleep(0.2)
        finally:
            await killer
        if self._client.process.returncode is not None:
            await self._again()

    async def _previewed(self, quantity: int) -> tuple[str, str]:
        order = {"symbol": "AAPL", "action": "BUY", "order_type": "LMT", "limit_price": 1.0}
        while True:
            fine, found = await self._client.call("preview_order", **order, quantity=quantity)
            if fine:
                return found["token"], found["order"]
            await asyncio.sleep(0.2)

    async def _killed_soon(self, quantity: int) -> None:
        await asyncio.sleep(self._chance.random() ** 2 * 0.3)
        if quantity % (KILLS_A_BRIDGE + 1) == 0:
            await self._bridges.kill()
            return
        self._client.kill()
        await self._client.process.wait()
        self.kills += 1

    async def _again(self) -> None:
        self._client.kill()
        await self._client.process.wait()
        await self._client.start()


@pytest.mark.slow
@pytest.mark.timeout(max(300, KILLS * 6))
async def test_killed_and_repeated_no_order_is_placed_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("GANGWAY_CRASH_SEED", "20260213"))
    chance = random.Random(seed)
    simulator = SimulatorProcess(tmp_path / "simulator.log", "--rate-limit", "100")
    bridges = Bridges(tmp_path, simulator)
    begun = time.monotonic()
    key = tmp_path / "agent.key"
    made = bridges.bridge.client.post("/keys", json={"label": "agent", "scope": "trade"}).json()
    key.write_text(made["key"])
    clients = [
        Spoken(command(bridges.bridge.url, key, "trade"), tmp_path, None) for _ in range(AGENTS)
    ]
    agents = [Agent(client, bridges, chance) for client in clients]
    wanted = iter(range(1, KILLS + 1))

    async def work(agent: Agent) -> None:
        for quantity in wanted:
            await agent.carry_out(quantity)

    try:
        bridges.bridge.wait_for("ready")
        await asyncio.gather(*(client.start() for client in clients))
        await asyncio.gather(*(work(agent) for agent in agents))
        await asyncio.gather(*(client.stop() for client in clients))
        book = Counter(int(order["quantity"]) for order in simulator.book()["orders"])
        assert {quantity: count for quantity, count in book.items() if count > 1} == {}
        assert sorted(book) == list(range(1, KILLS + 1))
        told = {quantity for agent in agents for quantity in agent.placed}
        assert told == set(range(1, KILLS + 1))
        numbers = Counter(number for agent in agents for number in agent.placed.values())
        assert set(numbers.values()) == {1}
        kills = sum(agent.kills for agent in agents) + bridges.kills
        assert kills == KILLS
    finally:
        for client in clients:
            client.kill()
        bridges.bridge.stop()
        simulator.stop()
    print(
        f"{kills} kills, {bridges.kills} of the bridge, {sum(a.tries for a in agents)} place_order"
        f" for {KILLS} orders in {time.monotonic() - begun:.0f} s, GANGWAY_CRASH_SEED={seed}",
        file=sys.stderr,
    )
