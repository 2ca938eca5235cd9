"""What fifty rules on twenty positions cost, beside the same bridge without a rule."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import uvloop

from bench import Figure
from bench.rig.clients import HttpClient
from bench.rig.processes import bridge, processor_seconds, resident_megabytes, simulator

if TYPE_CHECKING:
    from bench.rig.processes import BridgeProcess

SYMBOLS = ("AAPL", "MSFT", "NVDA", "AMZN", "TSLA", "GOOGL", "META", "AMD", "INTC", "JPM",
           "KO", "XOM", "PEP", "IBM", "CVX", "BAC", "PFE", "DIS", "WMT", "HD")  # fmt: skip
RULES, SECONDS, SETTLE_SECONDS = 50, 30.0, 10.0
OPEN = datetime(2026, 6, 2, 15, 0, tzinfo=UTC)  # a Tuesday, eleven in New York
TERMS: tuple[dict[str, Any], ...] = (
    {"trailing": {"percent": 90}, "stopLoss": {"percent": 80}},
    {"takeProfit": {"percent": 900}, "daysToExpiration": 1},
    {"stopLoss": {"amount": 1e7}, "at": "15:59"},
)


async def sent(client: HttpClient, path: str, method: str, body: object, key: str = "") -> None:
    """One request that has to be taken."""
    headers = {"Idempotency-Key": key} if key else {}
    answer = await client.send(path, method, json.dumps(body).encode(), headers)
    if answer.status not in {200, 201}:
        raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:300]!r}")


async def prepared(ours: BridgeProcess) -> None:
    """Buys twenty positions, and writes fifty rules, none of which will close one."""
    client = HttpClient(ours.port)
    for symbol in SYMBOLS:
        order = {"symbol": symbol, "action": "BUY", "quantity": 1, "orderType": "MKT"}
        await sent(client, "/order", "POST", order, f"bench-{symbol}")
    await asyncio.sleep(2)
    rules = [
        {"id": f"rule-{number}", "mode": "trade", "match": {"symbol": SYMBOLS[number % 20]},
         **TERMS[number // 20]}
        for number in range(RULES)
    ]  # fmt: skip
    await sent(client, "/rules", "PUT", {"rules": rules})
    client.close()


def figures() -> list[Figure]:
    """Twenty lines, of which each has a tick a second; both bridges at the same gateway."""
    offset = str((OPEN - datetime.now(UTC)).total_seconds())
    with (
        simulator(
            "--start", OPEN.isoformat(), "--hours", "exchange", "--tick-interval", "1.0"
        ) as ports,
        bridge(ports["port"], module="bench.rig.shifted_bridge",
               environment={"BENCH_CLOCK_OFFSET": offset}) as ours,
        bridge(ports["port"], module="bench.rig.shifted_bridge",
               environment={"BENCH_CLOCK_OFFSET": offset, "BRIDGE_CLIENT_ID": "2"}) as plain,
    ):  # fmt: skip
        uvloop.run(prepared(ours))
        time.sleep(SETTLE_SECONDS)
        standing = ours.get("/rules")["standing"]
        if len(standing) != RULES or any(each["waits"] for each in standing):
            raise RuntimeError(f"{len(standing)} rules are looked at: {standing[:1]}")
        before = [processor_seconds(each.pid) for each in (ours, plain)]
        begun = time.perf_counter()
        time.sleep(SECONDS)
        seconds = time.perf_counter() - begun
        used = [
            100 * (processor_seconds(each.pid) - earlier) / seconds
            for each, earlier in zip((ours, plain), before, strict=True)
        ]
        memory = [resident_megabytes(each.pid) for each in (ours, plain)]
    name = f"{RULES} rules, {len(SYMBOLS)} positions, 20 ticks/s"
    cpu, rss = " % without rules", " MiB without rules"
    return [
        Figure(f"{name}: processor, more", used[0] - used[1], "%", 2.0),
        Figure(f"{name}: processor", used[0], "%", alternative=used[1], beside=cpu),
        Figure(f"{name}: memory, more", memory[0] - memory[1], "MiB", 6.0),
        Figure(f"{name}: memory", memory[0], "MiB", alternative=memory[1], beside=rss),
    ]
