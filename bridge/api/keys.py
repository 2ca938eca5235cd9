"""API keys: who may come in, and how often one may guess.

A key is ``gwk_`` and 32 random bytes; the journal has its SHA-256 only (random keys need no slow
hash). Comparing goes over all keys in constant time. Rotation without downtime: two keys may be
active at once, or the old one may be given an end. The key in ``BRIDGE_ADMIN_KEY_FILE`` is read
anew when the file changes, and never stored.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from datetime import datetime, timedelta
from pathlib import Path

from bridge.api.errors import TooManyFailuresError, UnauthorizedError
from bridge.api.routing import Principal
from bridge.api.scopes import Scope
from bridge.clock import Clock
from bridge.errors import NotFoundError
from bridge.store import Database
from bridge.store import keys as table
from bridge.store.keys import ApiKey

PREFIX = "gwk_"
FILE_KEY_ID = "admin-key-file"
FREE_FAILURES = 10  # in a row from one address, before it has to wait
LONGEST_WAIT = 60.0
REMEMBERED_ADDRESSES = 4096


def digest_of(key: str) -> bytes:
    """What is stored and compared instead of the key."""
    return hashlib.sha256(key.strip().encode()).digest()


class KeyRing:
    """The active keys, in memory; the journal is asked only for changes."""

    def __init__(self, database: Database, clock: Clock, admin_key_file: Path | None) -> None:
        self._database = database
        self._clock = clock
        self._file = admin_key_file
        self._file_seen: tuple[int, int] | None = None
        self._file_digest: bytes | None = None
        self._keys: list[ApiKey] = []
        self._proven: set[bytes] = set()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def load(self) -> None:
        """Reads the journal."""
        self._keys = await self._database.read(table.everything)
        self._read_file()

    @property
    def empty(self) -> bool:
        """Whether nobody can come in."""
        now = self._clock.now()
        return self._file_digest is None and not any(key.active(now) for key in self._keys)

    def verify(self, key: str | None, address: str) -> Principal:
        """Who this is; ``UnauthorizedError``.

        Or ``TooManyFailuresError`` after too many wrong keys.
        """
        digest = digest_of(key) if key else b""
        if digest not in self._proven:
            self._check_wait(address)
        principal = self._find(digest) if key else None
        if principal is None:
            if key:
                self._failed(address)
            raise UnauthorizedError("no key was sent" if not key else "the key is not valid")
        self._proven.add(digest)
        self._failures.pop(address, None)
        return principal

    async def create(
        self, label: str, scope: Scope, expires_at: datetime | None = None
    ) -> tuple[str, ApiKey]:
        """A new key (shown this once) and its record."""
        secret = PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            id=secrets.token_hex(4),
            label=label,
            digest=digest_of(secret),
            scope=scope.word,
            created_at=self._clock.now(),
            expires_at=expires_at,
        )
        await self._database.write(lambda connection: table.add(connection, key))
        await self.load()
        return secret, key

    async def revoke(self, key_id: str, *, after: timedelta | None = None) -> None:
        """Ends a key now, or after the overlap of a rotation."""
        now = self._clock.now()
        if after:
            done = await self._database.write(
                lambda connection: table.expire(connection, key_id, now + after)
            )
        else:
            done = await self._database.write(
                lambda connection: table.revoke(connection, key_id, now)
            )
        await self.load()
        if not done:
            raise NotFoundError(f"there is no active key {key_id}", code="unknown-key")

    async def everything(self) -> list[ApiKey]:
        """All keys, ended ones too."""
        return list(self._keys)

    def _find(self, digest: bytes) -> Principal | None:
        now = self._clock.now()
        self._read_file()
        found: Principal | None = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest) and key.active(now):
                found = Principal(key.id, _scope(key.scope))
        if self._file_digest and hmac.compare_digest(self._file_digest, digest):
            found = Principal(FILE_KEY_ID, Scope.ADMIN)
        if found is None:
            self._proven.discard(digest)
        return found

    def _read_file(self) -> None:
        if self._file is None:
            return
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_ino)
            if seen != self._file_seen:
                text = self._file.read_text(encoding="utf-8").strip()
                self._file_digest = digest_of(text) if text else None
                self._file_seen = seen
        except (OSError, UnicodeDecodeError):
            self._file_digest = None
            self._file_seen = None

    def _check_wait(self, address: str) -> None:
        count, until = self._failures.get(address, (0, 0.0))
        left = until - self._clock.monotonic()
        if count >= FREE_FAILURES and left > 0:
            raise TooManyFailuresError(
                f"{count} wrong keys in a row from {address}", retry_after=left
            )

    def _failed(self, address: str) -> None:
        count = self._failures.pop(address, (0, 0.0))[0] + 1
        over = count - FREE_FAILURES
        wait = min(LONGEST_WAIT, 2.0**over) if over >= 0 else 0.0
        self._failures[address] = (count, self._clock.monotonic() + wait)
        while len(self._failures) > REMEMBERED_ADDRESSES:
            self._failures.popitem(last=False)


def _scope(word: str) -> Scope:
    return next((scope for scope in Scope if scope.word == word), Scope.PUBLIC)
