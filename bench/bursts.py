"""Ten orders at once: until the gateway has them, until the broker's answer, and what they cost.

Once on this machine's disk, and once on one that takes 5 ms longer for each sync.
"""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import uvloop

from bench import Figure
from bench.bridge import PLACE_ORDER, on_the_wire
from bench.rig.clients import HttpClient
from bench.rig.load import load, request_of
from bench.rig.peer import NAME, peer_bridge, peer_orders
from bench.rig.processes import bridge, processor_seconds, quantile, simulator
from bench.rig.slow_disk import SlowDisk, slow_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rig.processes import BridgeProcess

AT_ONCE, BURSTS, APART = 10, 12, 1.0
"""Bursts stay apart, because no more than so many messages go to the gateway in a second."""
LASTING = 60
SLOW_SECONDS = 0.005

_number = count()


def orders(body: bytes, many: int) -> Callable[[], bytes | None]:
    """So many orders, each under a key of its own."""
    left = iter(range(many))

    def following() -> bytes | None:
        if next(left, None) is None:
            return None
        return request_of("/order", "POST", body, f"Idempotency-Key: burst-{next(_number)}")

    return following


async def bursts(
    ours: BridgeProcess, some: Callable[[int], Callable[[], bytes | None]], many: int
) -> tuple[list[float], list[float]]:
    """Seconds until each was answered, and when each was asked for; `some` makes so many orders."""
    answered: list[float] = []
    asked: list[float] = []
    for _ in range(many):
        asked += [time.time()] * AT_ONCE
        answered += await load(ours.port, some(AT_ONCE), AT_ONCE)
        await asyncio.sleep(APART)
    return answered, asked


async def measured(disk: SlowDisk | None, fast_rate: float | None = None) -> list[Figure]:
    """All figures with one disk; the last one of this machine's own is its rate."""
    environment = disk.environment if disk else {}
    with (
        simulator("--rate-limit", "0") as ports,
        bridge(ports["port"], environment=environment) as ours,
    ):
        quote = json.loads((await HttpClient(ours.port).send("/quote/AAPL")).body)
        order = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT"}
        order["limitPrice"] = round(quote["bid"]["value"] * 0.97, 2)
        some = partial(orders, json.dumps(order).encode())
        _, first = await bursts(ours, some, 1)
        used, synced = processor_seconds(ours.pid), disk.syncs if disk else 0
        answered, asked = await bursts(ours, some, BURSTS)
        used = processor_seconds(ours.pid) - used
        synced = (disk.syncs if disk else 0) - synced
        written = on_the_wire(ports["controlPort"], PLACE_ORDER, first + asked)[AT_ONCE:]
        begun = time.perf_counter()
        await load(ours.port, some(LASTING), AT_ONCE)
        rate = LASTING / (time.perf_counter() - begun)
    many = AT_ONCE * BURSTS
    if disk is not None:
        return [
            Figure("orders, slow disk, on the wire, p50", quantile(written, 0.5) * 1000, "ms", 50),
            Figure(
                "orders, slow disk",
                rate,
                "/s",
                44,
                least=True,
                alternative=fast_rate,
                beside="/s on this machine's disk, as the gateway's pace allows",
            ),
            Figure("orders, slow disk, syncs an order", synced / many, ""),
        ]
    other, cost = await peer()
    return [
        Figure(
            "orders, answered, p50",
            quantile(answered, 0.5) * 1000,
            "ms",
            15,
            alternative=other,
            beside=f" ms {NAME}, not accepted yet",
        ),
        Figure("orders, on the wire, p50", quantile(written, 0.5) * 1000, "ms"),
        Figure(
            "orders, processor time an order",
            used / many * 1000,
            "ms",
            2,
            alternative=cost,
            beside=f" ms {NAME}, without a journal",
        ),
        Figure("orders, without a pause", rate, "/s"),
    ]


async def peer() -> tuple[float | None, float | None]:
    """The other bridge's p50 of an answer, and its processor time an order, in milliseconds."""
    with simulator("--rate-limit", "0") as ports, peer_bridge(ports["port"]) as other:
        if other is None:
            return None, None
        await bursts(other, peer_orders, 1)
        used = processor_seconds(other.pid)
        answered, _ = await bursts(other, peer_orders, BURSTS)
        used = processor_seconds(other.pid) - used
    return quantile(answered, 0.5) * 1000, used / (AT_ONCE * BURSTS) * 1000


def figures() -> list[Figure]:
    """Both disks."""
    found = uvloop.run(measured(None))
    with slow_disk(SLOW_SECONDS) as disk:
        return [*found, *uvloop.run(measured(disk, found[-1].value))]
