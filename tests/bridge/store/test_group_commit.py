"""Writes that wait together are one transaction, each of them whole or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from bridge.store import Database, StoreBehindError, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "data")
    yield opened
    await opened.close()


def put(connection: sqlite3.Connection, name: str) -> str:
    connection.execute("INSERT INTO settings VALUES (?, x'00', 0)", (name,))
    return name


def names(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM settings ORDER BY name")]


class Held:
    """A write under way that ends when it is let go; what comes meanwhile waits together."""

    def __init__(self, database: Database) -> None:
        self._go = threading.Event()
        self._begun = threading.Event()
        self._database = database
        self.transactions: list[str] = []

    async def __aenter__(self) -> Held:
        def work(connection: sqlite3.Connection) -> None:
            self._begun.set()
            assert self._go.wait(30)
            connection.set_trace_callback(self._traced)

        self._task = asyncio.create_task(self._database.write(work))
        await asyncio.to_thread(self._begun.wait, 30)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.let_go()
        await self._task

    def let_go(self) -> None:
        self._go.set()

    def _traced(self, statement: str) -> None:
        if statement.startswith(("BEGIN", "COMMIT")):
            self.transactions.append(statement)


async def test_what_waits_together_is_one_transaction(database: Database) -> None:
    async with Held(database) as held:
        tasks = [
            asyncio.create_task(database.write(lambda c, name=name: put(c, name)))  # type: ignore[misc]
            for name in "abcdefgh"
        ]
        await asyncio.sleep(0)
        held.let_go()
        assert await asyncio.gather(*tasks) == list("abcdefgh")
    assert held.transactions == ["COMMIT", "BEGIN IMMEDIATE", "COMMIT"]
    assert await database.read(names) == list("abcdefgh")


async def test_one_that_fails_takes_back_its_own_and_nothing_else(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        put(connection, "half")
        raise ValueError("no")

    def twice(connection: sqlite3.Connection) -> None:
        put(connection, "before")  # is there already

    async with Held(database):
        tasks = [
            asyncio.create_task(database.write(work))
            for work in (lambda c: put(c, "before"), half, twice, lambda c: put(c, "after"))
        ]
        await asyncio.sleep(0)
    before, failed, refused, after = await asyncio.gather(*tasks, return_exceptions=True)
    assert (before, after) == ("before", "after")
    assert isinstance(failed, ValueError)
    assert isinstance(refused, sqlite3.IntegrityError)
    assert await database.read(names) == ["after", "before"]


async def test_what_takes_the_whole_transaction_back_fails_them_all(database: Database) -> None:
    async with Held(database):
        small = asyncio.create_task(database.write(lambda c: put(c, "small")))
        await asyncio.sleep(0)

        def lost(connection: sqlite3.Connection) -> None:
            put(connection, "big")
            connection.execute("ROLLBACK")  # as SQLite does by itself for some errors
            raise sqlite3.OperationalError("disk I/O error")

        big = asyncio.create_task(database.write(lost))
        await asyncio.sleep(0)
    found = await asyncio.gather(small, big, return_exceptions=True)
    assert all(isinstance(each, sqlite3.OperationalError) for each in found)
    assert await database.read(names) == []


async def test_one_sync_is_enough_for_all_and_none_for_what_may_be_lost(
    database: Database,
) -> None:
    levels: list[int] = []

    def level(connection: sqlite3.Connection) -> None:
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    async with Held(database):
        mixed = [
            asyncio.create_task(database.write(level, durable=False)),
            asyncio.create_task(database.write(level)),
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*mixed)
    assert levels == [2, 2]
    await database.write(level, durable=False)
    assert levels[-1] == 1


async def test_who_has_given_up_is_not_written_with_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Held(database):
        monkeypatch.setattr("bridge.store.database._PATIENCE", 0.05)
        gone = asyncio.create_task(database.write(lambda c: put(c, "gone")))
        with pytest.raises(StoreBehindError):
            await gone
        monkeypatch.setattr("bridge.store.database._PATIENCE", 8.0)
        other = asyncio.create_task(database.write(lambda c: put(c, "other")))
        await asyncio.sleep(0)
    assert await other == "other"
    assert await database.read(names) == ["other"]


async def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    tasks = [
        asyncio.create_task(database.write(lambda c, number=number: put(c, f"{number:03}")))  # type: ignore[misc]
        for number in range(200)
    ]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*tasks)
    again = await Database.open(tmp_path)
    assert len(await again.read(names)) == 200
    await again.close()
    with pytest.raises(RuntimeError, match="closed"):
        await again.write(names)


async def test_trouble_of_the_disk_is_told_to_each(database: Database) -> None:
    async with Held(database):
        database._writer.execute("PRAGMA max_page_count = 1")
        big = [
            asyncio.create_task(
                database.write(
                    lambda c, name=name: c.execute(  # type: ignore[misc]
                        "INSERT INTO settings VALUES (?, zeroblob(1000000), 0)", (name,)
                    )
                )
            )
            for name in "xy"
        ]
        await asyncio.sleep(0)
    for each in await asyncio.gather(*big, return_exceptions=True):
        assert isinstance(each, StoreError)
        assert "space" in each.next_step
