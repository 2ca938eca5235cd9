"""Who calls, by the key in ``X-API-KEY``: who may come in, and how often one may guess.

A key is ``gwk_`` and 32 random bytes; the journal has its SHA-256 only (random keys need no slow
hash). Comparing goes over all keys in constant time. Rotation without downtime: two keys may be
active at once, or the old one may be given an end. The key in ``BRIDGE_ADMIN_KEY_FILE`` is read
anew when the file changes, and never stored.

Wrong keys make an address wait, but only for its next wrong one: behind one address there may be
many (NAT, a tunnel), and the right key opens at once. Random keys are not found by guessing anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from starlette.requests import HTTPConnection

from bridge.api.connections import KNOWN
from bridge.api.middleware import parse_address
from bridge.api.problems import (
    AddressNotAllowedError,
    ForbiddenError,
    TooManyFailuresError,
    UnauthorizedError,
)
from bridge.api.routing import ANONYMOUS, Principal
from bridge.callers import Holder, KeyFileError, Scope, read_key
from bridge.clock import Clock
from bridge.errors import NotFoundError
from bridge.services import Services
from bridge.store import Database
from bridge.store import keys as table
from bridge.store.keys import UNBOUND, ApiKey, KeyBounds

log = structlog.get_logger(__name__)
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
        self._file_seen: tuple[int, int, int] | None = None
        self._file_digest: bytes | None = None
        self._keys: list[ApiKey] = []
        self._live: list[ApiKey] = []
        """Those that nobody has revoked: looked through for each request, and by each stream."""
        self._ended: list[Callable[[], None]] = []
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def load(self) -> None:
        self._keys = await self._database.read(table.everything)
        self._live = [key for key in self._keys if key.revoked_at is None]
        self._read_file()

    @property
    def empty(self) -> bool:
        """Whether nobody can come in."""
        now = self._clock.now()
        return self._file_digest is None and not any(key.active(now) for key in self._keys)

    def on_ended(self, listener: Callable[[], None]) -> None:
        """Called whenever a key may have ended, before anyone is told that it has."""
        self._ended.append(listener)

    def verify(self, key: str | None, address: str) -> Principal:
        """Who this is, whatever was tried before.

        Raises:
            UnauthorizedError: no key, or one that is not valid.
            TooManyFailuresError: the same, after too many wrong ones from this address.
            AddressNotAllowedError: the key is valid, but not from there.
        """
        if not key:
            raise UnauthorizedError("no key was sent")
        found = self._find(digest_of(key))
        if found is None:
            self._check_wait(address)
            self._failed(address)
            raise UnauthorizedError("the key is not valid")
        self._failures.pop(address, None)
        if not _comes_from(address, found.bounds):
            refusal = AddressNotAllowedError(f"this key is not valid from {address}")
            refusal.key_id = found.key_id
            raise refusal
        return found

    def holds(self, holder: Holder) -> bool:
        """Whether the key that was let in as this one is still active."""
        if holder.key == FILE_KEY_ID:
            self._read_file()
            return self._file_digest is not None and self._file_digest == holder.digest
        now = self._clock.now()
        return any(key.id == holder.key and key.active(now) for key in self._live)

    def exists(self, key_id: str) -> bool:
        """Whether there is a key of this id that nobody has revoked; it may be over."""
        return key_id == FILE_KEY_ID or any(key.id == key_id for key in self._live)

    async def create(
        self,
        label: str,
        scope: Scope,
        expires_at: datetime | None = None,
        bounds: KeyBounds = UNBOUND,
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
            bounds=bounds,
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
        for listener in self._ended:
            listener()
        if not done:
            raise NotFoundError(f"there is no active key {key_id}", code="unknown-key")

    async def everything(self) -> list[ApiKey]:
        """All keys, ended ones too."""
        return list(self._keys)

    def _find(self, digest: bytes) -> Principal | None:
        now = self._clock.now()
        self._read_file()
        found: Principal | None = None
        for key in self._live:
            if hmac.compare_digest(key.digest, digest) and key.active(now):
                found = Principal(key.id, _scope(key.scope), key.bounds, digest)
        if self._file_digest and hmac.compare_digest(self._file_digest, digest):
            found = Principal(FILE_KEY_ID, Scope.ADMIN, UNBOUND, digest)
        return found

    def _read_file(self) -> None:
        if self._file is None:
            return
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_mode)
            if seen != self._file_seen:
                self._file_seen, self._file_digest = seen, None
                self._file_digest = digest_of(read_key(self._file))
        except OSError:
            self._file_digest = None
            self._file_seen = None
        except KeyFileError as error:
            log.error("admin-key-file-refused", problem=str(error), hint=error.hint)

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


def _comes_from(address: str, bounds: KeyBounds) -> bool:
    if not bounds.networks:
        return True
    found = parse_address(address)
    return found is not None and any(
        found in ipaddress.ip_network(network) for network in bounds.networks
    )


def _scope(word: str) -> Scope:
    return next((scope for scope in Scope if scope.word == word), Scope.PUBLIC)


HEADER = "x-api-key"


def address_of(connection: HTTPConnection) -> str:
    """Where the caller is, as far as a trusted proxy or the socket tells."""
    return connection.client.host if connection.client else "unknown"


def authenticate(services: Services, connection: HTTPConnection, needed: Scope) -> Principal:
    """The caller of a request; ``UnauthorizedError`` or ``ForbiddenError``."""
    if needed is Scope.PUBLIC:
        return ANONYMOUS
    try:
        principal = services[KeyRing].verify(connection.headers.get(HEADER), address_of(connection))
    except AddressNotAllowedError as error:
        connection.scope["key_id"] = error.key_id
        raise
    connection.scope["key_id"] = principal.key_id
    require_scope(principal, needed)
    mark_known(connection)
    return principal


def mark_known(connection: HTTPConnection) -> None:
    """Tells the server that this connection has shown a key: it is not the first to go."""
    tell = connection.scope.get("extensions", {}).get(KNOWN)
    if tell is not None:
        tell()


def authenticate_key(services: Services, key: str | None, address: str, needed: Scope) -> Principal:
    """The same for a key that came otherwise (a WebSocket's first message)."""
    principal = services[KeyRing].verify(key, address)
    require_scope(principal, needed)
    return principal


def require_scope(principal: Principal, needed: Scope) -> None:
    """Raises when the key may not do this."""
    if principal.scope < needed:
        raise ForbiddenError(
            f"this needs scope {needed.word}; the key has {principal.scope.word}",
            extra={"neededScope": needed.word, "scope": principal.scope.word},
        )
