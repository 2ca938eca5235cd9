"""What an order is called: by clients, by the broker, and by its number.

The gateway names its next order number at the beginning of each connection, and raises it with
every order that it takes. That proves that an order never reached it (its number is not passed
yet), but only while nobody makes the gateway begin its numbers anew: a reset by hand, a fresh or
an older settings folder, another gateway at the same address. So what the gateway named, and what
it has acknowledged since, is kept in the journal: a number below that is a break, and says nothing
of the orders before it. The number 1 is what a reset looks like, and is never taken as a proof.

A newer order that is taken takes the proof away from those before it, so it is written down first.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
import structlog

from bridge.clock import Clock
from bridge.store import Database, orders, settings
from bridge.tws.gateway import Gateway

_PERM_ID: Final = re.compile(r"perm-([0-9]{1,19})")
_HIGHEST: Final = 2**63 - 1
"""What the journal, and the broker, can hold of a number."""
_REFERENCE_PREFIX: Final = "gw"
_DIGEST_LENGTH: Final = 24  # 96 bits, and the reference stays well under the broker's 40 characters
_OURS: Final = re.compile(
    rf"{_REFERENCE_PREFIX}-([0-9a-f]{{{_DIGEST_LENGTH}}})-\d{{1,3}}(-\d{{1,6}})?"
)
_NAME: Final = "orders.number-sequence"
_UNREACHED: Final = "orders.unreached"
_FIRST_NUMBER: Final = 1
PROOF_SECONDS: Final = 120.0
"""So long a number's proof outlasts its connection: later the broker's lists may be of another
day, and no longer show what has arrived since."""

log = structlog.get_logger(__name__)

Kept = TypeVar("Kept")


def new_id(now: datetime) -> str:
    """An id that sorts by time and cannot be guessed."""
    return f"o{int(now.timestamp() * 1000):011x}{secrets.token_hex(6)}"


def key_digest(key: str) -> str:
    """What is kept of an idempotency key."""
    return hashlib.sha256(key.encode()).hexdigest()


def unnamed_key() -> str:
    """Stands in for the key of an order that came without one."""
    return f"unnamed-{secrets.token_hex(16)}"


def body_digest(route: str, body: Any) -> str:
    """The same for two bodies that mean the same: whatever the order of members or the spacing.

    What is not said does not count, so that a field that a later version knows changes nothing.
    """
    canonical = msgspec.json.encode([route, _said(msgspec.to_builtins(body))], order="sorted")
    return hashlib.sha256(canonical).hexdigest()


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        members = ((name, _said(each)) for name, each in value.items() if each is not None)
        return {name: each for name, each in members if not _unsaid(each)}
    return [_said(each) for each in value] if isinstance(value, list | tuple) else value


def _unsaid(value: Any) -> bool:
    return value is None or value is False or value in ("", [])


def order_ref(digest: str, leg: int, attempt: int) -> str:
    """What the broker carries and reports back: leads from its order to the key that asked for it.

    `attempt` counts the orders that were written down under the key and certainly never sent.
    """
    suffix = f"-{attempt}" if attempt else ""
    return f"{_REFERENCE_PREFIX}-{digest[:_DIGEST_LENGTH]}-{leg}{suffix}"


def digest_of(reference: str) -> str | None:
    """The beginning of the key's digest in a reference of ours; None for any other text."""
    found = _OURS.fullmatch(reference)
    return None if found is None else found[1]


def perm_id_of(order_id: str) -> int | None:
    """The broker's permanent id in a name such as `perm-1234`; None: another kind of name."""
    found = _PERM_ID.fullmatch(order_id)
    number = int(found[1]) if found else None
    return None if number is None or number > _HIGHEST else number


def beginning(digest: str) -> str:
    """As much of a key's digest as a reference holds."""
    return digest[:_DIGEST_LENGTH]


class OrderNumbers:
    """The gateway's numbers, past everything in the journal."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._highest = 0

    async def load(self, database: Database) -> None:
        """Looks up what earlier processes have given out."""
        self._highest = await database.read(orders.highest_broker_order_id)

    def next(self) -> int:
        """A fresh number; `NotConnectedError` before the gateway has named its first one."""
        # The gateway's own count may have been reset, or have never seen the last.
        self._highest = max(self._gateway.next_order_id(), self._highest + 1)
        return self._highest


class Unbroken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The present run of numbers: of whom, from which row of the journal on, how far it was."""

    address: str
    client_id: int
    next_number: int
    after_order: int


class Unreached(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Orders that had not got to this gateway at that moment, as its number has proved."""

    at: datetime
    address: str
    order_ids: tuple[str, ...]


class NumberSequence:
    """Looks once at the beginning of each connection."""

    def __init__(self, database: Database, gateway: Gateway, clock: Clock) -> None:
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._seen: Unbroken | None = None
        self._unreached: Unreached | None = None
        self.connection = 0  # which one this is, counted from the start of the process
        gateway.events.lost.listen(lambda _: self._forget())

    async def observe(self) -> None:
        """Compares what the gateway names now with what it has named and acknowledged before."""
        named = self._gateway.next_valid_id
        if self._seen is not None or named is None:
            return
        self._seen = await self._database.write(lambda connection: self._observe(connection, named))
        if self._unreached is None:
            self._unreached = await self._database.read(
                lambda connection: _stored(connection, _UNREACHED, Unreached)
            )

    async def keep_proofs(self, order_ids: Iterable[str]) -> None:
        """Writes down of which orders it is certain now, before a newer one is sent.

        That one raises the number past theirs: the next connection, or process, would know no more.
        """
        found = Unreached(
            at=self._clock.now(), address=self._gateway.address, order_ids=tuple(order_ids)
        )
        before = self._unreached
        if found.order_ids or (before is not None and before.order_ids):
            encoded = msgspec.json.encode(found)
            await self._database.write(
                lambda connection: settings.put(connection, _UNREACHED, encoded, found.at)
            )
        self._unreached = found

    def _is_proved(self, order_id: str) -> bool:
        kept = self._unreached
        if kept is None or kept.address != self._gateway.address or order_id not in kept.order_ids:
            return False
        return 0 <= (self._clock.now() - kept.at).total_seconds() <= PROOF_SECONDS

    async def never_reached(self, number: int, order_id: str) -> bool:
        """Whether it is certain that the gateway has not got the order with this number."""
        if self._is_proved(order_id):
            return True
        seen = self._seen
        if seen is None or number < seen.next_number:
            return False
        row = await self._database.read(lambda connection: orders.row_of(connection, order_id))
        return row > seen.after_order

    def _forget(self) -> None:
        self._seen = None
        self.connection += 1

    def _observe(self, connection: sqlite3.Connection, named: int) -> Unbroken:
        address, client_id = self._gateway.address, self._gateway.client_id
        known = _stored(connection, _NAME, Unbroken)
        if known is not None and (known.address, known.client_id) == (address, client_id):
            acknowledged = orders.highest_acknowledged(connection, client_id, known.after_order)
            reached = max(known.next_number, acknowledged + 1)
            if named >= reached > _FIRST_NUMBER:
                return self._store(connection, msgspec.structs.replace(known, next_number=named))
            if named < reached:
                log.warning("order-numbers-begun-anew", named=named, expected=reached)
        last = orders.newest_row(connection)
        fresh = Unbroken(address=address, client_id=client_id, next_number=named, after_order=last)
        return self._store(connection, fresh)

    def _store(self, connection: sqlite3.Connection, sequence: Unbroken) -> Unbroken:
        encoded = msgspec.json.encode(sequence)
        settings.put(connection, _NAME, encoded, self._clock.now())
        return sequence


def _stored(connection: sqlite3.Connection, name: str, kind: type[Kept]) -> Kept | None:
    value = settings.get(connection, name)
    try:
        return None if value is None else msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError:
        log.warning("order-numbers-unreadable", what=name, hint="they count as begun anew")
        return None
