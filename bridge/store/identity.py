"""Whether this journal is the one that was here before.

A journal that was emptied, removed, restored or moved has forgotten orders, and would send them
again. So its identity is kept outside the database as well, in a small file beside it, and the two
have to agree before anything is sent:

* both hold the same random name;
* the database knows the file's inode and the time of its last change, which no copy brings along:
  a copied data folder, and one that was put back over the present one, are told apart from it;
* the database knows its own inode and the folder's path: a file that was put in its place, and a
  folder that was moved, are told apart, too;
* the same name is kept in a folder of its own, where a deploy gives one: whoever empties the whole
  data folder leaves that behind, and what begins then is not a new bridge;
* the file `journal.highest` says how far the journal has come, once a second: an older copy of the
  database, however it got there, is behind it.

What does not agree is not accepted: trading is halted until a person says `journal accept`. A new
bridge (no database, no identity) and a journal of a release that knew no identity are accepted.
Besides this the broker is a witness: an order of ours that the journal does not know (`doubt`).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

FILE_NAME: Final = "journal.identity"
MARK_NAME: Final = "journal.highest"
_KEY: Final = "journal_identity"
_DOUBT: Final = "journal_doubt"
_COUNTED: Final = ("orders", "order_events", "executions", "audit")
ACCEPT: Final = (
    "Compare open orders and fills with TWS, then ./deploy.py journal accept (POST /journal/accept)"
)


class _Held(msgspec.Struct, frozen=True):
    """What the database holds; `file` is None while an identity is being given."""

    name: str
    file: tuple[int, int] | None = None
    database: int = 0
    folder: str = ""


class _Mark(msgspec.Struct, frozen=True):
    name: str
    counts: dict[str, int]


class Identity:
    """Of the journal in one folder. All methods but `why` run where the database is written."""

    def __init__(self, folder: Path, database: Path, elsewhere: Path | None = None) -> None:
        self._file = folder / FILE_NAME
        self._other_file = None if elsewhere is None else elsewhere / FILE_NAME
        self._mark_file = folder / MARK_NAME
        self._database = database
        self._name = ""
        self._marked: dict[str, int] = {}
        self.why: str | None = None
        """Why the journal is not accepted; None: it is."""

    def examine(self, connection: sqlite3.Connection) -> None:
        """Compares, and gives a new journal its identity.

        Raises:
            OSError: the identity of a new journal cannot be written.
        """
        held, outside, elsewhere = _held(connection), _named(self._file), self._elsewhere()
        traces = outside is not None or elsewhere is not None or self._mark_file.exists()
        if held is None and not traces:
            self._give(connection)  # new, or of a release that knew no identity
        elif held is not None and held.file is None:
            self._give(connection, held.name)  # the process ended while it was being given
        else:
            self.why = self._difference(connection, held, outside) or _meta(connection, _DOUBT)
            if self.why is None and held is not None:
                if elsewhere not in {None, held.name}:
                    self.why = "this is another journal than the one that was here"
                elif elsewhere is None:  # of a release that kept it in one place
                    self._keep_elsewhere(held.name)
        self._name = self._name or (held.name if held else "")

    def accept(self, connection: sqlite3.Connection) -> None:
        """A person says that this journal may be used from now on."""
        connection.execute("DELETE FROM meta WHERE name = ?", (_DOUBT,))
        self._marked = {}
        with suppress(FileNotFoundError):
            self._mark_file.unlink()
        self._give(connection)
        self.why = None

    def doubt(self, connection: sqlite3.Connection, why: str) -> None:
        """The broker has said something that this journal should have known."""
        _put_meta(connection, _DOUBT, self.why or why)

    def mark(self, connection: sqlite3.Connection) -> None:
        """Notes outside how far the journal has come."""
        counts = _counts(connection)
        if self.why is not None or not self._name or counts == self._marked:
            return
        with suppress(OSError):
            replace_file(
                self._mark_file, msgspec.json.encode(_Mark(self._name, counts)), durable=False
            )
            self._marked = counts

    # ----------------------------------------------------------------------------------------------

    def _give(self, connection: sqlite3.Connection, name: str = "") -> None:
        """In this order, so that a process that ends between two steps can finish it."""
        self._name = name or secrets.token_hex(16)
        _put_meta(connection, _KEY, msgspec.json.encode(_Held(self._name)).decode())
        self._keep_elsewhere(self._name)
        replace_file(self._file, msgspec.json.encode({"name": self._name}), durable=True)
        sealed = _Held(
            self._name,
            _print(self._file),
            self._database.stat().st_ino,
            str(self._file.parent.resolve()),
        )
        _put_meta(connection, _KEY, msgspec.json.encode(sealed).decode())

    def _elsewhere(self) -> str | None:
        return None if self._other_file is None else _named(self._other_file)

    def _keep_elsewhere(self, name: str) -> None:
        """A folder that takes nothing is none; a name there that cannot be replaced is an error."""
        if self._other_file is None:
            return
        try:
            replace_file(self._other_file, msgspec.json.encode({"name": name}), durable=True)
        except OSError:
            if self._other_file.exists():
                raise

    def _difference(
        self, connection: sqlite3.Connection, held: _Held | None, outside: str | None
    ) -> str | None:
        if held is None:
            return "the journal that was here is gone: it was emptied or removed"
        if outside is None:
            return "the journal was moved or restored: its identity is not here"
        if outside != held.name:
            return "this is another journal than the one that was here"
        if _print(self._file) != held.file:
            return "the data folder was restored or copied"
        if self._database.stat().st_ino != held.database:
            return "the journal was restored: it is another file than before"
        if str(self._file.parent.resolve()) != held.folder:
            return "the data folder was moved"
        if self._is_behind(connection, held.name):
            return "the journal is an older one than was here: it was restored"
        return None

    def _is_behind(self, connection: sqlite3.Connection, name: str) -> bool:
        try:
            mark = msgspec.json.decode(self._mark_file.read_bytes(), type=_Mark)
        except (OSError, msgspec.MsgspecError):
            return False
        counts = _counts(connection)
        return mark.name == name and any(
            counts.get(table, 0) < count for table, count in mark.counts.items()
        )


def _named(file: Path) -> str | None:
    """The name in a file; empty for one that cannot be read, None for none."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    try:
        return str(msgspec.json.decode(content, type=dict[str, Any]).get("name", ""))
    except msgspec.MsgspecError:
        return ""


def _print(file: Path) -> tuple[int, int]:
    """What no copy of a file has: its inode, and when that was last changed."""
    status = file.stat()
    return status.st_ino, status.st_ctime_ns


def _held(connection: sqlite3.Connection) -> _Held | None:
    text = _meta(connection, _KEY)
    try:
        return None if text is None else msgspec.json.decode(text, type=_Held)
    except msgspec.MsgspecError:
        return _Held("damaged", (0, 0))


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    rows = connection.execute("SELECT name, seq FROM sqlite_sequence")
    return {row[0]: int(row[1]) for row in rows if row[0] in _COUNTED}


def _meta(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _put_meta(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def replace_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Writes a file whole or not at all, for the owner only.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    partial = path.with_name(f"{path.name}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.rename(path)
    if durable:
        sync(path.parent)


def write_all(descriptor: int, content: bytes) -> None:
    """Writes all of it: a disk that is nearly full takes a part, and is no error yet.

    Raises:
        OSError: it cannot be written; a part of it may be.
    """
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def sync(path: Path) -> None:
    """Brings a file or a folder to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
