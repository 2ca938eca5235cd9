"""API keys: only their digests, never the keys.

Rotation without downtime is two keys that are active at once.
"""

import sqlite3
from datetime import datetime

import msgspec

from bridge.store.times import (
    from_milliseconds,
    optional_from_milliseconds,
    optional_to_milliseconds,
    to_milliseconds,
)


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One key as the journal knows it.

    `digest` is a digest of the whole key (never the key itself), `scope` the word of
    `bridge.api.scopes`: `read`, `trade` or `admin`.
    """

    id: str
    label: str
    digest: bytes
    scope: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def active(self, now: datetime) -> bool:
        """Whether it opens the door at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def add(connection: sqlite3.Connection, key: ApiKey) -> None:
    """Adds a key; an id or digest that is there already raises sqlite3.IntegrityError."""
    connection.execute(
        "INSERT INTO api_keys (id, label, digest, scope, created_at, expires_at, revoked_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            key.id,
            key.label,
            key.digest,
            key.scope,
            to_milliseconds(key.created_at),
            optional_to_milliseconds(key.expires_at),
            optional_to_milliseconds(key.revoked_at),
        ),
    )


def everything(connection: sqlite3.Connection) -> list[ApiKey]:
    """All keys, oldest first, revoked ones too."""
    return [
        _key(row) for row in connection.execute("SELECT * FROM api_keys ORDER BY created_at, id")
    ]


def revoke(connection: sqlite3.Connection, key_id: str, at: datetime) -> bool:
    """Closes the door on a key; False when there is no such active key."""
    changed = connection.execute(
        "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
        (to_milliseconds(at), key_id),
    )
    return changed.rowcount == 1


def expire(connection: sqlite3.Connection, key_id: str, at: datetime) -> bool:
    """Lets a key run out at `at` (the overlap of a rotation).

    False when there is no such active key.
    """
    changed = connection.execute(
        "UPDATE api_keys SET expires_at = ? WHERE id = ? AND revoked_at IS NULL",
        (to_milliseconds(at), key_id),
    )
    return changed.rowcount == 1


def _key(row: sqlite3.Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        label=row["label"],
        digest=row["digest"],
        scope=row["scope"],
        created_at=from_milliseconds(row["created_at"]),
        expires_at=optional_from_milliseconds(row["expires_at"]),
        revoked_at=optional_from_milliseconds(row["revoked_at"]),
    )
