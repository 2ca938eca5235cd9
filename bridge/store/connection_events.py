"""What happened to the connection, newest last; the file keeps the newest `KEPT`."""

import sqlite3
from datetime import datetime
from typing import Any, Final

import msgspec

from bridge.store.damage import detail, readable
from bridge.store.times import from_milliseconds, to_milliseconds

KEPT: Final = 2000


class ConnectionEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One event: `kind` is a short stable word, `detail` whatever explains it."""

    sequence: int
    at: datetime
    kind: str
    detail: dict[str, Any]


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


def _event(row: sqlite3.Row) -> ConnectionEvent:
    return ConnectionEvent(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        kind=row["kind"],
        detail=detail(row["detail"]),
    )
