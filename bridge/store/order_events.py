"""The life of each order, step by step; only ever added to."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

import msgspec

from bridge.store.rows import detail, from_milliseconds, readable, to_milliseconds


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One step: `kind` is a stable word, `detail` what was said."""

    sequence: int
    at: datetime
    kind: str
    detail: dict[str, Any]


def add(
    connection: sqlite3.Connection, order_id: str, at: datetime, kind: str, detail: dict[str, Any]
) -> None:
    """Appends a step."""
    connection.execute(
        "INSERT INTO order_events (order_id, at, kind, detail) VALUES (?, ?, ?, ?)",
        (order_id, to_milliseconds(at), kind, msgspec.json.encode(detail).decode()),
    )


def of_order(connection: sqlite3.Connection, order_id: str) -> list[OrderEvent]:
    """Every step of one order, oldest first."""
    rows = connection.execute(
        "SELECT * FROM order_events WHERE order_id = ? ORDER BY sequence", (order_id,)
    )
    return list(readable("order_events", rows, _event))


def happened_since(
    connection: sqlite3.Connection, order_id: str, kind: str, said: str, since: datetime
) -> bool:
    """Whether the order has had such a step since then, with this in its detail."""
    found = connection.execute(
        "SELECT 1 FROM order_events WHERE order_id = ? AND kind = ? AND at >= ?"
        " AND instr(detail, ?) LIMIT 1",
        (order_id, kind, to_milliseconds(since), said),
    )
    return found.fetchone() is not None


def _event(row: sqlite3.Row) -> OrderEvent:
    return OrderEvent(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        kind=row["kind"],
        detail=detail(row["detail"]),
    )
