"""Entries of a halt or a cancel: they delay nobody, and are kept as soon as the journal lets them.

The first attempt gets a moment; whoever waits is told whether it was kept in it. What was not goes
on by itself: a slow write ends when it ends, one that failed is tried again in its order. For a
full disk the reserve is given up first: room kept for a halt or a cancel, and for nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from bridge.store.condition import JournalCondition
from bridge.store.database import Database, is_full
from bridge.store.errors import StoreError

FILE_NAME: Final = "journal.reserve"
RESERVE_BYTES: Final = 512 * 1024
_ROOM_BEFORE: Final = 4 * RESERVE_BYTES
"""So much must be free before room is taken, so that taking it is not what fills the disk."""


def free_bytes(folder: Path) -> int:
    """What the bridge may still write there. Raises OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class Reserve:
    """A file of some size in the data folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME

    def keep(self) -> bool:
        """Takes the room when there is enough; whether it is held."""
        try:
            if self._file.exists():
                return True
            if free_bytes(self._file.parent) < _ROOM_BEFORE:
                return False
            partial = self._file.with_name(f"{FILE_NAME}.new")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(partial, flags, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
            partial.rename(self._file)
        except OSError:
            with suppress(OSError):
                self._file.with_name(f"{FILE_NAME}.new").unlink()
            return False
        return True

    def give_up(self) -> bool:
        """Gives the room back to the disk; False when there was none to give."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True


log = structlog.get_logger(__name__)

WAIT_SECONDS: Final = 0.1
_MOST_WAITING: Final = 2_000
_MOST_UNDER_WAY: Final = 64

Work = Callable[[sqlite3.Connection], object]
Kept = Callable[[], None]


class Urgent:
    """One for each journal."""

    def __init__(self, database: Database, condition: JournalCondition) -> None:
        self.reserve = Reserve(database.path.parent)
        self._database = database
        self._condition = condition
        self._waiting: deque[tuple[Work, Kept | None]] = deque()
        self._under_way: set[asyncio.Task[bool]] = set()

    @property
    def waiting(self) -> int:
        """How many entries the journal has not taken yet."""
        return len(self._waiting) + len(self._under_way)

    async def keep(
        self,
        work: Work,
        kept: Kept | None = None,
        seconds: float | None = None,
        *,
        durable: bool = True,
        reserve: bool = False,
    ) -> bool:
        """Whether `work` is in the journal within `seconds`; if not it follows by itself.

        Without `seconds` it gets `WAIT_SECONDS`.
        `kept` is called on the event loop when it is, sooner or later. `reserve`: of a halt or a
        cancel, for which the room that is kept may be taken.
        """
        tried = self._condition.writable or reserve
        if not tried or len(self._under_way) >= _MOST_UNDER_WAY:
            self._put(work, kept)
            return False
        task = asyncio.create_task(self._attempt(work, kept, durable, reserve), name="urgent-entry")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait({task}, timeout=WAIT_SECONDS if seconds is None else seconds)
        return task.done() and not task.cancelled() and task.result()

    async def again(self) -> None:
        """Tries what is waiting, the oldest first, until one fails."""
        while self._waiting:
            work, kept = self._waiting[0]
            try:
                await self._database.write(work)
            except (StoreError, sqlite3.Error, RuntimeError):
                return
            self._waiting.popleft()
            if kept is not None:
                kept()

    async def stop(self) -> None:
        """Waits a moment for what is under way."""
        if self._under_way:
            await asyncio.wait(tuple(self._under_way), timeout=0.5)

    async def _attempt(self, work: Work, kept: Kept | None, durable: bool, reserve: bool) -> bool:
        try:
            await self._write(work, durable, reserve)
        except (StoreError, sqlite3.Error, RuntimeError) as error:
            log.error("journal-entry-postponed", error=str(error))
            self._put(work, kept)
            return False
        if kept is not None:
            kept()
        return True

    async def _write(self, work: Work, durable: bool, reserve: bool) -> None:
        try:
            await self._database.write(work, durable=durable)
        except StoreError as error:
            if not (reserve and is_full(error)) or not await asyncio.to_thread(
                self.reserve.give_up
            ):
                raise
            log.warning("reserve-given-up")
            await self._database.write(work, durable=durable)

    def _put(self, work: Work, kept: Kept | None) -> None:
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((work, kept))
        else:
            log.error("journal-entry-lost", waiting=len(self._waiting))
