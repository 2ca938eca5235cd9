"""The audit log: every call that changes or could change something.

Triggers keep it append-only. Each entry carries a hash over itself and the entry before, and `meta`
has the newest one, so an entry that was changed or removed (the last one too) shows. The same
entries are in the container's log, where the hashes can be compared.
"""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import datetime
from typing import Any, Final

import msgspec

from bridge.store.rows import as_they_are, detail, from_milliseconds, readable, to_milliseconds

_HEAD: Final = "audit_head"
FIRST: Final = hashlib.sha256(b"gangway audit log").hexdigest()
"""What the first entry is chained to."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who (`apiKeyId`, never the key) did what, to what, and what came of it.

    `result` is `ok`, the code of an error, or `sending`: written down, outcome in a later entry.
    `chain` is the SHA-256 (hex) over the entry before and this one; empty in entries of releases
    that did not chain yet, which the next chained entry covers.
    """

    at: datetime
    api_key_id: str
    request_id: str
    action: str
    target: str
    detail: dict[str, Any]
    result: str
    sequence: int = 0
    chain: str = ""


class Verification(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether the log is whole: `broken_at` is the first sequence number that does not fit."""

    intact: bool
    entries: int
    head: str
    broken_at: int | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """How far a verification has come."""

    after: int = 0
    chain: str = FIRST
    entries: int = 0
    broken_at: int | None = None
    done: bool = False


def add(connection: sqlite3.Connection, entry: AuditEntry) -> AuditEntry:
    """Appends an entry; the entry with its number and its place in the chain."""
    said, highest = as_they_are(connection.execute(_END, (_HEAD,)).fetchone())
    last, chain = _head_of(said)
    if highest > last:
        for row in connection.execute("SELECT * FROM audit WHERE sequence > ? ORDER BY 1", (last,)):
            chain = _chained(chain, _columns(row))  # an older bridge has written without a chain
    number = highest + 1
    detail = msgspec.json.encode(entry.detail).decode()
    columns = (
        number,
        to_milliseconds(entry.at),
        entry.api_key_id,
        entry.request_id,
        entry.action,
        entry.target,
        detail,
        entry.result,
    )
    chain = _chained(chain, columns)
    connection.execute(
        "INSERT INTO audit (sequence, at, api_key_id, request_id, action, target, detail,"
        " result, chain) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*columns, chain),
    )
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_HEAD, f"{number} {chain}"),
    )
    return msgspec.structs.replace(entry, sequence=number, chain=chain)


def page(
    connection: sqlite3.Connection, *, before: int | None, limit: int
) -> tuple[list[AuditEntry], int | None]:
    """The newest entries first, and the cursor of the next page (None: there is none)."""
    rows = connection.execute(
        "SELECT * FROM audit WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
        (before if before is not None else 1 << 62, limit + 1),
    ).fetchall()
    cursor = int(rows[limit - 1]["sequence"]) if len(rows) > limit else None
    return list(readable("audit", rows[:limit], _entry)), cursor


def follow(connection: sqlite3.Connection, link: Link, limit: int) -> Link:
    """Checks the next `limit` entries; begin with `Link()`, go on until it is `done`."""
    rows = connection.execute(
        "SELECT * FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?", (link.after, limit)
    ).fetchall()
    after, chain, broken = link.after, link.chain, link.broken_at
    for row in rows:
        after, chain = row["sequence"], _chained(chain, _columns(row))
        if broken is None and row["chain"] not in ("", chain):
            broken = after
    done = len(rows) < limit
    if done and broken is None:
        last, head = _head(connection)
        there = connection.execute("SELECT chain FROM audit WHERE sequence = ?", (last,)).fetchone()
        if last and (there is None or there["chain"] != head):
            broken = last
    return Link(
        after=after, chain=chain, entries=link.entries + len(rows), broken_at=broken, done=done
    )


def verification(link: Link) -> Verification:
    """Whether the chain of the audit holds, and from which entry it does not."""
    return Verification(
        intact=link.broken_at is None,
        entries=link.entries,
        head=link.chain,
        broken_at=link.broken_at,
    )


_END: Final = """
SELECT (SELECT value FROM meta WHERE name = ?),
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit'), 0)
"""
"""What the head says, and the highest number that was ever given out, also to what is gone."""


def _head(connection: sqlite3.Connection) -> tuple[int, str]:
    return _head_of(as_they_are(connection.execute(_END, (_HEAD,)).fetchone())[0])


def _head_of(said: object) -> tuple[int, str]:
    if not isinstance(said, str):
        return 0, FIRST
    number, _, chain = said.partition(" ")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return 0, FIRST  # damaged: the chain is gone through once, from its beginning
    return int(number), chain


def _columns(row: sqlite3.Row) -> tuple[Any, ...]:
    return tuple(row)[:8]  # as they were created; the chain came later


def _chained(before: str, columns: tuple[Any, ...]) -> str:
    return hashlib.sha256(before.encode() + msgspec.json.encode(columns)).hexdigest()


def _entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        api_key_id=row["api_key_id"],
        request_id=row["request_id"],
        action=row["action"],
        target=row["target"],
        detail=detail(row["detail"]),
        result=row["result"],
        chain=row["chain"],
    )
