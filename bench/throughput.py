"""How much the bridge answers when ten ask at once, and what an answer costs of a processor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import uvloop

from bench import Figure
from bench.rig.load import load, repeated, request_of
from bench.rig.peer import NAME, peer_bridge
from bench.rig.processes import bridge, processor_seconds, simulator

if TYPE_CHECKING:
    from bench.rig.processes import BridgeProcess

AT_ONCE = 10
READS = 20_000


def reads(
    ours: BridgeProcess, path: str, bar: float | None, beside: BridgeProcess | None = None
) -> list[Figure]:
    """One path, as often as ten clients can have it, from ours and from another bridge."""
    rate, cost = often(ours, path)
    other, other_cost = often(beside, path) if beside is not None else (None, None)
    return [
        Figure(
            f"{path}, {AT_ONCE} at once",
            rate,
            "/s",
            bar,
            least=True,
            alternative=other,
            beside=f"/s {NAME}",
        ),
        Figure(
            f"{path}, processor time an answer",
            cost,
            "us",
            alternative=other_cost,
            beside=f" us {NAME}",
        ),
    ]


def often(ours: BridgeProcess, path: str) -> tuple[float, float]:
    """Answers a second, and microseconds of a processor for each."""
    request = request_of(path)
    uvloop.run(load(ours.port, repeated(request, READS // 10), AT_ONCE))
    used, begun = processor_seconds(ours.pid), time.perf_counter()
    uvloop.run(load(ours.port, repeated(request, READS), AT_ONCE))
    seconds, used = time.perf_counter() - begun, processor_seconds(ours.pid) - used
    return READS / seconds, used / READS * 1e6


def figures() -> list[Figure]:
    """Everything that is asked for often."""
    with (
        simulator("--rate-limit", "0") as ports,
        bridge(ports["port"]) as ours,
        peer_bridge(ports["port"]) as other,
    ):
        return [
            *reads(ours, "/health", 8_000, other),
            *reads(ours, "/ping", None),
            *reads(ours, "/quote/AAPL", None),
        ]
