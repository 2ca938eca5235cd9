"""The connection's diagnostics across restarts of the bridge, without anyone waiting for the disk.

Two tables: the root-cause fields of `/health` (name -> any JSON value), and what happened to the
connection, newest last, of which the file keeps the newest `KEPT`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from bridge.model import ConnectionEvent
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.rows import detail, from_milliseconds, readable, to_milliseconds

KEPT: Final = 10_000
"""Events; a month of ordinary days is some hundreds, and a bad week some thousands."""
PAUSE: Final = 0.2  # changes come in bursts; one write takes them all
log = structlog.get_logger(__name__)


class DiagnosticsJournal:
    """Collects changes and writes them in the background.

    Safe against a crash, not against a power cut.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._values: dict[str, Any] = {}
        self._events: list[ConnectionEvent] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def save(self, values: dict[str, Any]) -> None:
        self._values.update(values)
        self._changed.set()

    def event(self, event: ConnectionEvent) -> None:
        self._events.append(event)
        self._changed.set()

    async def start(self) -> tuple[dict[str, Any], list[ConnectionEvent]]:
        """Starts keeping; the fields and events that earlier processes kept."""
        values = await self._database.read(load)
        events = await self._database.read(newest)
        self._task = asyncio.create_task(self._run(), name="diagnostics-journal")
        return values, events

    async def stop(self) -> None:
        """Writes what is left."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(PAUSE)
            await self._flush()

    async def _flush(self) -> None:
        self._changed.clear()
        values, self._values = self._values, {}
        events, self._events = self._events, []
        if not values and not events:
            return

        def work(connection: sqlite3.Connection) -> None:
            save(connection, values)
            for event in events:
                add(connection, event.at, event.kind, event.detail)

        try:
            await self._database.write(work, durable=False)
        except (sqlite3.Error, StoreError, RuntimeError) as error:
            log.warning("diagnostics-not-kept", error=str(error))


def save(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Sets these fields and leaves the others as they are."""
    connection.executemany(
        "INSERT INTO diagnostics VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [(name, msgspec.json.encode(value).decode()) for name, value in values.items()],
    )


def load(connection: sqlite3.Connection) -> dict[str, Any]:
    """All fields that were ever saved."""
    rows = connection.execute("SELECT name, value FROM diagnostics")
    return dict(readable("diagnostics", rows, _value))


def _value(row: sqlite3.Row) -> tuple[str, Any]:
    return row["name"], msgspec.json.decode(row["value"])


def add(connection: sqlite3.Connection, at: datetime, kind: str, detail: dict[str, Any]) -> int:
    """Appends an event, drops those beyond `KEPT`, returns its sequence number."""
    cursor = connection.execute(
        "INSERT INTO connection_events (at, kind, detail) VALUES (?, ?, ?)",
        (to_milliseconds(at), kind, msgspec.json.encode(detail).decode()),
    )
    sequence = int(cursor.lastrowid or 0)
    connection.execute("DELETE FROM connection_events WHERE sequence <= ?", (sequence - KEPT,))
    return sequence


def newest(connection: sqlite3.Connection, limit: int = 100) -> list[ConnectionEvent]:
    """The last `limit` events, oldest of them first."""
    rows = connection.execute(
        "SELECT * FROM connection_events ORDER BY sequence DESC LIMIT ?", (limit,)
    ).fetchall()
    return list(readable("connection_events", reversed(rows), _event))


def events_from(connection: sqlite3.Connection, sequence: int) -> list[ConnectionEvent]:
    """Those with this sequence number or a higher one, oldest first."""
    rows = connection.execute(
        "SELECT * FROM connection_events WHERE sequence >= ? ORDER BY sequence", (sequence,)
    ).fetchall()
    return list(readable("connection_events", rows, _event))


def _event(row: sqlite3.Row) -> ConnectionEvent:
    return ConnectionEvent(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        kind=row["kind"],
        detail=detail(row["detail"]),
    )
