"""Messages of the broker's that cannot be kept: set aside, so that they never stop the others.

One row for each thing that was refused (`kind` and `name`), however often the broker repeats it.
A row is open until the broker has sent the same thing whole; it stays in the file either way.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final

import msgspec

from bridge.store.rows import (
    from_milliseconds,
    optional_from_milliseconds,
    readable,
    to_milliseconds,
)

LONGEST: Final = 2000
"""Characters that are kept of a message, and of the reason."""
WHOLE: Final = "came whole later; before: "
KEPT: Final = 1000
"""Rows; the oldest make room."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One message: `kind` of message, `name` of what it is about, `cause`, and what came."""

    kind: str
    name: str
    cause: str
    content: str
    at: datetime
    times: int = 1
    mended_at: datetime | None = None
    sequence: int = 0


def add(connection: sqlite3.Connection, entry: Entry) -> bool:
    """Keeps a message; False when the same one is set aside already."""
    # What a person has looked at stays so while the broker repeats it, word for word.
    known = connection.execute(
        "UPDATE quarantine SET times = times + 1, content = ?, cause = ?,"
        " mended_at = CASE WHEN content = ? THEN mended_at END WHERE kind = ? AND name = ?",
        (
            plain(entry.content),
            plain(entry.cause),
            plain(entry.content),
            entry.kind,
            plain(entry.name),
        ),
    )
    if known.rowcount:
        return False
    cursor = connection.execute(
        "INSERT INTO quarantine (at, kind, name, cause, content) VALUES (?, ?, ?, ?, ?)",
        (
            to_milliseconds(entry.at),
            entry.kind,
            plain(entry.name),
            plain(entry.cause),
            plain(entry.content),
        ),
    )
    connection.execute(
        "DELETE FROM quarantine WHERE sequence <= ?", ((cursor.lastrowid or 0) - KEPT,)
    )
    return True


def mended(connection: sqlite3.Connection, kind: str, name: str, at: datetime) -> bool:
    """The broker has sent the same thing whole; False when nothing of that name was set aside."""
    found = connection.execute(
        # Should it come damaged again, even word for word, that is news: no person has seen to it.
        "UPDATE quarantine SET mended_at = ?, content = substr(? || content, 1, ?)"
        " WHERE kind = ? AND name = ? AND mended_at IS NULL",
        (to_milliseconds(at), WHOLE, LONGEST, kind, plain(name)),
    )
    return found.rowcount > 0


def dismiss(connection: sqlite3.Connection, at: datetime) -> None:
    """A person has looked at everything that is set aside."""
    connection.execute(
        "UPDATE quarantine SET mended_at = ? WHERE mended_at IS NULL", (to_milliseconds(at),)
    )


def count(connection: sqlite3.Connection) -> int:
    """How many are set aside and not mended."""
    row = connection.execute("SELECT count(*) FROM quarantine WHERE mended_at IS NULL").fetchone()
    return int(row[0])


def newest(connection: sqlite3.Connection, limit: int = 100) -> list[Entry]:
    """The newest first, mended ones too."""
    rows = connection.execute("SELECT * FROM quarantine ORDER BY sequence DESC LIMIT ?", (limit,))
    return list(readable("quarantine", rows, _entry))


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        kind=row["kind"],
        name=row["name"],
        cause=row["cause"],
        content=row["content"],
        times=row["times"],
        mended_at=optional_from_milliseconds(row["mended_at"]),
    )


def plain(text: str) -> str:
    """What can be kept of a text, whatever it holds."""
    return text[:LONGEST].encode("utf-8", "backslashreplace").decode()
