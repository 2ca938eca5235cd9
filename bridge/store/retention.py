"""Moves orders that ended long ago, with all that belongs to them, from the journal into files.

Once a day, a few at a time: what is old is appended to `archive/orders-YYYY-MM.jsonl` beside the
journal (by the month in which it ended, synced), and only then taken out. A crash in between leaves
it in both; the next run writes it once more. One line is an order with its steps, executions and
key, or an execution that belongs to no order of the bridge's.

What stays: the keys (an old one is never taken for a new order), the audit log (its entries hang
together), whatever has not ended, and the newest of everything that is counted.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from bridge.clock import Clock
from bridge.store import orders
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.identity import sync, write_all
from bridge.store.rows import from_milliseconds, to_milliseconds

log = structlog.get_logger(__name__)
FOLDER: Final = "archive"
AT_ONCE: Final = 100
FIRST_SECONDS, PAUSE_SECONDS, DAY_SECONDS = 300.0, 1.0, 86_400.0

_OLD_ORDERS: Final = """
SELECT * FROM orders WHERE created_at < :before AND +state = 'terminal' AND ended_at < :before
    AND sequence < :newest AND broker_order_id != :highest
    AND NOT EXISTS (SELECT 1 FROM orders AS leg WHERE leg.group_id = orders.group_id
        AND (leg.state != 'terminal' OR leg.ended_at >= :before))
    AND NOT EXISTS (SELECT 1 FROM executions WHERE executions.order_id = orders.id
        AND (executions.change = :change OR executions.at >= :before))
ORDER BY created_at LIMIT :limit
"""
_OLD_EXECUTIONS: Final = """
SELECT * FROM executions WHERE order_id IS NULL AND at < :before AND change != :change
ORDER BY at LIMIT :limit
"""


class Old(msgspec.Struct, frozen=True):
    """What is to be moved: whole orders, and executions of nobody's; `lines` by month."""

    order_ids: list[str]
    stems: list[str]
    lines: dict[str, list[dict[str, Any]]]

    def __len__(self) -> int:
        return len(self.order_ids) + len(self.stems)


class Retention:
    """Of one journal; `keep` is how long an order stays in it after its end."""

    def __init__(self, database: Database, keep: timedelta) -> None:
        self._database = database
        self._folder = database.path.parent / FOLDER
        self._keep = keep

    async def run(self, clock: Clock) -> None:
        """Moves what has become old, every day, until cancelled."""
        await clock.sleep(FIRST_SECONDS)
        while True:
            try:
                while await self.move(clock.now()):
                    await clock.sleep(PAUSE_SECONDS)
            except (OSError, StoreError, sqlite3.Error) as error:
                log.warning("journal-not-archived", error=str(error) or repr(error))
            await clock.sleep(DAY_SECONDS)

    async def move(self, now: datetime) -> int:
        """Moves the oldest; how many orders and executions that were.

        Raises:
            OSError: the files cannot be written; nothing is taken out.
            StoreError: the journal cannot be read or written.
        """
        before = to_milliseconds(now - self._keep)
        old = await self._database.read(lambda connection: _old(connection, before))
        if len(old):
            await asyncio.to_thread(_append, self._folder, old.lines)
            await self._database.write(lambda connection: _take_out(connection, old))
            log.info("journal-archived", orders=len(old.order_ids), executions=len(old.stems))
        return len(old)


def _old(connection: sqlite3.Connection, before: int) -> Old:
    newest = orders.newest_row(connection)
    change = connection.execute("SELECT coalesce(max(change), 0) FROM executions").fetchone()[0]
    values = {
        "before": before,
        "newest": newest,
        "highest": orders.highest_broker_order_id(connection),
        "change": change,
        "limit": AT_ONCE,
    }
    found = Old([], [], {})
    for row in _rows(connection, _OLD_ORDERS, values):
        found.order_ids.append(row["id"])
        line = {"order": row, **_belongings(connection, row)}
        found.lines.setdefault(_month(row["ended_at"]), []).append(line)
    for row in _rows(connection, _OLD_EXECUTIONS, values):
        found.stems.append(row["stem"])
        line = {"execution": row, "commission": _commission(connection, row["stem"])}
        found.lines.setdefault(_month(row["at"]), []).append(line)
    return found


def _belongings(connection: sqlite3.Connection, order: dict[str, Any]) -> dict[str, Any]:
    name = {"id": order["id"], "key": order["key_digest"]}
    filled = _rows(connection, "SELECT * FROM executions WHERE order_id = :id", name)
    key = _rows(connection, "SELECT * FROM idempotency WHERE key_digest = :key", name)
    return {
        "events": list(_rows(connection, "SELECT * FROM order_events WHERE order_id = :id", name)),
        "money": list(_rows(connection, "SELECT * FROM order_money WHERE order_id = :id", name)),
        "executions": [
            {"execution": each, "commission": _commission(connection, each["stem"])}
            for each in filled
        ],
        "key": next(key, None),
    }


def _commission(connection: sqlite3.Connection, stem: str) -> dict[str, Any] | None:
    query = "SELECT * FROM commissions WHERE stem = :stem"
    return next(_rows(connection, query, {"stem": stem}), None)


def _rows(
    connection: sqlite3.Connection, query: str, values: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Rows by column; bytes as the text that they are."""
    for row in connection.execute(query, values).fetchall():
        yield {
            name: row[name].decode(errors="replace") if isinstance(row[name], bytes) else row[name]
            for name in row.keys()  # noqa: SIM118
        }


def _month(moment: int) -> str:
    return f"{from_milliseconds(moment):%Y-%m}"


def _append(folder: Path, lines: dict[str, list[dict[str, Any]]]) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for month, found in lines.items():
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in found)
        _append_whole(folder / f"orders-{month}.jsonl", text)
    sync(folder)
    sync(folder.parent)


def _append_whole(path: Path, text: bytes) -> None:
    """On the disk when this returns; when it cannot be written the file is as before."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = b"\n" + text  # behind what a process that was killed has left
        try:
            write_all(descriptor, text)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_out(connection: sqlite3.Connection, old: Old) -> None:
    for order_id in old.order_ids:
        filled = connection.execute("SELECT stem FROM executions WHERE order_id = ?", (order_id,))
        _take_out_executions(connection, [row[0] for row in filled.fetchall()])
        connection.execute("DELETE FROM order_events WHERE order_id = ?", (order_id,))
        connection.execute("DELETE FROM order_money WHERE order_id = ?", (order_id,))
        connection.execute(
            "UPDATE idempotency SET answer = x'', accepted = coalesce(accepted, 1)"
            " WHERE key_digest = (SELECT key_digest FROM orders WHERE id = ?)",
            (order_id,),
        )
        connection.execute("DELETE FROM orders WHERE id = ?", (order_id,))
    _take_out_executions(connection, old.stems)


def _take_out_executions(connection: sqlite3.Connection, stems: Iterable[str]) -> None:
    for stem in stems:
        connection.execute("DELETE FROM commissions WHERE stem = ?", (stem,))
        connection.execute("DELETE FROM executions WHERE stem = ?", (stem,))
