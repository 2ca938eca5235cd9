"""Opens the journal, and runs work on it off the event loop.

One thread owns the only writing connection, a second one a read-only connection: WAL lets them go
on side by side, so a long page of executions never delays an order. What is to be written while the
thread is at work is written next, all of it in one transaction and with one sync; each piece that
fails takes back its own. A write is on the disk (fsync) when `write` returns, unless the caller
says that losing the last second in a power cut would do (`durable=False`; it is still safe against
a crash of the process).
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
from typing import Any, Final, Self, TypeVar

from bridge.store import migrations
from bridge.store.errors import (
    DamagedRowError,
    StoreBehindError,
    StoreBusyError,
    StoreError,
    StoreTooNewError,
)
from bridge.store.identity import Identity, sync
from bridge.store.rows import DamagedTextError, is_undecodable, reading_what_is_damaged

FILE_NAME: Final = "journal.sqlite3"
_LOCK_WAIT_SECONDS: Final = 10.0
_TIDY_SECONDS: Final = 1.0
_PATIENCE: Final = 8.0  # beyond SQLite's own for a lock: a disk that hangs hangs nobody else
_AT_ONCE: Final = 64
"""Writes in one transaction, which is one sync for all of them."""
_LOG_PAGES: Final = 192  # 800 kB in a burst; a second later they are in the one file

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
_Outcome = tuple[Any, BaseException | None]


class _Write:
    """One that waits for its transaction; `given_up` when nobody waits for it any more."""

    __slots__ = ("done", "durable", "given_up", "work")

    def __init__(self, work: Work[Any], durable: bool, done: asyncio.Future[Any]) -> None:
        self.work = work
        self.durable = durable
        self.done = done
        self.given_up = False


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
        self._pending: list[_Write] = []
        self._writing = False
        self._tidying: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls,
        folder: Path,
        identity_folder: Path | None = None,
        *,
        lock_wait: float = _LOCK_WAIT_SECONDS,
    ) -> Self:
        """Opens the journal in `folder`, and brings it up to date.

        `identity_folder` keeps its name where whoever empties `folder` does not come. It waits
        `lock_wait` seconds for a predecessor to end.
        """
        return await asyncio.to_thread(cls._open, folder, identity_folder, lock_wait)

    @classmethod
    def _open(cls, folder: Path, identity_folder: Path | None, lock_wait: float) -> Self:
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
                identity = Identity(folder, path, identity_folder)
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
        """Runs `work`, whole or not at all, in a transaction that it may share with others.

        Committed and synced when this returns; taken back when `work` raises.

        Raises:
            StoreError: the disk is full, or the file is damaged.
            StoreBehindError: it takes too long; what had not begun by then is not done.
        """
        if self._closed:
            raise RuntimeError("the journal is closed")
        loop = asyncio.get_running_loop()
        write = _Write(work, durable, loop.create_future())
        self._pending.append(write)
        if not self._writing:
            self._begin_batch()
        try:
            async with asyncio.timeout(_PATIENCE):
                result: Result = await write.done
        except TimeoutError:
            write.given_up = True
            raise _behind() from None
        except BaseException:
            write.given_up = True
            raise
        if self._tidying is None and not self._closed:
            self._tidying = loop.call_later(_TIDY_SECONDS, self._tidy_soon)
        return result

    def _begin_batch(self) -> None:
        """Hands all that waits to the thread, as one transaction."""
        batch, self._pending = self._pending[:_AT_ONCE], self._pending[_AT_ONCE:]
        self._writing = True
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._write_thread, self._transact, batch).add_done_callback(
            lambda outcomes: self._end_batch(batch, outcomes)
        )

    def _end_batch(self, batch: list[_Write], outcomes: asyncio.Future[list[_Outcome]]) -> None:
        self._writing = False
        if self._pending:
            self._begin_batch()
        failure = outcomes.exception()
        told = [(None, failure)] * len(batch) if failure is not None else outcomes.result()
        for write, (result, error) in zip(batch, told, strict=True):
            if write.done.done():
                continue
            if error is None:
                write.done.set_result(result)
            else:
                write.done.set_exception(_as_store_error(error))

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
        while self._pending:
            self._begin_batch()  # behind the one under way
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
            raise _behind() from None
        except (sqlite3.DatabaseError, DamagedTextError) as error:
            found = _as_store_error(error)
            if found is error:
                raise
            raise found from found.__cause__

    def _transact(self, batch: list[_Write]) -> list[_Outcome]:
        """Runs them one after the other; one that fails takes back what it did itself.

        Raises:
            Exception: nothing of them is in the journal.
        """
        durable = any(write.durable for write in batch)
        if durable != self._durable:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._one(write) for write in batch]
            if all(error is not None for _, error in outcomes):
                self._writer.execute("ROLLBACK")
                return outcomes
            if any(
                write.given_up and not error
                for write, (_, error) in zip(batch, outcomes, strict=True)
            ):
                # Whoever wanted it has been told that it was not done.
                raise StoreBehindError("given up in the meantime")
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        return outcomes

    def _one(self, write: _Write) -> _Outcome:
        if write.given_up:
            return None, StoreBehindError("given up in the meantime")
        self._writer.execute("SAVEPOINT one")
        try:
            result = self._worked(write)
            if write.given_up:
                raise StoreBehindError("given up in the meantime")
        except Exception as error:
            if not self._writer.in_transaction:
                raise  # SQLite has taken everything back, of the others too
            self._writer.execute("ROLLBACK TO one")
            self._writer.execute("RELEASE one")
            return None, error
        self._writer.execute("RELEASE one")
        return result, None

    def _worked(self, write: _Write) -> Any:
        try:
            return write.work(self._writer)
        except sqlite3.OperationalError as error:
            if not is_undecodable(error):
                raise
        self._writer.execute("ROLLBACK TO one")
        with reading_what_is_damaged(self._writer):
            return write.work(self._writer)

    def _tidy_soon(self) -> None:
        self._tidying = None
        if not self._closed:
            self._write_thread.submit(self._tidy)

    def _tidy(self) -> None:
        """Brings the log's pages into the one file, and notes how far that has come.

        All that counts as come has to be on the disk before: after a power cut the journal would
        else seem older than it was.
        """
        with contextlib.suppress(sqlite3.Error, OSError):  # the next write tells of it
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            sync(self.path.with_name(f"{FILE_NAME}-wal"))
            self.identity.mark(self._writer)

    def _snapshot(self, work: Work[Result]) -> Result:
        self._reader.execute("BEGIN")
        try:
            return work(self._reader)
        except sqlite3.OperationalError as error:
            if not is_undecodable(error):
                raise
            with reading_what_is_damaged(self._reader):
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


def _behind() -> StoreBehindError:
    return StoreBehindError(
        f"the journal's disk has not answered for {_PATIENCE:g} s",
        next_step="Look after the disk of the data folder",
    )


def _as_store_error(error: BaseException) -> BaseException:
    """What SQLite says of the disk or the file, as the journal's error; others as they are."""
    if isinstance(error, DamagedTextError) or is_undecodable(error):
        return DamagedRowError(f"a text of the journal is damaged: {error}")
    if not isinstance(error, sqlite3.DatabaseError):
        return error
    step = _TROUBLES.get(_primary(error))
    if step is None:
        return error
    found = StoreError(f"the journal cannot be used: {error}", next_step=step)
    found.__cause__ = error
    return found


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
