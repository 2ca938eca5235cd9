"""The root-cause fields of `/health`, kept across restarts of the bridge.

Name -> any JSON value.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.store.damage import readable


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
