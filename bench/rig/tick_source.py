"""A simulated gateway whose ticks say when they were sent.

`python -m bench.rig.tick_source --rate 1000`, further options as of `python -m simulator`. Every
line's last price is the system's monotonic clock, so that any process of this machine can tell how
long a tick was under way. The size counts the ticks of a line from 1: a missing one shows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import signal
import time
from dataclasses import replace

from simulator.__main__ import parse
from simulator.app import Simulator
from simulator.tws.market_data import LINE
from simulator.tws.ticks import tick_price

LAST = 4
TURN_SECONDS = 0.002


async def drive(simulator: Simulator, rate: int) -> None:
    """Sends `rate` ticks a second over all open lines, as irregularly as a market does."""
    chance = random.Random(1)
    counts: dict[tuple[int, int], itertools.count[int]] = {}
    begun, sent = time.monotonic(), 0
    while True:
        await asyncio.sleep(TURN_SECONDS * chance.uniform(0.5, 1.5))
        lines = [
            (session, request_id)
            for session in simulator.world.sessions
            for kind, request_id in session.subscriptions
            if kind == LINE
        ]
        due = int((time.monotonic() - begun) * rate) - sent
        sent += due
        for _ in range(due if lines else 0):
            session, request_id = chance.choice(lines)
            count = counts.setdefault((id(session), request_id), itertools.count(1))
            tick_price(session, request_id, LAST, time.monotonic(), next(count))


async def main(rate: int, rest: list[str]) -> None:
    options = replace(parse(rest), tick_interval=3600.0, rate_limit=0)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(options) as simulator:
        print(json.dumps({"ready": True, **simulator.ports}), flush=True)
        driving = asyncio.create_task(drive(simulator, rate))
        await stop.wait()
        driving.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--rate", type=int, default=1000)
    given, others = parser.parse_known_args()
    asyncio.run(main(given.rate, others))
