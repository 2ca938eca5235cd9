"""What the position manager keeps: rules in versions, memories of holdings, closes, events.

The contents are JSON that `bridge.rules` reads; here they are text.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from bridge.store.rows import as_they_are, detail, from_milliseconds, readable, to_milliseconds

MOST_VERSIONS: Final = 200
MOST_EVENTS: Final = 20_000
"""Kept; older ones go."""


class RuleEvent(Struct, frozen=True, kw_only=True, rename="camel"):
    """Something that the position manager did or would have done.

    `kind`: `decided`, `simulated`, `order`, `waits`, `closed`, `gone`, `cancelled`, `refused`,
    `gave-up`, `protected`, `unprotected`, `rules`.
    """

    at: datetime
    kind: str
    rule: str
    detail: dict[str, Any]
    sequence: int = 0


def put_rules(connection: sqlite3.Connection, content: bytes, at: datetime, api_key_id: str) -> int:
    """Keeps a new version of the rules; its number."""
    cursor = connection.execute(
        "INSERT INTO rule_sets (at, api_key_id, content) VALUES (?, ?, ?)",
        (to_milliseconds(at), api_key_id, content.decode()),
    )
    version = int(cursor.lastrowid or 0)
    connection.execute("DELETE FROM rule_sets WHERE version <= ?", (version - MOST_VERSIONS,))
    return version


def newest_rules(connection: sqlite3.Connection) -> tuple[int, str] | None:
    """The newest version's number and content; None before the first."""
    row = connection.execute(
        "SELECT version, content FROM rule_sets ORDER BY version DESC LIMIT 1"
    ).fetchone()
    return None if row is None else (int(row["version"]), str(row["content"]))


def memories(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """What is remembered, by rule and holding; nothing of a text that is no UTF-8."""
    found = {}
    for row in connection.execute("SELECT rule, holding, content FROM rule_memories"):
        rule, holding, content = as_they_are(row)
        found[_text(rule), _text(holding)] = content if isinstance(content, str) else ""
    return found


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def remember(connection: sqlite3.Connection, rule: str, holding: str, content: bytes) -> None:
    """Keeps what a rule knows of a holding."""
    connection.execute(
        "INSERT INTO rule_memories VALUES (?, ?, ?)"
        " ON CONFLICT (rule, holding) DO UPDATE SET content = excluded.content",
        (rule, holding, content.decode()),
    )


def forget(connection: sqlite3.Connection, rule: str, holding: str) -> None:
    """The holding is gone."""
    connection.execute("DELETE FROM rule_memories WHERE rule = ? AND holding = ?", (rule, holding))


def save_close(
    connection: sqlite3.Connection, close_id: str, content: bytes, *, ended: bool
) -> None:
    """Keeps a close as it is now."""
    connection.execute(
        "INSERT INTO rule_closes (id, ended, content) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET content = excluded.content, ended = excluded.ended",
        (close_id, int(ended), content.decode()),
    )


def open_closes(connection: sqlite3.Connection) -> list[str]:
    """Those that have not ended, the oldest first."""
    rows = connection.execute("SELECT content FROM rule_closes WHERE NOT ended ORDER BY sequence")
    contents = [as_they_are(row)[0] for row in rows]
    return [content if isinstance(content, str) else "" for content in contents]


def add_event(connection: sqlite3.Connection, event: RuleEvent) -> RuleEvent:
    """Keeps an event; the event with its number."""
    cursor = connection.execute(
        "INSERT INTO rule_events (at, kind, rule, content) VALUES (?, ?, ?, ?)",
        (
            to_milliseconds(event.at),
            event.kind,
            event.rule,
            msgspec.json.encode(event.detail).decode(),
        ),
    )
    number = int(cursor.lastrowid or 0)
    connection.execute("DELETE FROM rule_events WHERE sequence <= ?", (number - MOST_EVENTS,))
    return msgspec.structs.replace(event, sequence=number)


def events(
    connection: sqlite3.Connection, *, before: int | None, limit: int, rule: str = ""
) -> tuple[list[RuleEvent], int | None]:
    """The newest events first, and the cursor of the next page (None: there is none)."""
    rows = connection.execute(
        "SELECT * FROM rule_events WHERE sequence < ? AND (? = '' OR rule = ?)"
        " ORDER BY sequence DESC LIMIT ?",
        (before if before is not None else 2**62, rule, rule, limit + 1),
    ).fetchall()
    cursor = int(rows[limit - 1]["sequence"]) if len(rows) > limit else None
    return list(readable("rule_events", rows[:limit], _event)), cursor


def events_since(connection: sqlite3.Connection, since: datetime) -> list[RuleEvent]:
    """All from a time on, the oldest first."""
    rows = connection.execute(
        "SELECT * FROM rule_events WHERE at >= ? ORDER BY sequence", (to_milliseconds(since),)
    )
    return list(readable("rule_events", rows, _event))


def _event(row: sqlite3.Row) -> RuleEvent:
    return RuleEvent(
        at=from_milliseconds(row["at"]),
        kind=row["kind"],
        rule=row["rule"],
        detail=detail(row["content"]),
        sequence=row["sequence"],
    )
