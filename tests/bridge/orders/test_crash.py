import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.bridge.orders.crash import (
    MIXED,
    RESTING,
    Books,
    Clients,
    Flow,
    Killer,
    make_flows,
    settle,
    spreads,
)
from tests.bridge.rig import SimulatorProcess

FLOWS = 500
AT_ONCE = 40


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_killed_at_random_moments_nothing_is_sent_twice_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("GANGWAY_CRASH_SEED", "20260213"))
    chance = random.Random(seed)
    # A starved machine bunches what the bridge has paced; orders that the gateway then drops for
    # their rate are honestly unknown, and not what is counted here.
    simulator = SimulatorProcess(tmp_path / "simulator.log", "--rate-limit", "100")
    killer = Killer(tmp_path / "bridge", simulator, chance)
    mixed = [*MIXED, *spreads(killer.bridge)]
    flows = make_flows(FLOWS, chance, mixed)
    clients = Clients(killer.bridge.url, AT_ONCE)
    # The first number of all proves nothing about orders that were lost: see orders/order_ids.py.
    flows.append(Flow(FLOWS, RESTING, "", f"first-{chance.random()}"))
    await clients.carry_out(flows[-1])
    stop = asyncio.Event()
    killing = asyncio.create_task(killer.run(stop))
    try:
        await asyncio.gather(*(clients.carry_out(flow) for flow in flows))
        stop.set()
        await killing
        await settle(killer.bridge, simulator)
        books = Books(killer.bridge, simulator, flows)
        assert books.differences() == []
        assert killer.kills >= 4
        assert any(flow.tries > 1 for flow in flows)
        assert len(books.book["orders"]) > FLOWS * 0.8
        assert len(books.executions) > FLOWS * 0.3
    finally:
        stop.set()  # not cancelled: a bridge that is just being started would be left behind
        await asyncio.gather(killing, return_exceptions=True)
        await clients.close()
        killer.bridge.stop()
        simulator.stop()
    requests = sum(flow.tries for flow in flows)
    print(f"{clients.done} flows, seed {seed}: {killer.kills} kills, {requests} requests")
