"""Which certificate each Client Portal gateway showed when it was first met.

`trust` says how it is checked: `pinned` (this very certificate) or `authority` (any that a public
authority signed for the host).
"""

import sqlite3
from datetime import datetime

import msgspec

from bridge.store.rows import from_milliseconds, to_milliseconds


class StoredCertificate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One gateway's certificate, PEM; `fingerprint` is `SHA256:` and hex digits."""

    origin: str
    trust: str
    certificate: str
    fingerprint: str
    pinned_at: datetime


def get(connection: sqlite3.Connection, origin: str) -> StoredCertificate | None:
    """The certificate of `https://host:port`, or None when it was never met."""
    row = connection.execute(
        "SELECT * FROM portal_certificates WHERE origin = ?", (origin,)
    ).fetchone()
    if row is None:
        return None
    return StoredCertificate(
        origin=row["origin"],
        trust=row["trust"],
        certificate=row["certificate"],
        fingerprint=row["fingerprint"],
        pinned_at=from_milliseconds(row["pinned_at"]),
    )


def put(connection: sqlite3.Connection, stored: StoredCertificate) -> None:
    """Sets or replaces the certificate of its origin."""
    connection.execute(
        "INSERT INTO portal_certificates VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE SET"
        " trust = excluded.trust, certificate = excluded.certificate,"
        " fingerprint = excluded.fingerprint, pinned_at = excluded.pinned_at",
        (
            stored.origin,
            stored.trust,
            stored.certificate,
            stored.fingerprint,
            to_milliseconds(stored.pinned_at),
        ),
    )


def remove(connection: sqlite3.Connection, origin: str) -> bool:
    """Forgets a certificate; False when there was none."""
    return (
        connection.execute("DELETE FROM portal_certificates WHERE origin = ?", (origin,)).rowcount
        == 1
    )
