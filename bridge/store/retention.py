"""Moves orders that ended long ago, with all that belongs to them, from the journal into files.

Once a day, a few at a time: what is old is appended to `archive/orders-YYYY-MM.jsonl` beside the
journal (by the month in which it ended, synced), and only then taken out. A crash in between leaves
it in both; the next run writes it once more. One line is an order with its steps, executions and
key, or an execution that belongs to no order of the bridge's.

What stays: the keys (an old one is never taken for a new order), the audit log (its entries hang
together), whatever has not ended, what orders of several legs have opened as one and is held still,
and the newest of everything that is counted.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from bridge.clock import Clock
from bridge.model import Contract
from bridge.quantity import SLACK
from bridge.store import executions, idempotency, orders
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.identity import sync, write_all
from bridge.store.rows import as_they_are, from_milliseconds, to_milliseconds

log = structlog.get_logger(__name__)
FOLDER: Final = "archive"
AT_ONCE: Final = 100
FIRST_SECONDS, PAUSE_SECONDS, HOUR_SECONDS, DAY_SECONDS = 300.0, 1.0, 3600.0, 86_400.0

_OLD_ORDERS: Final = """
SELECT * FROM orders WHERE created_at < :before AND +state = 'terminal' AND ended_at < :before
    AND sequence < :newest AND broker_order_id != :highest
    AND NOT EXISTS (SELECT 1 FROM orders AS leg WHERE leg.group_id = orders.group_id
        AND (leg.state != 'terminal' OR leg.ended_at >= :before))
    AND NOT EXISTS (SELECT 1 FROM executions WHERE executions.order_id = orders.id
        AND (executions.change = :change OR executions.at >= :before))
ORDER BY created_at
"""
_OLD_EXECUTIONS: Final = """
SELECT * FROM executions WHERE +order_id IS NULL AND at < :before AND change != :change
ORDER BY at
"""


class Old(msgspec.Struct, frozen=True):
    """What is to be moved: whole orders, and executions of nobody's; `lines` by month."""

    order_ids: list[str]
    stems: list[str]
    lines: dict[str, list[dict[str, Any]]]

    def __len__(self) -> int:
        return len(self.order_ids) + len(self.stems)


class Retention:
    """Of one journal; `keep` is how long an order stays in it after its end.

    `clock_is_right`: a clock that is months ahead would have everything moved that has ended, and
    what is held as one would fall apart.
    """

    def __init__(
        self,
        database: Database,
        keep: timedelta,
        clock_is_right: Callable[[], bool] = lambda: True,
    ) -> None:
        self._clock_is_right = clock_is_right
        self._database = database
        self._folder = database.path.parent / FOLDER
        self._keep = keep

    async def run(self, clock: Clock) -> None:
        """Moves what has become old, every day, until cancelled."""
        await clock.sleep(FIRST_SECONDS)
        while True:
            if not self._clock_is_right():
                await clock.sleep(HOUR_SECONDS)
                continue
            try:
                while await self.move(clock.now()):
                    await clock.sleep(PAUSE_SECONDS)
            except (OSError, StoreError, sqlite3.Error) as error:
                log.warning("journal-not-archived", error=str(error) or repr(error))
            except Exception:
                log.exception("journal-not-archived")  # the next day's may be better
            await clock.sleep(DAY_SECONDS)

    async def move(self, now: datetime) -> int:
        """Moves the oldest; how many orders and executions that were.

        Raises:
            OSError: the files cannot be written; nothing is taken out.
            StoreError: the journal cannot be read or written.
        """
        old = await self._database.read(lambda connection: _old(connection, now, self._keep))
        if len(old):
            await asyncio.to_thread(_append, self._folder, old.lines)
            moved = await self._database.write(lambda connection: _take_out(connection, old))
            log.info("journal-archived", orders=len(old.order_ids), executions=len(old.stems))
            return moved
        return 0


def _old(connection: sqlite3.Connection, now: datetime, keep: timedelta) -> Old:
    change = connection.execute("SELECT coalesce(max(change), 0) FROM executions").fetchone()[0]
    values = {
        "before": to_milliseconds(now - keep),
        "newest": orders.newest_row(connection),
        "highest": orders.highest_broker_order_id(connection),
        "change": change,
    }
    held = _HeldAsOne(connection, now)
    found = Old([], [], {})
    for row in _rows(connection, _OLD_ORDERS, values):
        if _is_damaged(row, "id", "group_id", "key_digest") or held.by_group(row["group_id"]):
            continue
        found.order_ids.append(row["id"])
        line = {"order": row, **_belongings(connection, row)}
        found.lines.setdefault(_month(row["ended_at"]), []).append(line)
        if len(found.order_ids) == AT_ONCE:
            break
    for row in _rows(connection, _OLD_EXECUTIONS, values):
        if _is_damaged(row, "stem") or held.by_nobodys(row["perm_id"]):
            continue
        found.stems.append(row["stem"])
        line = {"execution": row, "commission": _commission(connection, row["stem"])}
        found.lines.setdefault(_month(row["at"]), []).append(line)
        if len(found.stems) == AT_ONCE:
            break
    return found


class _HeldAsOne:
    """Whether what orders of several legs have opened is held still, by the journal's executions.

    Without them nobody would know that the legs belong together, and a rule or a close would take
    each for a position of its own: of a spread the short leg would be left.
    """

    def __init__(self, connection: sqlite3.Connection, now: datetime) -> None:
        self._connection = connection
        self._yesterday = f"{now - timedelta(days=1):%Y%m%d}"
        self._nobodys = dict[int, bool]()

    def by_group(self, group_id: str) -> bool:
        """Of an order, or of one that goes with it."""
        of_group = self._connection.execute("SELECT id FROM orders WHERE group_id = ?", (group_id,))
        names = [as_they_are(row)[0] for row in of_group.fetchall()]
        if not all(isinstance(name, str) for name in names):
            return True  # nobody can tell
        return any(self._held(executions.of_order(self._connection, name)) for name in names)

    def by_nobodys(self, perm_id: int) -> bool:
        """Of an order that is none of the bridge's."""
        if perm_id and perm_id not in self._nobodys:
            filled = executions.of_nobodys(self._connection, perm_id)
            self._nobodys[perm_id] = self._held(filled)
        return self._nobodys.get(perm_id, False)

    def _held(self, filled: Iterable[executions.ExecutionRow]) -> bool:
        each_leg = [row.execution for row in filled if row.execution.contract.sec_type != "BAG"]
        legs = {(leg.account, leg.contract.con_id): leg.contract for leg in each_leg}
        return (
            len(legs) > 1
            and all(self._lives(contract) for contract in legs.values())
            and all(
                abs(executions.balance(self._connection, account, contract)) > SLACK
                for (account, _), contract in legs.items()
            )
        )

    def _lives(self, contract: Contract) -> bool:
        """Whether it has not expired, or never does; of a month without a day, at its end."""
        return not contract.expiration or f"{contract.expiration}31"[:8] >= self._yesterday


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
    for row in connection.execute(query, values):
        yield {
            name: value.decode(errors="replace") if isinstance(value, bytes) else value
            for name, value in zip(row.keys(), as_they_are(row), strict=True)
        }


def _is_damaged(row: dict[str, Any], *names: str) -> bool:
    """Whether it cannot be found by a name again: it stays where it is."""
    return any("\ufffd" in str(row[name]) for name in names)


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


def _take_out(connection: sqlite3.Connection, old: Old) -> int:
    """How many of them are gone."""
    moved = 0
    for order_id in old.order_ids:
        filled = connection.execute("SELECT stem FROM executions WHERE order_id = ?", (order_id,))
        _take_out_executions(connection, [row[0] for row in filled.fetchall()])
        connection.execute("DELETE FROM order_events WHERE order_id = ?", (order_id,))
        connection.execute("DELETE FROM order_money WHERE order_id = ?", (order_id,))
        select = "SELECT key_digest, status != 'NotSent' AS sent FROM orders WHERE id = ?"
        keys = connection.execute(select, (order_id,)).fetchall()
        moved += connection.execute("DELETE FROM orders WHERE id = ?", (order_id,)).rowcount
        for row in keys:
            idempotency.archive(connection, row["key_digest"], sent=bool(row["sent"]))
    return moved + _take_out_executions(connection, old.stems)


def _take_out_executions(connection: sqlite3.Connection, stems: Iterable[str]) -> int:
    gone = 0
    for stem in stems:
        connection.execute("DELETE FROM commissions WHERE stem = ?", (stem,))
        gone += connection.execute("DELETE FROM executions WHERE stem = ?", (stem,)).rowcount
    return gone
