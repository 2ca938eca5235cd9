"""Opens the journal, and runs work on it off the event loop.

One thread owns the only writing connection, a second one a read-only connection: WAL lets them go
on side by side, so a long page of executions never delays an order. Every write is one explicit
transaction that is on the disk (fsync) when `write` returns, unless the caller says that losing the
last moments in a power cut would do (`durable=False`; it is still safe against a crash of the
process).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

from bridge.store import migrations
from bridge.store.errors import (
    DamagedRowError,
    StoreBehindError,
    StoreBusyError,
    StoreError,
    StoreTooNewError,
)
from bridge.store.identity import Identity

FILE_NAME: Final = "journal.sqlite3"
_LOCK_WAIT_SECONDS: Final = 10.0
_TIDY_SECONDS: Final = 1.0
_PATIENCE: Final = 8.0  # beyond SQLite's own for a lock: a disk that hangs hangs nobody else
_LOG_PAGES: Final = 64  # 256 kB: a copy of the one file lacks next to nothing

_FILE: Final = (
    "Leave the file where it is: without it, orders could be sent twice. Stop the bridge, keep a"
    " copy of the data folder, restore its last backup, then ./deploy.py journal accept"
)
_OWNER: Final = "Let the bridge's user write in the data folder, and the disk be mounted writable"
_TROUBLES: Final = {
    sqlite3.SQLITE_FULL: "Free some space on the disk of the data folder",
    sqlite3.SQLITE_IOERR: "Look after the disk of the data folder",
    sqlite3.SQLITE_CORRUPT: _FILE,
    sqlite3.SQLITE_NOTADB: _FILE,
    sqlite3.SQLITE_BUSY: "Another process has locked the journal: end it",
    sqlite3.SQLITE_LOCKED: "Another process has locked the journal: end it",
    sqlite3.SQLITE_PROTOCOL: "Another process has locked the journal: end it",
    sqlite3.SQLITE_READONLY: _OWNER,
    sqlite3.SQLITE_CANTOPEN: _OWNER,
    sqlite3.SQLITE_PERM: _OWNER,
    sqlite3.SQLITE_NOMEM: "Give the machine more memory",
}
"""What a person can do about SQLite's errors that are no mistakes of ours."""
_LASTING: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]


class _Turn:
    """One write's; `given_up` when nobody waits for it any more."""

    given_up = False


class Database:
    """The journal of one bridge.

    Make it with `await Database.open(folder)`, end it with `await close()`.
    """

    def __init__(
        self, path: Path, lock: int, writer: sqlite3.Connection, identity: Identity
    ) -> None:
        self.path = path
        self.identity = identity
        """Whether this is the journal that was here before."""
        self._lock = lock
        self._writer = writer
        self._reader = _connect(path, read_only=True)
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="journal-write")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._durable = True
        self._closed = False
        self._tidying: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, folder: Path, *, lock_wait: float = _LOCK_WAIT_SECONDS) -> Self:
        """Opens.

        And brings up to date) the journal in `folder`, waiting `lock_wait` seconds for a
        predecessor to end.
        """
        return await asyncio.to_thread(cls._open, folder, lock_wait)

    @classmethod
    def _open(cls, folder: Path, lock_wait: float) -> Self:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _take_lock(folder / "journal.lock", lock_wait)
        except OSError as error:
            raise StoreError(
                f"cannot use the data folder {folder}: {error.strerror}",
                next_step="check BRIDGE_DATA_DIR: it must be a writable folder",
            ) from None
        path = folder / FILE_NAME
        try:
            writer = _open_writer(path)
            try:
                identity = Identity(folder, path)
                identity.examine(writer)
                return cls(path, lock, writer, identity)
            except BaseException:
                writer.close()
                raise
        except BaseException as error:
            os.close(lock)
            if isinstance(error, sqlite3.Error):
                step = _TROUBLES.get(_primary(error), _FILE)
                raise StoreError(f"cannot open {path}: {error}", next_step=step) from None
            if isinstance(error, OSError):
                what = f"cannot write in the data folder {folder}: {error.strerror}"
                raise StoreError(what, next_step=_OWNER) from None
            raise

    async def write(self, work: Work[Result], *, durable: bool = True) -> Result:
        """Runs `work` in one transaction.

        Committed and synced when this returns; rolled back when `work` raises.

        Raises:
            StoreError: the disk is full, or the file is damaged.
            StoreBehindError: it takes too long; what had not begun by then is not done.
        """
        turn = _Turn()
        try:
            result: Result = await self._run(
                self._write_thread, self._transact, work, durable, turn
            )
        except BaseException:
            turn.given_up = True
            raise
        if self._tidying is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._tidying = loop.call_later(_TIDY_SECONDS, self._tidy_soon)
        return result

    async def read(self, work: Work[Result]) -> Result:
        """Runs `work` on the read-only connection, in one consistent snapshot.

        Raises:
            StoreError: the file is damaged.
        """
        return await self._run(self._read_thread, self._snapshot, work)

    async def accept(self) -> None:
        """A person says that this journal may be used although it is not the one from before.

        Raises:
            StoreError: that cannot be written down.
        """
        try:
            await self._run(self._write_thread, self.identity.accept, self._writer)
        except OSError as error:
            raise StoreError(
                f"the journal's identity cannot be written: {error.strerror}", next_step=_OWNER
            ) from None

    async def close(self) -> None:
        """Ends what is under way and lets the next bridge in."""
        if self._closed:
            return
        self._closed = True
        if self._tidying is not None:
            self._tidying.cancel()
        await asyncio.to_thread(self._close)

    @staticmethod
    async def _run(
        thread: ThreadPoolExecutor, call: Callable[..., Result], *arguments: object
    ) -> Result:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_PATIENCE):
                return await loop.run_in_executor(thread, call, *arguments)
        except TimeoutError:
            raise StoreBehindError(
                f"the journal's disk has not answered for {_PATIENCE:g} s",
                next_step="Look after the disk of the data folder",
            ) from None
        except sqlite3.DatabaseError as error:
            if str(error).startswith("Could not decode"):
                raise DamagedRowError(f"a text of the journal is damaged: {error}") from None
            step = _TROUBLES.get(_primary(error))
            if step is None:
                raise
            raise StoreError(f"the journal cannot be used: {error}", next_step=step) from error

    def _transact(self, work: Work[Result], durable: bool, turn: _Turn) -> Result:
        if durable != self._durable:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._writer)
            if turn.given_up:  # whoever wanted it has been told that it was not done
                raise StoreBehindError("given up in the meantime")
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        return result

    def _tidy_soon(self) -> None:
        self._tidying = None
        if not self._closed:
            self._write_thread.submit(self._tidy)

    def _tidy(self) -> None:
        """Brings the log's pages into the one file, and notes how far that has come."""
        with contextlib.suppress(sqlite3.Error):  # the next write tells of it
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self.identity.mark(self._writer)

    def _snapshot(self, work: Work[Result]) -> Result:
        self._reader.execute("BEGIN")
        try:
            return work(self._reader)
        finally:
            self._reader.execute("ROLLBACK")

    def _close(self) -> None:
        self._write_thread.shutdown(wait=True)
        self._read_thread.shutdown(wait=True)
        self._reader.close()
        self._tidy()
        self._writer.close()
        os.close(self._lock)


def may_heal(error: Exception) -> bool:
    """Whether the same work may succeed later: trouble of the disk, not of what is written."""
    if isinstance(error, sqlite3.Error):
        return _primary(error) in _TROUBLES.keys() - _LASTING
    damaged = isinstance(error, DamagedRowError)
    return isinstance(error, StoreError | OSError | MemoryError) and not damaged


def is_full(error: StoreError) -> bool:
    """Whether room on the disk would help."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and _primary(cause) == sqlite3.SQLITE_FULL


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _take_lock(path: Path, wait: float) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise StoreBusyError(
                    f"another bridge has {path.parent} open",
                    next_step="stop it first: one bridge per data folder",
                ) from None
            time.sleep(0.05)
        else:
            return descriptor


def _open_writer(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600, exist_ok=True)
    connection = _connect(path, read_only=False)
    try:
        found = migrations.version(connection)
        if found > migrations.NEWEST and migrations.oldest_reader(connection) > migrations.NEWEST:
            raise StoreTooNewError(
                f"{path} has schema {found}, this bridge knows {migrations.NEWEST}",
                next_step="deploy the newer bridge again: its journal cannot be read by this one",
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        migrations.advance(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(
        "PRAGMA cache_size = -2048"
    )  # 2 MB each: the bridge lives on a small machine
    return connection
