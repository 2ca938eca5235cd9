"""The kill switch.

It is in the journal before anyone is told that it is on, and survives restarts. A journal that is
not the one from before halts trading, too, until a person accepts it.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from bridge.clock import Clock
from bridge.orders.errors import JournalNotAcceptedError, TradingHaltedError
from bridge.store import Database, settings
from bridge.store.identity import ACCEPT

_NAME: Final = "trading.halt"
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
JOURNAL: Final = "journal"
"""Who has halted trading when the journal is not accepted."""
Cancelling = Literal["none", "own", "all"]
_STRENGTH: Final[tuple[Cancelling, ...]] = ("none", "own", "all")


class Halt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Why nothing is sent. `cancel`: which open orders are to be cancelled while it holds."""

    since: datetime
    by: str
    reason: str = ""
    cancel: Cancelling = "none"


class HaltSwitch:
    """On or off; the answer in memory is the journal's."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._begun = clock.now()
        self._halt: Halt | None = None

    async def load(self) -> None:
        """Takes over what the last process left."""
        self._halt = await self._database.read(stored)

    @property
    def halt(self) -> Halt | None:
        """The halt that holds now: a person's, else the journal's."""
        why = self._database.identity.why
        if self._halt is None and why is not None:
            return Halt(since=self._begun, by=JOURNAL, reason=why)
        return self._halt

    def require_off(self) -> None:
        """Raises while trading is halted."""
        halt = self.halt
        if halt is not None:
            raise halted(halt)

    def require_accepted(self) -> None:
        """Raises JournalNotAcceptedError while the journal is not accepted."""
        why = self._database.identity.why
        if why is not None:
            raise JournalNotAcceptedError(f"trading stays halted: {why}")

    async def turn_on(self, by: str, reason: str, cancel: Cancelling) -> Halt:
        """Halts trading.

        A halt that holds already keeps its beginning, and what it has to cancel; a second one
        only ever adds to it.
        """
        halt = Halt(since=self._clock.now(), by=by, reason=reason, cancel=cancel)
        if self._halt is not None:
            halt = msgspec.structs.replace(
                halt,
                since=self._halt.since,
                reason=reason or self._halt.reason,
                cancel=max(cancel, self._halt.cancel, key=_STRENGTH.index),
            )
        self._halt = halt
        encoded = msgspec.json.encode(halt)
        now = self._clock.now()
        await self._database.write(lambda connection: settings.put(connection, _NAME, encoded, now))
        return halt

    async def turn_off(self) -> bool:
        """Lets orders through again; False when there was no halt."""
        before = self._halt
        removed = await self._database.write(lambda connection: settings.remove(connection, _NAME))
        if self._halt is before:  # else somebody has halted again, behind this in the journal
            self._halt = None
        return removed


def stored(connection: sqlite3.Connection) -> Halt | None:
    """What the journal says; asked again in the transaction that writes an order down."""
    value = settings.get(connection, _NAME)
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=Halt)
    except msgspec.MsgspecError:  # there was one, whatever it said
        return Halt(since=_LONG_AGO, by="", reason="the halt in the journal cannot be read")


def halted(halt: Halt) -> TradingHaltedError:
    """The error for an order that comes while it holds."""
    why = f": {halt.reason}" if halt.reason else ""
    return TradingHaltedError(
        f"trading is halted since {halt.since:%Y-%m-%d %H:%M:%S} UTC{why}",
        next_step=ACCEPT if halt.by == JOURNAL else None,
        extra={"since": halt.since, "reason": halt.reason},
    )
