"""Whether the gateway's order numbers have gone on without a break, and since which order.

The gateway names its next order number at the beginning of each connection, and raises it with
every order that it takes. That proves that an order never reached it (its number is not passed
yet), but only while nobody makes the gateway begin its numbers anew: a reset by hand, a fresh or
an older settings folder, another gateway at the same address. So what the gateway named, and what
it has acknowledged since, is kept in the journal: a number below that is a break, and says nothing
of the orders before it. The number 1 is what a reset looks like, and is never taken as a proof.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec
import structlog

from bridge.clock import Clock
from bridge.store import Database, orders, settings
from bridge.tws.gateway import Gateway

log = structlog.get_logger(__name__)

_NAME: Final = "orders.number-sequence"
_FIRST_NUMBER: Final = 1


class Unbroken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The present run of numbers: of whom, from which row of the journal on, how far it was."""

    address: str
    client_id: int
    next_number: int
    after_order: int


class NumberSequence:
    """Looks once at the beginning of each connection."""

    def __init__(self, database: Database, gateway: Gateway, clock: Clock) -> None:
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._seen: Unbroken | None = None
        self.connection = 0  # which one this is, counted from the start of the process
        gateway.events.lost.listen(lambda _: self._forget())

    async def observe(self) -> None:
        """Compares what the gateway names now with what it has named and acknowledged before."""
        named = self._gateway.next_valid_id
        if self._seen is not None or named is None:
            return
        self._seen = await self._database.write(lambda connection: self._observe(connection, named))

    async def never_reached(self, number: int, order_id: str) -> bool:
        """Whether it is certain that the gateway has not got the order with this number."""
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
        known = _stored(connection)
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


def _stored(connection: sqlite3.Connection) -> Unbroken | None:
    value = settings.get(connection, _NAME)
    try:
        return None if value is None else msgspec.json.decode(value, type=Unbroken)
    except msgspec.MsgspecError:
        log.warning("order-numbers-unreadable", hint="they count as begun anew")
        return None
