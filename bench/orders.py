"""Orders and executions: what the journal and the checks cost, and a journal of a million fills."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench import Figure
from bench.bridge import CANCEL_ORDER, PLACE_ORDER, on_the_wire
from bench.rig.clients import DirectClient, HttpClient
from bench.rig.processes import bridge, free_port, quantile, simulator
from bridge.model import Contract, Execution
from bridge.store import Database, executions
from bridge.store.rows import from_milliseconds

ORDERS, APART = 60, 0.1
EXECUTIONS, PAGES = 1_000_000, 200
START = 1_700_000_000_000
STEP = 20_000
"""Milliseconds between two executions: a million are about eight months."""

FILL = """
WITH RECURSIVE counted(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM counted WHERE n < :count)
INSERT INTO executions (exec_id, stem, broker_exec_id, revision, change, at, account, symbol,
    sec_type, con_id, side, quantity, price, currency, order_id, broker_order_id, client_id,
    perm_id, order_ref, detail)
SELECT printf('%08x.6553d8a1.01.01', n), printf('%08x.6553d8a1.01', n),
    printf('%08x.6553d8a1.01.01', n), 1, n, :start + n * :step, account,
    CASE n % 4 WHEN 0 THEN 'AAPL' WHEN 1 THEN 'MSFT' WHEN 2 THEN 'SPY' ELSE 'NVDA' END,
    sec_type, con_id, side, quantity, price, currency, printf('o%024x', n), n, client_id, n,
    order_ref, detail
FROM counted, executions WHERE executions.sequence = 1
"""
COMMISSIONS = """
INSERT INTO commissions SELECT stem, 1, 1.0, 'USD', NULL FROM executions
"""


async def to_the_wire() -> list[Figure]:
    """From asking for an order until the gateway has it, beside a client that writes directly."""
    with simulator("--rate-limit", "0") as ports, bridge(ports["port"]) as ours:
        client = HttpClient(ours.port)
        quote = json.loads((await client.send("/quote/AAPL")).body)
        body = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT"}
        body["limitPrice"] = round(quote["bid"]["value"] * 0.97, 2)
        direct = await DirectClient.connect(ports["port"], 901)
        placed, written, answered = [], [], []
        for number in range(ORDERS):
            written.append(time.time())
            direct.cancel_order(1_000_000 + number)
            await asyncio.sleep(APART / 2)
            placed.append(time.time())
            headers = {"Idempotency-Key": f"bench-{number}"}
            answer = await client.send("/order", "POST", json.dumps(body).encode(), headers)
            if answer.status != 201:
                raise RuntimeError(f"/order answered {answer.status}: {answer.body[:300]!r}")
            answered.append(answer.seconds)
            await asyncio.sleep(APART / 2)
        ways = on_the_wire(ports["controlPort"], PLACE_ORDER, placed)
        straight = on_the_wire(ports["controlPort"], CANCEL_ORDER, written)
        direct.close()
    base = quantile(straight, 0.5)
    return [
        Figure(
            "order on the wire, added to a direct write, p50",
            (quantile(ways, 0.5) - base) * 1000,
            "ms",
            10,
        ),
        Figure(
            "order on the wire, added to a direct write, p99",
            (quantile(ways, 0.99) - base) * 1000,
            "ms",
        ),
        Figure("order answered by the broker, p50", quantile(answered, 0.5) * 1000, "ms"),
    ]


async def a_million(folder: Path) -> list[Figure]:
    """Pages of 500 from anywhere in a journal of a million executions."""
    database = await Database.open(folder)
    path = database.path
    await database.write(lambda connection: executions.record(connection, first(), None))
    await database.close()
    connection = sqlite3.connect(path)
    connection.execute(FILL, {"count": EXECUTIONS, "start": START, "step": STEP})
    connection.execute(COMMISSIONS)
    connection.commit()
    connection.close()
    chance = random.Random(1)
    with bridge(free_port(), ready=False, data=folder) as ours:
        client = HttpClient(ours.port)
        await until_there(client)
        taken: dict[str, list[float]] = {"since": [], "since and symbol": [], "cursor": []}
        for _ in range(PAGES // len(taken)):
            moment = from_milliseconds(START + chance.randrange(EXECUTIONS) * STEP)
            since = moment.isoformat().replace("+00:00", "Z")
            paths = {
                "since": f"/executions?since={since}",
                "since and symbol": f"/executions?since={since}&symbol=SPY",
                "cursor": f"/executions?cursor=c-{chance.randrange(EXECUTIONS)}",
            }
            for name, address in paths.items():
                answer = await client.send(address)
                if answer.status != 200:
                    raise RuntimeError(f"{address} answered {answer.status}")
                taken[name].append(answer.seconds)
    return [
        Figure(
            f"/executions by {name}, 500 of a million, p50",
            quantile(values, 0.5) * 1000,
            "ms",
            20,
        )
        for name, values in taken.items()
    ]


async def until_there(client: HttpClient) -> None:
    """Waits until it serves."""
    while True:
        try:
            await client.send("/ping")
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return


def first() -> Execution:
    """The execution that all the others are like."""
    return Execution(
        exec_id="00000001.6553d8a1.01.01",
        time=from_milliseconds(START),
        contract=Contract(con_id=265598, symbol="AAPL", primary_exchange="NASDAQ"),
        account="DU1234567",
        side="BOT",
        quantity=10.0,
        price=198.99,
        exchange="NASDAQ",
        order_ref="gw-f55ff16f66f43360266b95db-0",
    )


async def measured() -> list[Figure]:
    """Everything."""
    figures = await to_the_wire()
    with TemporaryDirectory(prefix="gangway-bench-") as folder:
        figures += await a_million(Path(folder))
    return figures


def figures() -> list[Figure]:
    """Every figure of orders and executions."""
    return uvloop.run(measured())
