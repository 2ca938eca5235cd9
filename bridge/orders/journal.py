"""What an owner asks of the journal: what could not be kept, and that it was looked at."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bridge.clock import Clock
from bridge.orders.auditing import Auditor, Caller
from bridge.store import Database, quarantine
from bridge.store.condition import JournalCondition


class SetAside(Struct, rename="camel", frozen=True, kw_only=True):
    """A message of the broker's that could not be kept.

    `name` is what it is about (an `execId`, an `orderRef`, an order's number), `times` how often it
    has come; `mendedAt` when the broker sent the same thing whole, or a person had looked at it.
    """

    kind: str
    name: str
    cause: str
    content: str
    at: datetime
    times: int
    mended_at: datetime | None


class JournalView(Struct, rename="camel", frozen=True, kw_only=True):
    """The journal's condition, and the messages that were set aside, the newest first."""

    writable: bool
    queue_age: float
    quarantined: int
    set_aside: tuple[SetAside, ...]


class JournalDesk:
    """For the routes."""

    def __init__(
        self, database: Database, condition: JournalCondition, auditor: Auditor, clock: Clock
    ) -> None:
        self._database = database
        self._condition = condition
        self._auditor = auditor
        self._clock = clock

    async def view(self) -> JournalView:
        """As it is now."""
        entries = await self._database.read(quarantine.newest)
        condition = self._condition
        return JournalView(
            writable=condition.writable,
            queue_age=round(condition.queue_age, 1),
            quarantined=condition.quarantined,
            set_aside=tuple(
                SetAside(
                    kind=each.kind,
                    name=each.name,
                    cause=each.cause,
                    content=each.content,
                    at=each.at,
                    times=each.times,
                    mended_at=each.mended_at,
                )
                for each in entries
            ),
        )

    async def dismiss(self, caller: Caller) -> JournalView:
        """A person has compared what was set aside with the broker's own list."""
        async with self._auditor.trail(caller, "journal.quarantine-seen", None):
            now = self._clock.now()
            await self._database.write(lambda connection: quarantine.dismiss(connection, now))
            self._condition.quarantined = await self._database.read(quarantine.count)
        return await self.view()
