"""Named values that the bridge keeps (connection settings, the kill switch).

Secret ones arrive here already encrypted.
"""

import sqlite3
from datetime import datetime

from bridge.store.rows import to_milliseconds


def get(connection: sqlite3.Connection, name: str) -> bytes | None:
    """The value, or None when it was never put."""
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def put(connection: sqlite3.Connection, name: str, value: bytes, at: datetime) -> None:
    """Sets or replaces a value."""
    connection.execute(
        "INSERT INTO settings VALUES (?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        (name, value, to_milliseconds(at)),
    )


def remove(connection: sqlite3.Connection, name: str) -> bool:
    """Forgets a value; False when there was none."""
    return connection.execute("DELETE FROM settings WHERE name = ?", (name,)).rowcount == 1
