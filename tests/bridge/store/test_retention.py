"""Old orders leave the journal for files, whole; nothing is lost, and nothing is sent again."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bridge.model import Contract
from bridge.store import Database, executions, idempotency, orders, retention
from bridge.store.identity import sync
from bridge.store.orders import State, Status
from bridge.store.retention import AT_ONCE, FOLDER, Retention
from tests.bridge.orders.samples import AAPL, NOON, commission, execution, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEEP = timedelta(days=730)
OLD = NOON - timedelta(days=800)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "data")
    yield opened
    await opened.close()


def add(
    connection: sqlite3.Connection,
    number: int,
    at: Any = OLD,
    contract: Contract = AAPL,
    **changes: Any,
) -> None:
    """An order that was filled at that time, with its key, steps, execution and commission."""
    ended = {"state": State.TERMINAL, "status": Status.FILLED, "ended_at": at}
    made = record(
        **{"broker_order_id": number, "key_digest": f"{number:064}", "created_at": at}
        | ended
        | changes
    )
    idempotency.claim(connection, made.key_digest, "b" * 64, at)
    idempotency.answer(connection, made.key_digest, b'{"orderId":"x"}', at, accepted=True)
    orders.insert(connection, made)
    orders.add_event(connection, made.id, at, "Intention", {})
    orders.add_event(connection, made.id, at, "Filled", {"filled": 10})
    orders.add_money(connection, made.id, at, 5.0)
    fill = execution(number, time=at, contract=contract)
    executions.record(connection, fill, made.id)
    executions.record_commission(connection, commission(number))


def counted(connection: sqlite3.Connection) -> dict[str, int]:
    tables = ["orders", "order_events", "order_money", "idempotency", "executions", "commissions"]
    return {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
    }


def lines(database: Database) -> list[dict[str, Any]]:
    files = sorted((database.path.parent / FOLDER).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


async def two(database: Database) -> None:
    """An order that is to be moved, and the newest, which stays."""
    await database.write(lambda c: add(c, 1))
    await database.write(lambda c: add(c, 2, NOON))


async def moved(database: Database) -> int:
    retention, count = Retention(database, KEEP), 0
    while found := await retention.move(NOON):
        count += found
    return count


async def test_an_old_order_is_in_a_file_with_all_that_belongs_to_it(database: Database) -> None:
    await database.write(lambda c: add(c, 1))
    await database.write(lambda c: add(c, 2, NOON - timedelta(days=1)))
    before = await database.read(counted)
    assert await moved(database) == 1
    (line,) = lines(database)
    assert line["order"]["id"] == "o1"
    assert [each["kind"] for each in line["events"]] == ["Intention", "Filled"]
    (filled,) = line["executions"]
    assert filled["execution"]["exec_id"] == execution(1).exec_id
    assert filled["commission"]["commission"] == 1.0
    assert line["money"][0]["added"] == 5.0
    assert json.loads(line["key"]["answer"]) == {"orderId": "x"}
    after = await database.read(counted)
    assert after == {table: count // 2 for table, count in before.items()} | {"idempotency": 2}
    file = next((database.path.parent / FOLDER).iterdir())
    assert file.name == f"orders-{OLD:%Y-%m}.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_key_keeps_its_answer_while_an_order_of_it_is_left(database: Database) -> None:
    """The first attempt was not sent, the second works still: a repetition is that one's."""

    def make(connection: sqlite3.Connection) -> None:
        add(connection, 1, key_digest="k" * 64, status=Status.NOT_SENT)
        add(connection, 2, NOON, key_digest="k" * 64)
        add(connection, 3, NOON)

    await database.write(make)
    assert await moved(database) == 1
    known = await database.read(lambda c: idempotency.get(c, "k" * 64))
    assert known is not None
    assert known.answer == b'{"orderId":"x"}'


@pytest.mark.parametrize(
    ("table", "column"),
    [("executions", "stem"), ("orders", "group_id"), ("orders", "key_digest")],
)
async def test_what_cannot_be_found_by_its_name_stays_and_holds_nothing_up(
    database: Database, table: str, column: str
) -> None:
    """Written into the files again and again, it would fill the disk."""

    def make(connection: sqlite3.Connection) -> None:
        for number in (1, 2):
            add(connection, number)
        add(connection, 3, NOON)
        nobodys = execution(77, time=OLD, contract=AAPL)
        executions.record(connection, nobodys, None)
        name = nobodys.exec_id.rpartition(".")[0] if table == "executions" else "o1"
        key = "stem" if table == "executions" else "id"
        connection.execute(
            f"UPDATE {table} SET {column} = CAST(x'61ff62' AS TEXT) WHERE {key} = ?", (name,)
        )
        assert connection.execute("SELECT changes()").fetchone()[0] == 1

    await database.write(make)
    retention = Retention(database, KEEP)
    async with asyncio.timeout(30):
        while await retention.move(NOON):
            pass
    before = sum(len(file.read_bytes()) for file in (database.path.parent / FOLDER).glob("*"))
    assert await retention.move(NOON) == 0
    after = sum(len(file.read_bytes()) for file in (database.path.parent / FOLDER).glob("*"))
    assert after == before
    assert await database.read(lambda c: orders.get(c, "o2")) is None


async def test_its_key_stays_taken(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        add(connection, 1)
        add(connection, 2, NOON)

    await database.write(make)
    await moved(database)
    assert not await database.write(lambda c: idempotency.claim(c, f"{1:064}", "b" * 64, NOON))
    known = await database.read(lambda c: idempotency.get(c, f"{1:064}"))
    assert known is not None
    assert known.accepted is True


@pytest.mark.parametrize(
    "changes",
    [
        {"state": State.UNKNOWN, "ended_at": None},
        {"state": State.ACKNOWLEDGED, "ended_at": None},
        {"ended_at": NOON - timedelta(days=700)},
    ],
)
async def test_what_has_not_ended_long_ago_stays(
    database: Database, changes: dict[str, Any]
) -> None:
    def make(connection: sqlite3.Connection) -> None:
        add(connection, 1, **changes)
        add(connection, 2, NOON)

    await database.write(make)
    assert await moved(database) == 0


async def test_a_bracket_goes_as_a_whole_or_not_at_all(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        add(connection, 1, group_id="o1")
        add(connection, 2, group_id="o1", state=State.ACKNOWLEDGED, ended_at=None)
        add(connection, 3, NOON)

    await database.write(make)
    assert await moved(database) == 0
    await database.write(
        lambda c: (
            c.execute(
                "UPDATE orders SET state = 'terminal', ended_at = created_at WHERE id = 'o2'"
            ).rowcount
        )
    )
    assert await moved(database) == 2


async def test_the_newest_of_what_is_counted_stays_however_old(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        add(connection, 9)
        add(connection, 1)

    await database.write(make)
    numbers = await database.read(orders.highest_broker_order_id)
    change = await database.read(executions.newest_change)
    await moved(database)
    assert await database.read(orders.highest_broker_order_id) == numbers == 9
    assert await database.read(executions.newest_change) == change


async def test_executions_of_nobodys_go_too(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        executions.record(connection, execution(1, time=OLD), None)
        executions.record(connection, execution(2, time=NOON), None)

    await database.write(make)
    assert await moved(database) == 1
    assert lines(database)[0]["execution"]["exec_id"] == execution(1).exec_id


def spread(connection: sqlite3.Connection, number: int, bought: str, **changes: Any) -> None:
    """An old order of two options: it buys one and sells the other, or the other way round."""
    ours = changes.pop("ours", True)
    if ours:
        add(connection, number, contract=Contract(symbol="SPY", sec_type="BAG"))
    sides = (bought, "SLD" if bought == "BOT" else "BOT")
    listed: dict[str, Any] = {"symbol": "SPY", "sec_type": "OPT", "expiration": "20270115"}
    for con_id, side in enumerate(sides, start=1):
        fill = execution(
            1_000 * number + con_id,
            time=OLD,
            contract=Contract(con_id=con_id, **listed | changes),
            side=side,
            perm_id=900 + number,
        )
        executions.record(connection, fill, f"o{number}" if ours else None)


@pytest.mark.parametrize(
    ("changes", "closed", "gone"),
    [({}, False, 0), ({"ours": False}, False, 0), ({}, True, 2),
     ({"expiration": "20260212"}, False, 0), ({"expiration": "20260211"}, False, 1),
     ({"expiration": "202602"}, False, 0), ({"expiration": "202601"}, False, 1),
     ({"expiration": ""}, False, 0), ({"ours": False, "expiration": "202601"}, False, 2)],
)  # fmt: skip
async def test_what_was_opened_as_one_stays_as_long_as_it_is_held(
    database: Database, changes: dict[str, Any], closed: bool, gone: int
) -> None:
    """Without its executions each leg would be taken for a position of its own."""

    def make(connection: sqlite3.Connection) -> None:
        spread(connection, 1, "BOT", **changes)
        if closed:
            spread(connection, 2, "SLD", **changes)
        add(connection, 9, NOON)

    await database.write(make)
    assert await moved(database) == gone


async def test_what_stays_is_in_nothings_way(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        for number in range(1, AT_ONCE + 2):
            spread(connection, number, "BOT")
        for number in range(AT_ONCE + 2, AT_ONCE + 5):
            add(connection, number)

    await database.write(make)
    assert await moved(database) == 2


async def test_what_is_old_is_found_without_sorting_all_that_there_is(database: Database) -> None:
    """Thousands may stay; only as many are read as are moved."""
    values = {"before": 1, "newest": 1, "highest": 1, "change": 1}
    for query in (retention._OLD_ORDERS, retention._OLD_EXECUTIONS):
        plan = await database.read(
            lambda c: [row[3] for row in c.execute(f"EXPLAIN QUERY PLAN {query}", values)]  # noqa: B023
        )
        assert not [step for step in plan if step.startswith(("SCAN", "USE TEMP"))], plan


async def test_many_go_a_few_at_a_time(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        for number in range(1, 2 * AT_ONCE + 7):
            add(connection, number)

    await database.write(make)
    assert await Retention(database, KEEP).move(NOON) == AT_ONCE
    await moved(database)
    assert len({line["order"]["id"] for line in lines(database)}) == 2 * AT_ONCE + 5


async def test_a_crash_between_file_and_journal_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(connection: sqlite3.Connection) -> None:
        add(connection, 1)
        add(connection, 2, NOON)

    await database.write(make)
    with monkeypatch.context() as patch:
        patch.setattr("bridge.store.retention._take_out", _killed)
        with pytest.raises(RuntimeError):
            await Retention(database, KEEP).move(NOON)
    assert (await database.read(counted))["orders"] == 2
    await moved(database)
    assert [line["order"]["id"] for line in lines(database)] == ["o1", "o1"]
    assert (await database.read(counted))["orders"] == 1


async def test_a_disk_that_takes_only_a_part_is_asked_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write to a disk that is nearly full takes what there is room for, and says so."""
    await two(database)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:100]))
    assert await moved(database) == 1
    assert [line["order"]["id"] for line in lines(database)] == ["o1"]


async def test_a_disk_that_fills_up_within_a_line_leaves_the_file_as_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two(database)
    write = os.write

    def full(file: int, data: Any) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(data)[: len(data) - 99])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            await moved(database)
    assert (await database.read(counted))["orders"] == 2
    assert lines(database) == []
    await moved(database)
    assert [line["order"]["id"] for line in lines(database)] == ["o1"]


async def test_half_a_line_of_a_killed_process_spoils_no_other(database: Database) -> None:
    await two(database)
    folder = database.path.parent / FOLDER
    folder.mkdir()
    file = folder / f"orders-{OLD:%Y-%m}.jsonl"
    file.write_text('{"order": {"id": "o')
    await moved(database)
    left, whole = file.read_text().splitlines()
    assert left == '{"order": {"id": "o'
    assert json.loads(whole)["order"]["id"] == "o1"


async def test_the_files_name_is_on_the_disk_before_anything_is_taken_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file without its name in the folder is lost in a power cut."""
    await two(database)
    folder, synced = database.path.parent / FOLDER, list[tuple[Path, int]]()

    def seen(path: Path) -> None:
        with closing(sqlite3.connect(database.path)) as connection:
            synced.append((path, counted(connection)["orders"]))
        sync(path)

    monkeypatch.setattr("bridge.store.retention.sync", seen)
    await moved(database)
    assert synced[:2] == [(folder, 2), (folder.parent, 2)]


async def test_without_a_file_nothing_is_taken_out(database: Database) -> None:
    def make(connection: sqlite3.Connection) -> None:
        add(connection, 1)
        add(connection, 2, NOON)

    await database.write(make)
    (database.path.parent / FOLDER).write_text("in the way")
    with pytest.raises(OSError, match=r"exists|directory"):
        await Retention(database, KEEP).move(NOON)
    assert (await database.read(counted))["orders"] == 2


async def test_it_goes_on_day_by_day(database: Database) -> None:
    class Days:
        def __init__(self) -> None:
            self.slept: list[float] = []

        def now(self) -> Any:
            return NOON

        async def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.sleep(0)

    await database.write(lambda c: add(c, 1))
    await database.write(lambda c: add(c, 2, NOON))
    clock = Days()
    task = asyncio.create_task(Retention(database, KEEP).run(clock))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        while clock.slept.count(86_400.0) < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    assert clock.slept[:3] == [300.0, 1.0, 86_400.0]


async def test_nothing_is_moved_by_a_clock_that_is_not_known_to_be_right(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, slept, moves = False, list[float](), list[int]()
    retention = Retention(database, KEEP, lambda: right)

    class Days:
        def now(self) -> Any:
            return NOON

        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(0)

    async def move(_: Any) -> int:
        moves.append(1)
        return 0

    monkeypatch.setattr(retention, "move", move)
    task = asyncio.create_task(retention.run(Days()))  # type: ignore[arg-type]
    for _ in range(10):
        await asyncio.sleep(0)
    assert (moves, set(slept[1:])) == ([], {3600.0})
    right = True
    async with asyncio.timeout(30):
        while not moves:
            await asyncio.sleep(0)
    task.cancel()


async def test_it_goes_on_after_what_nobody_has_thought_of(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention, moves, slept = Retention(database, KEEP), list[int](), list[float]()

    async def move(_: Any) -> int:
        moves.append(1)
        raise RuntimeError("by the test")

    class Days:
        def now(self) -> Any:
            return NOON

        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(0)

    monkeypatch.setattr(retention, "move", move)
    task = asyncio.create_task(retention.run(Days()))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        while len(moves) < 3:
            await asyncio.sleep(0)
    task.cancel()
    assert slept[:3] == [300.0, 86_400.0, 86_400.0]


def _killed(*_: Any) -> None:
    raise RuntimeError("killed")
