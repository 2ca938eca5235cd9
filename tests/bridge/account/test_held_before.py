"""What an earlier process knew to be held, and a fresh login may not list yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from bridge.account.held_before import HeldBefore, HeldJournal
from bridge.account.service import AccountService
from bridge.model import Position
from bridge.store import Database, StoreError, settings
from bridge.tws.connection_state import ConnectionState
from tests.bridge.account.test_service import Setting, holding, sold

APPLE = ("DU1", 7)
WHEN = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = await Database.open(tmp_path)
    yield made
    await made.close()


class Process(Setting):
    """The account's part of one bridge's life, over a journal that outlives it."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        held = HeldJournal(database, self.clock)
        self.service = AccountService(self.gateway, self.clock, held=held)  # type: ignore[arg-type]

    async def begin(self, *held: Position) -> None:
        await self.service.start()
        self.gateway.held = held
        await self.service.begin()

    def is_confirmed(self) -> bool:
        return self.service.is_confirmed(APPLE)


async def _held_before(database: Database, *held: Position) -> None:
    process = Process(database)
    await process.begin(*held)
    await process.service.stop()


async def _begun_anew(database: Database, *held: Position) -> Process:
    process = Process(database)
    await process.begin(*held)
    return process


async def _kept(database: Database) -> dict[tuple[str, int], float]:
    return {
        each.name: each.quantity for each in await HeldJournal(database, Setting().clock).load()
    }


async def test_it_may_come_yet_until_the_login_has_settled(database: Database) -> None:
    await _held_before(database, holding("DU1", "A", 3))
    process = Process(database)
    await process.service.start()
    process.clock.advance(900)  # a login may take as long as its second factor does
    assert not process.is_confirmed()
    await process.service.begin()
    process.clock.advance(49)
    assert not process.is_confirmed()
    assert process.service.is_confirmed(("DU1", 8))
    assert [each.symbol for each in (await process.service.positions()).unconfirmed] == ["A"]
    assert (await process.service.positions("DU2")).unconfirmed == ()
    process.clock.advance(1)
    assert process.is_confirmed()
    await process.service.stop()


async def test_listed_it_is_as_any(database: Database) -> None:
    await _held_before(database, holding("DU1", "A", 3))
    process = await _begun_anew(database)
    before = process.service.positions_changed
    process.gateway.events.position.emit(holding("DU1", "A", 5))
    assert process.is_confirmed()
    assert process.service.positions_changed > before
    await process.service.stop()
    assert await _kept(database) == {APPLE: 5}


async def test_closed_while_the_bridge_was_away_it_holds_nothing_up_again(
    database: Database,
) -> None:
    await _held_before(database, holding("DU1", "A", 3))
    process = await _begun_anew(database)
    assert await _kept(database) == {APPLE: 3}
    await asyncio.sleep(0)
    before = process.service.positions_changed
    await process.clock.wind(51)  # by itself, so that who follows the stream is told
    assert process.service.positions_changed > before
    assert process.service.positions_now().unconfirmed == ()
    await process.service.stop()
    assert await _kept(database) == {}
    assert (await _begun_anew(database)).is_confirmed()


async def test_fills_of_before_are_told_again_and_explain_nothing(database: Database) -> None:
    await _held_before(database, holding("DU1", "A", 3))
    process = await _begun_anew(database)
    process.gateway.events.execution.emit(sold("1", 3))
    for _ in range(3):
        process.clock.advance(2)
        await process.service.positions()
    assert not process.is_confirmed()
    await process.service.stop()


async def test_a_connection_that_is_lost_before_its_login_has_settled_settles_nothing(
    database: Database,
) -> None:
    await _held_before(database, holding("DU1", "A", 3))
    process = await _begun_anew(database)
    process.clock.advance(5)
    process.gateway.become(ConnectionState.RECONNECTING)
    process.clock.advance(600)
    process.gateway.become(ConnectionState.READY)
    await process.service.begin()
    assert not process.is_confirmed()
    await process.service.stop()
    assert await _kept(database) == {APPLE: 3}


async def test_other_logins_accounts_wait_for_a_list_of_theirs(database: Database) -> None:
    await _held_before(database, holding("DU1", "A", 3))
    process = Process(database)
    process.gateway.accounts = ("DU5",)
    await process.begin(holding("DU5", "B", 1))
    assert process.service.late() == ()
    assert process.service.positions_now().unconfirmed == ()
    await process.clock.wind(51)
    await process.service.stop()
    assert await _kept(database) == {APPLE: 3, ("DU5", 7): 1}
    process = await _begun_anew(database)
    assert [each.name for each in process.service.late()] == [APPLE]
    await process.service.stop()


async def test_what_cannot_be_read_keeps_no_bridge_from_starting(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for damaged in (b"[{]", b'[{"account": 5}]', b"\xff"):
        await database.write(partial(settings.put, name="account.held", value=damaged, at=WHEN))
        assert (await _begun_anew(database)).is_confirmed()

    async def refused(_: object) -> None:
        raise StoreError("the disk is broken")

    monkeypatch.setattr(database, "read", refused)
    assert (await _begun_anew(database)).is_confirmed()


async def test_what_could_not_be_written_is_with_the_next_list(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    process = Process(database)
    with monkeypatch.context() as full:
        full.setattr(database, "write", refused)
        await process.begin(holding("DU1", "A", 3))
        await asyncio.sleep(0)
    assert await _kept(database) == {}
    process.clock.advance(2)
    await process.service.positions()
    await process.service.stop()
    assert await _kept(database) == {APPLE: 3}


async def test_the_newest_is_kept_and_one_at_a_time(database: Database) -> None:
    journal = HeldJournal(database, Setting().clock)
    for quantity in range(1, 50):
        journal.keep(
            [HeldBefore(account="DU1", con_id=7, symbol="A", sec_type="STK", quantity=quantity)]
        )
    await journal.stop()
    assert await _kept(database) == {APPLE: 49}
