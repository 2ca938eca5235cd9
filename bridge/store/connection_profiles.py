"""Named connection profiles; at most one is active. Secrets arrive here already encrypted."""

import sqlite3
from datetime import datetime

import msgspec

from bridge.store.rows import from_milliseconds, readable, to_milliseconds, wanted


class StoredProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One profile: a JSON document, and the ciphertext of its secrets (None: it has none)."""

    name: str
    document: str
    secrets: bytes | None
    active: bool
    revision: int
    updated_at: datetime


def everything(connection: sqlite3.Connection) -> list[StoredProfile]:
    """All profiles by name."""
    rows = connection.execute("SELECT * FROM connection_profiles ORDER BY name")
    return list(readable("connection_profiles", rows, _profile))


def get(connection: sqlite3.Connection, name: str) -> StoredProfile | None:
    """One profile, or None."""
    row = connection.execute("SELECT * FROM connection_profiles WHERE name = ?", (name,)).fetchone()
    return None if row is None else wanted("connection_profiles", row, _profile)


def put(
    connection: sqlite3.Connection,
    name: str,
    document: str,
    secrets: bytes | None,
    at: datetime,
) -> None:
    """Adds a profile or replaces what it holds; whether it is active does not change."""
    connection.execute(
        "INSERT INTO connection_profiles (name, document, secrets, updated_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET document = excluded.document,"
        " secrets = excluded.secrets, revision = revision + 1, updated_at = excluded.updated_at",
        (name, document, secrets, to_milliseconds(at)),
    )


def replace_secrets(connection: sqlite3.Connection, name: str, secrets: bytes) -> None:
    """Exchanges the ciphertext only (the same secrets under another key)."""
    connection.execute("UPDATE connection_profiles SET secrets = ? WHERE name = ?", (secrets, name))


def activate(connection: sqlite3.Connection, name: str | None) -> None:
    """Makes this profile the active one; None: no profile is."""
    connection.execute("UPDATE connection_profiles SET active = 0 WHERE active = 1")
    if name is not None:
        connection.execute("UPDATE connection_profiles SET active = 1 WHERE name = ?", (name,))


def remove(connection: sqlite3.Connection, name: str) -> bool:
    """Forgets a profile; False when there was none."""
    return (
        connection.execute("DELETE FROM connection_profiles WHERE name = ?", (name,)).rowcount == 1
    )


def _profile(row: sqlite3.Row) -> StoredProfile:
    return StoredProfile(
        name=row["name"],
        document=row["document"],
        secrets=None if row["secrets"] is None else bytes(row["secrets"]),
        active=bool(row["active"]),
        revision=row["revision"],
        updated_at=from_milliseconds(row["updated_at"]),
    )
