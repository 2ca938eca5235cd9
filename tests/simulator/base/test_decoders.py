"""Real client libraries read everything that the simulator says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulator.tws.realtime import BARS
from tests.simulator.base.raw import simulated

if TYPE_CHECKING:
    from simulator.app import Simulator

ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = {"ib_async": (".venv", 178), "ib_insync": (".venv-ib-insync", 176)}


async def wind_for_bars(simulator: Simulator) -> None:
    """Lets five-second bars come without waiting for them."""
    while True:
        await asyncio.sleep(0.2)
        for session in simulator.world.sessions:
            if any(kind == BARS for kind, _ in session.subscriptions):
                simulator.world.clock.advance(5)


@pytest.mark.parametrize("name", LIBRARIES)
async def test_a_real_client_reads_every_message(name: str) -> None:
    folder, version = LIBRARIES[name]
    python = ROOT / folder / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {folder}: scripts/setup insync makes it")
    async with simulated(rate_limit=0) as simulator:
        process = await asyncio.create_subprocess_exec(
            str(python),
            str(Path(__file__).with_name("tour.py")),
            name,
            str(simulator.ports["port"]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        winding = asyncio.create_task(wind_for_bars(simulator))
        out, errors = await asyncio.wait_for(process.communicate(), 90)
        winding.cancel()
    assert process.returncode == 0, errors.decode()[-2000:]
    seen = json.loads(out.splitlines()[-1])
    assert seen == {
        "complaints": [],
        "errors": [162, 200],  # a cancelled history, an unknown contract
        "version": version,
        "futures": 8,
        "chains": 19,
        "longName": "APPLE INC",
        "unknown": 0,
        "samples": 2,
        "rule": 0.01,
        "components": 17,
        "depthExchanges": 7,
        "bars": True,
        "stock": [True, True, True],
        "generic": [True, True],
        "greeks": True,
        "priced": True,
        "history": [True] * 10,
        "head": "2004",
        "schedule": 5,
        "ticks TRADES": 5,
        "ticks BID_ASK": 5,
        "ticks MIDPOINT": 5,
        "histogram": True,
    }
