"""Finds out whether the journal can be written before an order needs it.

Every two seconds (twice a second while something is wrong, so that trading is back soon after it
is mended) a small real write, a small read, and a look at the file and at the room on its disk.
What does not answer in time counts as broken; nobody waits for it, and it is not asked again before
it has answered.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from typing import Any, Final

from bridge.clock import Clock, going_on
from bridge.store.condition import JournalCondition, Trouble
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.urgent import Urgent, free_bytes

PROBE_SECONDS: Final = 2.0
_TROUBLED_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 1.5
LEAST_FREE_BYTES: Final = 256 * 1024
"""Less room than this is no room for an order and all that follows from it."""
_HEADER: Final = b"SQLite format 3\0"
_DISK: Final = "Look after the disk of the data folder"
_FILE: Final = (
    "Send nothing more. Stop the bridge, keep a copy of the data folder, restore its last backup,"
    " then ./deploy.py journal accept"
)

Question = Callable[[], Coroutine[Any, Any, Trouble | None]]


class Probe:
    """Keeps `condition` true; gives what is urgent another try when the journal takes it."""

    def __init__(self, database: Database, condition: JournalCondition, urgent: Urgent) -> None:
        self._database = database
        self._condition = condition
        self._urgent = urgent
        self._inode = database.path.stat().st_ino
        self._asked: dict[str, asyncio.Task[Trouble | None]] = {}

    async def run(self, clock: Clock) -> None:
        while True:
            with going_on("journal"):
                await self.look()
            troubled = self._condition.probed is not None
            await clock.sleep(_TROUBLED_SECONDS if troubled else PROBE_SECONDS)

    async def look(self) -> None:
        """One look at everything; takes a second and a half at most, unless all is well."""
        questions: dict[str, Question] = {
            "file": self._file,
            "written": self._written,
            "read": self._read,
        }
        found = await asyncio.gather(*(self._ask(name, ask) for name, ask in questions.items()))
        trouble = next((each for each in found if each is not None), None)
        self._condition.probed = trouble
        if trouble is None:
            await self._urgent.again()
            await asyncio.to_thread(self._urgent.reserve.keep)

    async def _ask(self, name: str, ask: Question) -> Trouble | None:
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.create_task(ask(), name=f"journal-probe-{name}")
        await asyncio.wait({task}, timeout=_ANSWER_SECONDS)
        if not task.done():
            return Trouble(f"the journal has not been {name} for {_ANSWER_SECONDS:g} s", _DISK)
        self._asked.pop(name, None)
        return task.result()

    async def _file(self) -> Trouble | None:
        try:
            return await asyncio.to_thread(self._look_at_file)
        except OSError as error:
            return Trouble(f"the journal's file cannot be read: {error.strerror}", _FILE)

    def _look_at_file(self) -> Trouble | None:
        path = self._database.path
        if path.stat().st_ino != self._inode:
            return Trouble("the journal was replaced by another file while the bridge runs", _FILE)
        with path.open("rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                return Trouble("the journal's file is damaged", _FILE)
        free = free_bytes(path.parent)
        if free < LEAST_FREE_BYTES:
            return Trouble(
                f"the disk of the data folder is full: {free // 1024} kB are free",
                "Free some space on it",
            )
        return None

    async def _written(self) -> Trouble | None:
        return await self._tried(self._database.write(_write, durable=False), "written")

    async def _read(self) -> Trouble | None:
        return await self._tried(self._database.read(_read), "read")

    @staticmethod
    async def _tried(work: Coroutine[Any, Any, None], what: str) -> Trouble | None:
        try:
            await work
        except StoreError as error:
            return Trouble(f"the journal cannot be {what}: {error.detail}", error.next_step)
        except (sqlite3.Error, RuntimeError) as error:
            return Trouble(f"the journal cannot be {what}: {error}", _DISK)
        return None


def _write(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO meta VALUES ('probed', 1) ON CONFLICT (name)"
        " DO UPDATE SET value = (value + 1) % 1000"
    )


def _read(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT value FROM meta WHERE name = 'probed'").fetchone()
