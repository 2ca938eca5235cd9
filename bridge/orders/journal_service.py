"""What an owner asks of the journal: what could not be kept, and whether it may be used."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bridge.auditing import Auditor, Caller
from bridge.clock import Clock
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
    """The journal's condition, and the messages that were set aside, the newest first.

    `accepted`: it is the one that was here before, or a person has accepted it; else trading is
    halted, `why` says what is wrong and `nextStep` what to do.
    """

    accepted: bool
    why: str | None
    next_step: str | None
    writable: bool
    queue_age: float
    quarantined: int
    set_aside: tuple[SetAside, ...]


class JournalService:
    """Reads orders and executions of the journal for the routes, page by page."""

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
        doubt = condition.not_accepted
        return JournalView(
            accepted=doubt is None,
            why=doubt.what if doubt else None,
            next_step=doubt.next_step if doubt else None,
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

    async def accept(self, caller: Caller) -> JournalView:
        """A person's word that this journal may be used; a halt of a person's stays."""
        why = self._database.identity.why
        async with self._auditor.trail(caller, "journal.accept", {"why": why or ""}):
            if why is not None:
                await self._database.accept()
        return await self.view()

    async def dismiss(self, caller: Caller) -> JournalView:
        """A person has compared what was set aside with the broker's own list."""
        async with self._auditor.trail(caller, "journal.quarantine-seen", None):
            now = self._clock.now()
            await self._database.write(lambda connection: quarantine.dismiss(connection, now))
            self._condition.quarantined = await self._database.read(quarantine.count)
        return await self.view()
