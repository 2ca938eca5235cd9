"""What many readers of positions and account cost, and what they cost an order."""

from __future__ import annotations

import asyncio
import json
import time

import uvloop

from bench import Figure
from bench.bridge import PLACE_ORDER, on_the_wire
from bench.rig.clients import HttpClient
from bench.rig.peer import NAME, peer_bridge
from bench.rig.processes import bridge, quantile, simulator

SECONDS, ORDERS = 5.0, 20


async def poll(port: int, path: str, seconds: float) -> tuple[list[float], float]:
    """One client that asks without pause: seconds of each answer, and the oldest age shown."""
    client, taken, oldest = HttpClient(port), [], 0.0
    await client.send(path)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = await client.send(path)
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:300]!r}")
        taken.append(answer.seconds)
        oldest = max(oldest, json.loads(answer.body)["age"])
    client.close()
    return taken, oldest


async def peer(seconds: float) -> dict[str, float]:
    """How often the other bridge answers one client that asks without pause, by our paths."""
    rates = {}
    with simulator() as ports, peer_bridge(ports["port"]) as other:
        if other is not None:
            client = HttpClient(other.port)
            for ours, path in (("/positions", "/positions"), ("/account", "/account-values")):
                begun, count = time.monotonic(), 0
                while time.monotonic() - begun < seconds:
                    answer = await client.send(path)
                    if answer.status != 200:
                        raise RuntimeError(f"{path} answered {answer.status}")
                    count += 1
                rates[ours] = count / (time.monotonic() - begun)
            client.close()
    return rates


async def place(client: HttpClient, name: str, limit: float, **body: object) -> None:
    """One limit order of a share."""
    body = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", **body}
    body["limitPrice"] = round(limit, 2)
    headers = {"Idempotency-Key": name}
    answer = await client.send("/order", "POST", json.dumps(body).encode(), headers)
    if answer.status != 201:
        raise RuntimeError(f"/order answered {answer.status}: {answer.body[:300]!r}")


async def ways(client: HttpClient, control_port: int, limit: float, done: int) -> list[float]:
    """Seconds to the wire of so many orders, of which `done` were placed before, and the held."""
    placed = []
    for number in range(ORDERS):
        placed.append(time.time())
        await place(client, f"bench-{done + number}", limit)
        await asyncio.sleep(0.1)
    return on_the_wire(control_port, PLACE_ORDER, [0.0] * (done + 1) + placed)[done + 1 :]


async def measured() -> list[Figure]:
    """Reads of one client, and orders while two others read."""
    rows = []
    others = await peer(SECONDS)
    with simulator() as ports, bridge(ports["port"]) as ours:
        client = HttpClient(ours.port)
        quote = json.loads((await client.send("/quote/AAPL")).body)
        await place(client, "held", quote["ask"]["value"] * 1.01)
        await asyncio.sleep(1.5)
        for path in ("/positions", "/account"):
            taken, oldest = await poll(ours.port, path, SECONDS)
            rows += [
                Figure(
                    f"{path}, one client",
                    len(taken) / sum(taken),
                    "/s",
                    1500,
                    least=True,
                    alternative=others.get(path),
                    beside=f"/s {NAME}",
                ),
                Figure(f"{path}, p99", quantile(taken, 0.99) * 1000, "ms", 5),
                Figure(f"{path}, oldest shown", oldest, "s", 1.1),
            ]
        limit, control = quote["bid"]["value"] * 0.97, ports["controlPort"]
        alone = await ways(client, control, limit, 0)
        readers = [
            asyncio.create_task(poll(ours.port, path, ORDERS * 0.15 + 1))
            for path in ("/positions", "/positions")
        ]
        await asyncio.sleep(0.5)
        among = await ways(client, control, limit, ORDERS)
        await asyncio.gather(*readers)
    for share, name, bar in ((0.5, "p50", None), (1.0, "worst", 50)):
        rows.append(
            Figure(
                f"an order while two clients read positions, {name} of {ORDERS}",
                quantile(among, share) * 1000,
                "ms",
                bar,
                alternative=quantile(alone, share) * 1000,
                beside=" ms without readers",
            )
        )
    return rows


def figures() -> list[Figure]:
    """Every figure of the account."""
    return uvloop.run(measured())
