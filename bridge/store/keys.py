"""API keys: only their digests, never the keys.

Rotation without downtime is two keys that are active at once. A key with bounds is in a table of
its own, so that a bridge which does not know bounds does not take it for an unbound one.
"""

import sqlite3
from datetime import datetime
from typing import Final

import msgspec

from bridge.store.rows import (
    from_milliseconds,
    optional_from_milliseconds,
    optional_to_milliseconds,
    readable,
    to_milliseconds,
)


class KeyBounds(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How far a key reaches; what is left out is not bounded.

    `accounts` and `symbols` (of the underlying, for options) are those that it may trade,
    `max_notional` is money in one order (in the account's currency), `max_orders_per_day` counts
    this key's own orders, `networks` are the addresses (CIDR) that it may come from.
    """

    accounts: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    max_notional: float | None = None
    max_orders_per_day: int | None = None
    networks: tuple[str, ...] = msgspec.field(name="from", default=())

    @property
    def about_orders(self) -> bool:
        """Whether anything but the network is bounded."""
        limits = (self.max_notional, self.max_orders_per_day)
        return bool(self.accounts or self.symbols) or any(each is not None for each in limits)

    def reaches(self, account: str, symbol: str) -> bool:
        """Whether an order of this account and symbol may be touched."""
        return (not self.accounts or account in self.accounts) and (
            not self.symbols or symbol.upper() in self.symbols
        )


UNBOUND: Final = KeyBounds()
_TABLES: Final = ("api_keys", "bound_api_keys")


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One key as the journal knows it.

    `digest` is a digest of the whole key (never the key itself), `scope` the word of
    `bridge.callers`: `read`, `trade` or `admin`.
    """

    id: str
    label: str
    digest: bytes
    scope: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    bounds: KeyBounds = UNBOUND

    def active(self, now: datetime) -> bool:
        """Whether it opens the door at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def add(connection: sqlite3.Connection, key: ApiKey) -> None:
    """Adds a key; an id or digest that is there already raises sqlite3.IntegrityError."""
    row = {
        "id": key.id,
        "label": key.label,
        "digest": key.digest,
        "scope": key.scope,
        "created_at": to_milliseconds(key.created_at),
        "expires_at": optional_to_milliseconds(key.expires_at),
        "revoked_at": optional_to_milliseconds(key.revoked_at),
    }
    table = "api_keys"
    if key.bounds != UNBOUND:
        table = "bound_api_keys"
        row["bounds"] = msgspec.json.encode(key.bounds).decode()
    marks = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})",  # noqa: S608 - names of ours
        tuple(row.values()),
    )


def everything(connection: sqlite3.Connection) -> list[ApiKey]:
    """All keys, oldest first, revoked ones too."""
    rows = connection.execute(
        "SELECT *, '{}' AS bounds FROM api_keys UNION ALL SELECT * FROM bound_api_keys"
        " ORDER BY created_at, id"
    )
    return list(readable("api_keys", rows, _key))


def revoke(connection: sqlite3.Connection, key_id: str, at: datetime) -> bool:
    """Closes the door on a key; False when there is no such active key."""
    return _end(connection, "revoked_at", key_id, at)


def expire(connection: sqlite3.Connection, key_id: str, at: datetime) -> bool:
    """Lets a key run out at `at` (the overlap of a rotation), or earlier if it would anyway.

    False when there is no such active key.
    """
    return _end(connection, "expires_at", key_id, at)


def _end(connection: sqlite3.Connection, column: str, key_id: str, at: datetime) -> bool:
    moment = to_milliseconds(at)
    value = "?1" if column == "revoked_at" else "MIN(?1, IFNULL(expires_at, ?1))"
    changed = 0
    for table in _TABLES:
        changed += connection.execute(
            f"UPDATE {table} SET {column} = {value}"  # noqa: S608 - names of ours
            " WHERE id = ?2 AND revoked_at IS NULL",
            (moment, key_id),
        ).rowcount
    return changed == 1


def _key(row: sqlite3.Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        label=row["label"],
        digest=row["digest"],
        scope=row["scope"],
        created_at=from_milliseconds(row["created_at"]),
        expires_at=optional_from_milliseconds(row["expires_at"]),
        revoked_at=optional_from_milliseconds(row["revoked_at"]),
        bounds=msgspec.json.decode(row["bounds"], type=KeyBounds),
    )
