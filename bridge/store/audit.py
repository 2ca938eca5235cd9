"""The audit log: every call that changes or could change an order. Triggers keep it append-only."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

import msgspec

from bridge.store.times import from_milliseconds, to_milliseconds


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who (`apiKeyId`, never the key) did what, to which order, and what came of it.

    `result` is `ok`, the code of an error, or `sending`: written down, outcome in a later entry.
    """

    at: datetime
    api_key_id: str
    request_id: str
    action: str
    target: str
    detail: dict[str, Any]
    result: str
    sequence: int = 0


def add(connection: sqlite3.Connection, entry: AuditEntry) -> None:
    """Appends an entry."""
    connection.execute(
        "INSERT INTO audit (at, api_key_id, request_id, action, target, detail,"
        " result) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            to_milliseconds(entry.at),
            entry.api_key_id,
            entry.request_id,
            entry.action,
            entry.target,
            msgspec.json.encode(entry.detail).decode(),
            entry.result,
        ),
    )


def page(
    connection: sqlite3.Connection, *, before: int | None, limit: int
) -> tuple[list[AuditEntry], int | None]:
    """The newest entries first, and the cursor of the next page (None: there is none)."""
    rows = connection.execute(
        "SELECT * FROM audit WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
        (before if before is not None else 1 << 62, limit + 1),
    ).fetchall()
    cursor = int(rows[limit - 1]["sequence"]) if len(rows) > limit else None
    return [_entry(row) for row in rows[:limit]], cursor


def _entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        api_key_id=row["api_key_id"],
        request_id=row["request_id"],
        action=row["action"],
        target=row["target"],
        detail=msgspec.json.decode(row["detail"]),
        result=row["result"],
    )
