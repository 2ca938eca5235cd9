"""What rules remember of holdings, and what they tell, as the journal keeps both."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog
from msgspec import structs

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.orders import order_ids
from bridge.rules.closing_steps import Close
from bridge.rules.evaluation import Memory
from bridge.rules.holdings import Holding
from bridge.store import Database
from bridge.store import rules as store
from bridge.store.rules import RuleEvent
from bridge.tws.events import Signal

log = structlog.get_logger(__name__)

KEEP_SECONDS: Final = 1.0
"""High-water marks are kept so often; each decision at once."""

Place = tuple[str, str]
"""A rule's id and a holding's key."""


@dataclass(kw_only=True, eq=False)
class RuleJournal:
    """Memories by rule and holding. `happened` is emitted with each event once it is kept.

    `soon` is called when something is to be kept by the next turn, also if no tick comes.
    """

    database: Database
    clock: Clock
    soon: Callable[[], None]
    happened: Signal[[RuleEvent]] = field(default_factory=lambda: Signal("rule-event"))
    memories: dict[Place, Memory] = field(default_factory=dict)
    damaged: list[RuleEvent] = field(default_factory=list)
    """What `load` could not read, to be told."""
    _changed: set[Place] = field(default_factory=set)
    _kept_at: float = 0.0

    async def load(self) -> list[str]:
        """Takes over what the last process kept; the closes that have not ended, as JSON.

        What is damaged is left out: one row keeps no bridge from starting, and no other rule from
        acting.
        """
        memories, closes = await self.database.read(
            lambda connection: (store.memories(connection), store.open_closes(connection))
        )
        for place, text in memories.items():
            try:
                self.memories[place] = msgspec.json.decode(text, type=Memory)
            except ValueError as error:
                self._note_damage(*place, "the rule begins anew for it", error)
        return [each for each in closes if self._is_readable(each)]

    def _is_readable(self, close: str) -> bool:
        try:
            msgspec.json.decode(close, type=Close)
        except ValueError as error:
            self._note_damage("a rule", "a close", "nobody goes on with it", error)
            return False
        return True

    def _note_damage(self, rule: str, what: str, follows: str, error: Exception) -> None:
        log.error("rule-memory-damaged", rule=rule, what=what, error=str(error)[:200])
        why = f"a row of the journal is damaged, and {follows}; look for open orders of it"
        detail = {"damaged": True, "holding": what, "why": why}
        self.damaged.append(RuleEvent(at=self.clock.now(), kind="waits", rule=rule, detail=detail))

    def note(self, place: Place, memory: Memory) -> None:
        """Remembers; the journal has it within a second."""
        if self.memories.get(place) != memory:
            if not self._changed:
                asyncio.get_running_loop().call_later(KEEP_SECONDS, self.soon)
            self.memories[place] = memory
            self._changed.add(place)

    def noted(self, place: Place, memory: Memory) -> None:
        """The journal has this memory already."""
        self.memories[place] = memory
        self._changed.discard(place)

    async def keep(self, place: Place, memory: Memory) -> None:
        """Before something is sent on the strength of it.

        What a tick notes meanwhile goes on: only the stop of it is what was kept.
        """
        before, content = self.memories.get(place), msgspec.json.encode(memory)
        await self.database.write(lambda connection: store.remember(connection, *place, content))
        since = self.memories.get(place)
        if since is None or since == before:
            self.noted(place, memory)
        else:
            self.note(place, structs.replace(since, guard=memory.guard))

    async def tell(self, event: RuleEvent) -> None:
        """Keeps an event that nothing depends on, and tells of it."""
        kept = await self.database.write(
            lambda connection: store.add_event(connection, event), durable=False
        )
        self.happened.emit(kept)

    async def waits_since(self, seconds: float) -> list[RuleEvent]:
        """What was told to wait within so many seconds, by whatever process; nothing on failure."""
        since = self.clock.now() - timedelta(seconds=seconds)
        try:
            found = await self.database.read(
                lambda connection: store.events_since(connection, since)
            )
        except BridgeError as error:
            log.warning("rule-events-not-read", reason=error.detail)
            return []
        return [each for each in found if each.kind == "waits"]

    async def forget(self, places: list[Place]) -> None:
        """These holdings are gone."""
        if places:
            await self.database.write(lambda connection: forget(connection, places))
            self.forgotten(places)

    def forgotten(self, places: Iterable[Place]) -> None:
        """The journal has these no more."""
        for place in places:
            self.memories.pop(place, None)
            self._changed.discard(place)

    async def keep_now_and_then(self) -> None:
        """Keeps what has changed, once a second at most."""
        if self.clock.monotonic() - self._kept_at >= KEEP_SECONDS:
            await self.keep_changed()

    async def keep_changed(self) -> None:
        """Keeps what has changed."""
        self._kept_at = self.clock.monotonic()
        changed, self._changed = self._changed, set()
        kept = [
            (*place, msgspec.json.encode(self.memories[place]))
            for place in changed
            if place in self.memories
        ]
        if not kept:
            return
        try:
            await self.database.write(lambda connection: _remember(connection, kept), durable=False)
        except BridgeError:
            self._changed |= changed  # kept when the journal can be written again
            raise


def _remember(connection: sqlite3.Connection, kept: Iterable[tuple[str, str, bytes]]) -> None:
    for rule, holding, content in kept:
        store.remember(connection, rule, holding, content)


def forget(connection: sqlite3.Connection, gone: Iterable[Place]) -> None:
    """Within a transaction: what is remembered of these."""
    for rule, holding in gone:
        store.forget(connection, rule, holding)


def named(holding: Holding) -> dict[str, Any]:
    """How an event says which holding it is about."""
    found: dict[str, Any] = {
        "holding": holding.key,
        "name": holding.name,
        "symbol": holding.legs[0].contract.symbol,
        "account": holding.account,
    }
    labels = sorted(each for each in holding.labels if order_ids.digest_of(each) is None)
    return found | ({"labels": labels} if labels else {})
