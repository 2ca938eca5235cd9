import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.errors import Kind
from bridge.store import (
    Database,
    StoreBehindError,
    StoreBusyError,
    StoreError,
    StoreTooNewError,
    migrations,
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "data")
    yield opened
    await opened.close()


def _put(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("INSERT INTO settings VALUES (?, x'00', 0)", (name,))


def _names(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM settings ORDER BY name")]


async def test_files_are_for_the_owner_only(database: Database) -> None:
    for file in database.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(database.path.parent.stat().st_mode) == 0o700


async def test_the_file_is_wal_and_synced_in_full(database: Database) -> None:
    def pragmas(connection: sqlite3.Connection) -> tuple[str, int]:
        return (
            connection.execute("PRAGMA journal_mode").fetchone()[0],
            connection.execute("PRAGMA synchronous").fetchone()[0],
        )

    assert (
        await database.write(lambda connection: connection.execute("SELECT 1").fetchone()[0]) == 1
    )
    assert pragmas(database._writer) == ("wal", 2)
    await database.write(lambda connection: _put(connection, "loose"), durable=False)
    assert pragmas(database._writer) == ("wal", 1)
    await database.write(lambda connection: _put(connection, "firm"))
    assert pragmas(database._writer) == ("wal", 2)


async def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        _put(connection, "half")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        await database.write(half)
    assert await database.read(_names) == []


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError, match="readonly") as raised:
        await database.read(lambda connection: _put(connection, "sneaky"))
    assert "writable" in raised.value.next_step


async def test_a_slow_read_holds_up_neither_the_loop_nor_a_write(database: Database) -> None:
    release = threading.Event()

    def slow(connection: sqlite3.Connection) -> list[str]:
        before = _names(connection)
        assert release.wait(30)
        return before

    reading = asyncio.create_task(database.read(slow))
    await asyncio.sleep(0)
    await database.write(lambda connection: _put(connection, "meanwhile"))
    release.set()
    assert await reading == []
    assert await database.read(_names) == ["meanwhile"]


async def test_a_second_bridge_is_kept_out(database: Database) -> None:
    with pytest.raises(StoreBusyError) as raised:
        await Database.open(database.path.parent, lock_wait=0)
    assert raised.value.code == "store-busy"


async def test_a_successor_waits_for_the_lock(tmp_path: Path) -> None:
    first = await Database.open(tmp_path)
    second = asyncio.create_task(Database.open(tmp_path, lock_wait=30))
    await asyncio.sleep(0.02)
    assert not second.done()
    await first.close()
    await (await second).close()


async def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    first = await Database.open(tmp_path)
    await first.write(lambda connection: _put(connection, "kept"))
    await first.close()
    await first.close()
    second = await Database.open(tmp_path)
    assert await second.read(_names) == ["kept"]
    await second.close()


async def test_a_newer_additive_file_still_opens(tmp_path: Path) -> None:
    first = await Database.open(tmp_path)
    await first.close()
    _edit(first.path, f"PRAGMA user_version = {migrations.NEWEST + 3}")
    second = await Database.open(tmp_path)
    await second.write(lambda connection: _put(connection, "works"))
    await second.close()


async def test_a_newer_file_that_says_no_is_refused(tmp_path: Path) -> None:
    first = await Database.open(tmp_path)
    await first.close()
    newer = migrations.NEWEST + 1
    _edit(first.path, f"PRAGMA user_version = {newer}")
    _edit(first.path, f"UPDATE meta SET value = '{newer}' WHERE name = 'readable_from'")
    for _ in range(2):  # the lock is free again after the refusal
        with pytest.raises(StoreTooNewError):
            await Database.open(tmp_path, lock_wait=0)


async def test_a_file_that_is_no_database_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(b"not a database, certainly not one" * 50)
    with pytest.raises(StoreError, match="not a database") as raised:
        await Database.open(tmp_path)
    assert raised.value.next_step


async def test_an_impossible_folder_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="data folder"):
        await Database.open(tmp_path / "file")


def _edit(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


async def test_other_processes_see_a_write_as_soon_as_it_returns(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    await database.write(lambda connection: _put(connection, "visible"))
    other = sqlite3.connect(f"{database.path.as_uri()}?mode=ro", uri=True)
    assert _names(other) == ["visible"]
    other.close()
    await database.close()


async def test_a_full_disk_is_told_and_what_was_written_is_kept(database: Database) -> None:
    await database.write(lambda connection: _put(connection, "kept"))
    database._writer.execute("PRAGMA max_page_count = 1")  # SQLite's own way to run out of room

    def much(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO settings VALUES ('big', zeroblob(1000000), 0)")

    with pytest.raises(StoreError, match="full") as raised:
        await database.write(much)
    assert (raised.value.code, raised.value.kind) == ("store-unavailable", Kind.UNAVAILABLE)
    assert "space" in raised.value.next_step
    assert await database.read(_names) == ["kept"]


async def test_a_damaged_page_is_told_and_left_alone(tmp_path: Path) -> None:
    first = await Database.open(tmp_path)
    await first.close()
    empty = first.path.stat().st_size
    first = await Database.open(tmp_path)
    for number in range(2000):
        name = f"a setting with a long name {number}"
        await first.write(lambda c, name=name: _put(c, name), durable=False)  # type: ignore[misc]
    await first.close()
    size = first.path.stat().st_size
    rows = (size - empty) // 2  # some of the rows, and no table's first page
    with first.path.open("r+b") as file:
        file.seek(size - rows)
        file.write(b"\xa5" * rows)
    damaged = first.path.read_bytes()
    second = await Database.open(tmp_path)
    with pytest.raises(StoreError, match="malformed") as raised:
        await second.read(_names)
    assert "backup" in raised.value.next_step
    await second.close()
    assert first.path.read_bytes() == damaged


async def test_a_mistake_of_ours_is_no_trouble_of_the_disk(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.read(lambda connection: connection.execute("SELECT * FROM nowhere"))


async def test_a_disk_that_hangs_hangs_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.store.database._PATIENCE", 0.2)
    release = threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        _put(connection, "too late")
        release.wait(30)

    def behind_it(connection: sqlite3.Connection) -> None:
        _put(connection, "behind it")

    for work in (slow, behind_it):
        with pytest.raises(StoreBehindError, match="disk"):
            await database.write(work)
    release.set()
    await database.write(lambda connection: _put(connection, "after"))
    assert await database.read(_names) == ["after"]
    release.clear()
    with pytest.raises(StoreBehindError):
        await database.read(lambda _: release.wait(1))
