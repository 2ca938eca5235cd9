"""Keeps the session's diagnostics in the journal, without anyone waiting for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import structlog

from bridge.store import Database, StoreError, connection_events
from bridge.store import diagnostics as table
from bridge.tws.diagnostics import ConnectionEvent, Diagnostics

PAUSE = 0.2  # changes come in bursts; one write takes them all
log = structlog.get_logger(__name__)


class JournalKeeper:
    """Collects changes and writes them in the background.

    Safe against a crash, not against a power cut.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._values: dict[str, Any] = {}
        self._events: list[ConnectionEvent] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def save(self, values: dict[str, Any]) -> None:
        """Keeps these fields."""
        self._values.update(values)
        self._changed.set()

    def event(self, event: ConnectionEvent) -> None:
        """Keeps one event."""
        self._events.append(event)
        self._changed.set()

    async def restore(self, diagnostics: Diagnostics) -> None:
        """Hands over what earlier processes kept, and starts keeping."""
        values = await self._database.read(table.load)
        kept = await self._database.read(connection_events.newest)
        events = [
            ConnectionEvent(sequence=e.sequence, at=e.at, kind=e.kind, detail=e.detail)
            for e in kept
        ]
        diagnostics.restore(self, values, events)
        self._task = asyncio.create_task(self._run(), name="diagnostics-keeper")

    async def stop(self) -> None:
        """Writes what is left."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(PAUSE)
            await self._flush()

    async def _flush(self) -> None:
        self._changed.clear()
        values, self._values = self._values, {}
        events, self._events = self._events, []
        if not values and not events:
            return

        def work(connection: sqlite3.Connection) -> None:
            table.save(connection, values)
            for event in events:
                connection_events.add(connection, event.at, event.kind, event.detail)

        try:
            await self._database.write(work, durable=False)
        except (sqlite3.Error, StoreError, RuntimeError) as error:
            log.warning("diagnostics-not-kept", error=str(error))
