"""Idempotency keys: which body came with each, and what the first answer was.

Only digests of the keys are kept. A key without an answer belongs to an order that was written
down and whose outcome nobody has been told yet, or to positions that were closed in part.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final

import msgspec

from bridge.store.rows import from_milliseconds, to_milliseconds, wanted


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key. `accepted` says whether `answer` is an order or a problem; None: no answer yet."""

    key_digest: str
    body_digest: str
    created_at: datetime
    accepted: bool | None = None
    answer: bytes = b""


def get(connection: sqlite3.Connection, key_digest: str) -> KeyRecord | None:
    """What is known of a key."""
    row = connection.execute(
        "SELECT * FROM idempotency WHERE key_digest = ?", (key_digest,)
    ).fetchone()
    return None if row is None else wanted("idempotency", row, _known)


def _known(row: sqlite3.Row) -> KeyRecord:
    return KeyRecord(
        key_digest=row["key_digest"],
        body_digest=row["body_digest"],
        created_at=from_milliseconds(row["created_at"]),
        accepted=None if row["accepted"] is None else bool(row["accepted"]),
        answer=row["answer"] or b"",
    )


def claim(connection: sqlite3.Connection, key_digest: str, body_digest: str, at: datetime) -> bool:
    """Takes a key for this body; False when it is taken already."""
    claimed = connection.execute(
        "INSERT INTO idempotency (key_digest, body_digest, created_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (key_digest, body_digest, to_milliseconds(at)),
    )
    return claimed.rowcount == 1


def answer(
    connection: sqlite3.Connection, key_digest: str, body: bytes, at: datetime, *, accepted: bool
) -> bool:
    """Keeps the first answer for ever; False when there was one already."""
    answered = connection.execute(
        "UPDATE idempotency SET answered_at = ?, accepted = ?, answer = ?"
        " WHERE key_digest = ? AND accepted IS NULL",
        (to_milliseconds(at), accepted, body, key_digest),
    )
    return answered.rowcount == 1


_WHOLE: Final = 64
"""Characters of a key's digest. Of an order that was adopted from the broker less is known."""


def archive(connection: sqlite3.Connection, key_digest: str, *, sent: bool) -> None:
    """An order has left the journal: with the last of its key the answer goes, the key stays taken.

    That of an adopted order was never claimed, and only the order knew what is known of it; that of
    one that the broker has shown after all (`sent`) may have been given back.
    """
    connection.execute(
        "UPDATE idempotency SET answer = x'', accepted = coalesce(accepted, 1)"
        " WHERE key_digest = ? AND NOT EXISTS"
        " (SELECT 1 FROM orders WHERE key_digest = idempotency.key_digest)",
        (key_digest,),
    )
    if sent or 0 < len(key_digest) < _WHOLE:
        connection.execute(
            "INSERT INTO idempotency (key_digest, body_digest, created_at, accepted, answer)"
            " VALUES (?, '', 0, 1, x'') ON CONFLICT DO NOTHING",
            (key_digest,),
        )


def release(connection: sqlite3.Connection, key_digest: str) -> bool:
    """Gives an unanswered key back when each of its orders was certainly not sent.

    False when one may have been: somebody else has used the key again in the meantime.
    """
    released = connection.execute(
        "DELETE FROM idempotency WHERE key_digest = ? AND accepted IS NULL AND NOT EXISTS"
        " (SELECT 1 FROM orders WHERE key_digest = idempotency.key_digest"
        " AND status != 'NotSent')",
        (key_digest,),
    )
    return released.rowcount == 1
