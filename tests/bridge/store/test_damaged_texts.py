"""A text that is no UTF-8 is damage of its row alone."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from bridge.store import DamagedRowError, Database, audit, rules
from bridge.store.audit import AuditEntry
from tests.bridge.orders.samples import NOON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TURNED = "CAST(x'61ff62' AS TEXT)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "data")
    yield opened
    await opened.close()


def entry(action: str) -> AuditEntry:
    return AuditEntry(
        at=NOON, api_key_id="k", request_id="r", action=action, target="", detail={}, result="ok"
    )


async def test_a_damaged_head_of_the_audit_log_stops_no_entry(database: Database) -> None:
    await database.write(lambda c: audit.add(c, entry("one")))

    def damage(connection: sqlite3.Connection) -> int:
        query = f"UPDATE meta SET value = {TURNED} WHERE name = 'audit_head'"
        return connection.execute(query).rowcount

    assert await database.write(damage) == 1
    added = await database.write(lambda c: audit.add(c, entry("two")))
    assert added.action == "two"
    assert (await database.write(lambda c: audit.add(c, entry("three")))).sequence


async def test_a_damaged_memory_of_a_rule_is_one_that_cannot_be_read(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        rules.remember(connection, "a", "AAPL", b'{"x":1}')
        rules.remember(connection, "b", "AAPL", b"{}")
        rules.save_close(connection, "c1", b"{}", ended=False)
        rules.save_close(connection, "c2", b"{}", ended=False)
        connection.execute(f"UPDATE rule_memories SET content = {TURNED} WHERE rule = 'a'")
        connection.execute(f"UPDATE rule_closes SET content = {TURNED} WHERE id = 'c1'")

    await database.write(make)
    found = await database.read(lambda c: (rules.memories(c), rules.open_closes(c)))
    assert found == ({("a", "AAPL"): "", ("b", "AAPL"): "{}"}, ["", "{}"])


async def test_who_takes_a_row_apart_hears_of_it(database: Database) -> None:
    """Not only who asks for a column by its name."""

    def make(connection: sqlite3.Connection) -> None:
        rules.remember(connection, "a", "AAPL", b"{}")
        connection.execute(f"UPDATE rule_memories SET content = {TURNED}")

    def taken_apart(connection: sqlite3.Connection) -> str:
        rule, content = connection.execute("SELECT rule, content FROM rule_memories").fetchone()
        return f"{rule} {content}"

    await database.write(make)
    with pytest.raises(DamagedRowError):
        await database.read(taken_apart)
