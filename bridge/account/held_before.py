"""What was held, as the journal keeps it for the next process.

A gateway that has just logged in may list no positions yet, and a bridge that has just begun has
seen none: only the journal tells that something was held. It is one row, written behind the
broker's word and never waited for: safe against a crash, not against a power cut.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from functools import partial
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import Position
from bridge.store import Database, settings

_NAME: Final = "account.held"

log = structlog.get_logger(__name__)

Name = tuple[str, int]
"""An account, and the number of a contract."""


class HeldBefore(Struct, frozen=True, kw_only=True, rename="camel"):
    """A position as it was last known."""

    account: str
    con_id: int
    symbol: str
    sec_type: str
    quantity: float

    @property
    def name(self) -> Name:
        return self.account, self.con_id


def held_before(position: Position) -> HeldBefore:
    """What is kept of a position."""
    contract = position.contract
    return HeldBefore(
        account=position.account,
        con_id=contract.con_id,
        symbol=contract.symbol,
        sec_type=contract.sec_type,
        quantity=position.quantity,
    )


class HeldJournal:
    """Keeps the newest; one write at a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kept: frozenset[HeldBefore] = frozenset()
        self._wanted: frozenset[HeldBefore] = frozenset()
        self._writing: asyncio.Task[None] | None = None
        self._fails = False

    async def load(self) -> tuple[HeldBefore, ...]:
        """What earlier processes knew; nothing where that cannot be read: then a login alone tells.

        It keeps no bridge from starting: the journal's other readers say what is wrong with it.
        """
        try:
            value = await self._database.read(lambda connection: settings.get(connection, _NAME))
            found = msgspec.json.decode(value or b"[]", type=tuple[HeldBefore, ...])
        except (BridgeError, msgspec.MsgspecError, sqlite3.Error) as error:
            log.warning("held-before-unreadable", error=str(error))
            return ()
        self._kept = self._wanted = frozenset(found)
        return found

    def keep(self, held: Iterable[HeldBefore]) -> None:
        """All that is held now. What could not be written is tried again with the next call."""
        self._wanted = frozenset(held)
        running = self._writing is not None and not self._writing.done()
        if self._wanted != self._kept and not running:
            self._writing = asyncio.create_task(self._write(), name="held-journal")

    async def stop(self) -> None:
        """Waits for what is under way."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    async def _write(self) -> None:
        while self._wanted != self._kept:
            wanted = self._wanted
            content = msgspec.json.encode(sorted(wanted, key=lambda each: each.name))
            work = partial(settings.put, name=_NAME, value=content, at=self._clock.now())
            try:
                await self._database.write(work, durable=False)
            except (BridgeError, sqlite3.Error, RuntimeError) as error:
                if not self._fails:
                    log.warning("held-not-kept", error=str(error))
                self._fails = True
                return
            self._kept, self._fails = wanted, False
