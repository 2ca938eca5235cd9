"""What the bridge keeps of its settings.

Named values (such as the kill switch); named connection profiles, of which at most one is active;
and which certificate each Client Portal gateway showed when it was first met. Secrets arrive here
already encrypted. A certificate's `trust` says how it is checked: `pinned` (this very certificate)
or `authority` (any that a public authority signed for the host).
"""

import sqlite3
from datetime import datetime

import msgspec

from bridge.store.rows import from_milliseconds, readable, to_milliseconds, wanted


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


class StoredProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One profile: a JSON document, and the ciphertext of its secrets (None: it has none)."""

    name: str
    document: str
    secrets: bytes | None
    active: bool
    revision: int
    updated_at: datetime


def profiles(connection: sqlite3.Connection) -> list[StoredProfile]:
    """All profiles by name."""
    rows = connection.execute("SELECT * FROM connection_profiles ORDER BY name")
    return list(readable("connection_profiles", rows, _profile))


def profile(connection: sqlite3.Connection, name: str) -> StoredProfile | None:
    """One profile, or None."""
    row = connection.execute("SELECT * FROM connection_profiles WHERE name = ?", (name,)).fetchone()
    return None if row is None else wanted("connection_profiles", row, _profile)


def put_profile(
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


def activate_profile(connection: sqlite3.Connection, name: str | None) -> None:
    """Makes this profile the active one; None: no profile is."""
    connection.execute("UPDATE connection_profiles SET active = 0 WHERE active = 1")
    if name is not None:
        connection.execute("UPDATE connection_profiles SET active = 1 WHERE name = ?", (name,))


def remove_profile(connection: sqlite3.Connection, name: str) -> bool:
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


class StoredCertificate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One gateway's certificate, PEM; `fingerprint` is `SHA256:` and hex digits."""

    origin: str
    trust: str
    certificate: str
    fingerprint: str
    pinned_at: datetime


def certificate(connection: sqlite3.Connection, origin: str) -> StoredCertificate | None:
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


def put_certificate(connection: sqlite3.Connection, stored: StoredCertificate) -> None:
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


def remove_certificate(connection: sqlite3.Connection, origin: str) -> bool:
    """Forgets a certificate; False when there was none."""
    return (
        connection.execute("DELETE FROM portal_certificates WHERE origin = ?", (origin,)).rowcount
        == 1
    )
