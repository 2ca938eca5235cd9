"""What an order takes in a journal of a million orders, beside one in a journal of a thousand."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import uvloop

from bench import Figure
from bench.bursts import orders
from bench.rig.clients import HttpClient
from bench.rig.load import load
from bench.rig.processes import bridge, quantile, simulator
from bridge.store.database import FILE_NAME

if TYPE_CHECKING:
    from bench.rig.processes import BridgeProcess

FEW, MANY = 1_000, 1_000_000
PLACED, APART = 40, 0.1
DAY, DAYS = 86_400_000, 700

COUNTED = "WITH RECURSIVE counted(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM counted WHERE n < ?)"
"""Every order of the table is like the first, and older."""
OWN = {
    "id": "printf('o%024x', n)",
    "group_id": "printf('o%024x', n)",
    "order_id": "printf('o%024x', n)",
    "order_ref": "printf('gw-%024x-0', n)",
    "key_digest": "printf('%064x', n)",
    "body_digest": "printf('%064x', n)",
    "perm_id": "n",
    "broker_order_id": "n % 1000",
    "stem": "printf('%08x.6553d8a1.01', n)",
    "exec_id": "printf('%08x.6553d8a1.01.01', n)",
    "broker_exec_id": "printf('%08x.6553d8a1.01.01', n)",
    "change": "n + 1000",
    "state": "'terminal'",
    "status": "'Filled'",
}
TIMES = ("at", "created_at", "updated_at", "sent_at", "acknowledged_at", "ended_at", "answered_at")


def multiply(path: Path, count: int) -> None:
    """Makes the first order of a journal `count` orders."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    first = connection.execute("SELECT id FROM orders ORDER BY sequence LIMIT 1").fetchone()[0]
    for table, condition in (
        ("orders", "id = ?"),
        ("order_events", "order_id = ?"),
        ("idempotency", "key_digest = (SELECT key_digest FROM orders WHERE id = ?)"),
        ("executions", "order_id = ?"),
        ("commissions", "stem = (SELECT stem FROM executions WHERE order_id = ?)"),
    ):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        names = [name for name in names if name != "sequence"]
        older = f"- {DAY} * (1 + n % {DAYS})"
        values = [f"{name} {older}" if name in TIMES else OWN.get(name, name) for name in names]
        connection.execute(
            f"{COUNTED} INSERT INTO {table} ({', '.join(names)})"
            f" SELECT {', '.join(values)} FROM counted, {table} WHERE {condition}",
            (count, first),
        )
    connection.commit()
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    os.sync()  # an order would wait for the disk to take gigabytes that no year writes at once


async def place(ours: BridgeProcess, count: int) -> list[float]:
    """Seconds until the answer to each of so many orders, one after the other."""
    quote = json.loads((await HttpClient(ours.port).send("/quote/AAPL")).body)
    order = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT"}
    order["limitPrice"] = round(quote["ask"]["value"] * 1.01, 2)
    answered = []
    for _ in range(count):
        answered += await load(ours.port, orders(json.dumps(order).encode(), 1), 1)
        await asyncio.sleep(APART)
    return answered


def measured(count: int) -> tuple[float, float]:
    """The p50 of an order's answer in a journal of so many orders, and its bytes an order."""
    with TemporaryDirectory(prefix="gangway-growth-") as folder:
        data = Path(folder)
        with simulator("--rate-limit", "0") as ports, bridge(ports["port"], data=data) as ours:
            uvloop.run(place(ours, 1))
            asyncio.run(asyncio.sleep(1.5))
        multiply(data / FILE_NAME, count)
        size = (data / FILE_NAME).stat().st_size
        with simulator("--rate-limit", "0") as ports, bridge(ports["port"], data=data) as ours:
            taken = uvloop.run(place(ours, PLACED))
    return quantile(taken, 0.5), size / count


def figures(few: int = FEW, many: int = MANY) -> list[Figure]:
    """Both journals."""
    (small, _), (large, each) = measured(few), measured(many)
    return [
        Figure(f"order, p50, {few:,} in the journal", small * 1000, "ms"),
        Figure(f"order, p50, {many:,} in the journal", large * 1000, "ms"),
        Figure(f"{many:,} beside {few:,}", large / small, "x", 1.2),
        Figure("journal, an order with its fill", each / 1000, "kB", 3.7),
    ]
