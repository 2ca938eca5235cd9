"""A journal that was there and is gone is not a new one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.store import Database, StoreError, migrations
from bridge.store.audit import AuditEntry, add
from bridge.store.identity import FILE_NAME, MARK_NAME
from tests.bridge.rig import eventually

FILES = ("journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm")


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=datetime(2026, 3, 2, tzinfo=UTC),
        api_key_id="phone",
        request_id=str(number),
        action="order.place",
        target="",
        detail={},
        result="ok",
    )


async def used(folder: Path, entries: int = 1) -> None:
    """One life of a bridge, which writes something down."""
    database = await Database.open(folder)
    for number in range(entries):
        await database.write(lambda connection, number=number: add(connection, entry(number)))  # type: ignore[misc]
    await database.close()


async def why(folder: Path) -> str | None:
    database = await Database.open(folder)
    await database.close()
    return database.identity.why


def removed(folder: Path) -> None:
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def removed_with_its_identity(folder: Path) -> None:
    removed(folder)
    (folder / FILE_NAME).unlink()


def emptied(folder: Path) -> None:
    removed(folder)
    (folder / FILES[0]).touch()


def truncated(folder: Path) -> None:
    os.truncate(folder / FILES[0], 0)


def without_identity(folder: Path) -> None:
    (folder / FILE_NAME).unlink()


def identity_rewritten(folder: Path) -> None:
    content = (folder / FILE_NAME).read_bytes()
    (folder / FILE_NAME).write_bytes(content)


def identity_damaged(folder: Path) -> None:
    (folder / FILE_NAME).write_bytes(b"\0\xff")


def copied(folder: Path) -> None:
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)


def put_back_over_itself(folder: Path) -> None:
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    for file in kept.iterdir():
        shutil.copyfile(file, folder / file.name)  # the same inodes
        shutil.copystat(file, folder / file.name)


def another_file_in_its_place(folder: Path) -> None:
    shutil.copy2(folder / FILES[0], folder / "copy")
    (folder / "copy").rename(folder / FILES[0])


@pytest.mark.parametrize(
    "change",
    [
        removed,
        removed_with_its_identity,
        emptied,
        truncated,
        without_identity,
        identity_rewritten,
        identity_damaged,
        copied,
        put_back_over_itself,
        another_file_in_its_place,
    ],
)
async def test_what_is_not_the_journal_from_before_is_accepted_by_a_person_only(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "data"
    await used(folder)
    change(folder)
    for _ in range(2):
        assert await why(folder)
    database = await Database.open(folder)
    await database.write(lambda connection: add(connection, entry(7)))
    await database.accept()
    assert database.identity.why is None
    await database.close()
    assert await why(folder) is None


async def test_an_older_copy_of_the_database_alone_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await used(folder)
    shutil.copyfile(folder / FILES[0], tmp_path / "backup")
    await used(folder)
    shutil.copyfile(tmp_path / "backup", folder / FILES[0])  # the same inode
    assert "older" in str(await why(folder))


async def test_a_moved_folder_is_seen(tmp_path: Path) -> None:
    await used(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert "moved" in str(await why(tmp_path / "elsewhere"))


async def test_a_new_one_and_one_that_goes_on_are_accepted(tmp_path: Path) -> None:
    for _ in range(3):
        assert await why(tmp_path / "data") is None
        await used(tmp_path / "data")
    assert (tmp_path / "data" / MARK_NAME).exists()
    assert (tmp_path / "data" / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("file_written", [False, True])
async def test_a_process_that_ends_while_it_gives_the_identity_is_no_loss(
    tmp_path: Path, file_written: bool
) -> None:
    assert await why(tmp_path) is None
    with sqlite3.connect(tmp_path / FILES[0]) as connection:
        connection.execute(
            "UPDATE meta SET value = json_remove(value, '$.file') WHERE name = 'journal_identity'"
        )
    connection.close()
    if not file_written:
        (tmp_path / FILE_NAME).unlink()
    assert await why(tmp_path) is None
    assert await why(tmp_path) is None


async def test_a_journal_of_a_release_without_identity_is_taken_over(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILES[0], isolation_level=None)
    for step in migrations.STEPS[:4]:
        connection.executescript(step)
    connection.execute("PRAGMA user_version = 4")
    connection.close()
    assert await why(tmp_path) is None
    await used(tmp_path)
    removed(tmp_path)
    assert await why(tmp_path)


async def test_one_file_holds_nearly_all_while_it_is_in_use(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "data")
    for number in range(300):
        await database.write(lambda connection, number=number: add(connection, entry(number)))  # type: ignore[misc]
    log = tmp_path / "data" / FILES[1]
    assert log.stat().st_size < 1_000_000

    def all_in_one() -> bool:
        shutil.copyfile(tmp_path / "data" / FILES[0], tmp_path / "one")
        with closing(sqlite3.connect(tmp_path / "one")) as copy, suppress(sqlite3.DatabaseError):
            return bool(copy.execute("SELECT count(*) FROM audit").fetchone()[0] == 300)
        return False  # copied in the middle of it

    await eventually(all_in_one, every=0.1)
    await database.close()


async def test_an_identity_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bridge.store.identity.replace_file", full)
    with pytest.raises(StoreError, match="No space"):
        await Database.open(tmp_path)
