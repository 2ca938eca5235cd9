import csv
import io
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from bridge.model import Execution
from bridge.orders.executions import BadCursorError, ExecutionService, as_csv
from bridge.store import Database, executions
from bridge.store.executions import Query
from tests.bridge.orders.samples import at, commission, execution


def _record(fill: Execution, connection: sqlite3.Connection) -> None:
    executions.record(connection, fill, "o7")


async def _filled(tmp_path: Path, count: int) -> tuple[Database, ExecutionService]:
    database = await Database.open(tmp_path)
    for number in range(1, count + 1):
        fill = execution(number)
        await database.write(partial(_record, fill))
    return database, ExecutionService(database)


async def test_pages_lead_to_one_another_and_then_to_what_changes(tmp_path: Path) -> None:
    database, service = await _filled(tmp_path, 5)
    seen: list[str] = []
    cursor = ""
    while True:
        page = await service.page(Query(), cursor, 2)
        seen += [each.exec_id for each in page.executions]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == [execution(number).exec_id for number in range(1, 6)]

    later = await service.page(Query(), page.changes_cursor, 2)
    assert (later.executions, later.next_cursor) == ((), None)

    def late(connection: sqlite3.Connection) -> None:
        for number in (1, 3, 4):
            executions.record_commission(connection, commission(number))
            executions.touch(connection, commission(number).exec_id)

    await database.write(late)
    first = await service.page(Query(), page.changes_cursor, 2)
    assert [each.commission for each in first.executions] == [1.0, 1.0]
    assert first.next_cursor is not None
    rest = await service.page(Query(), first.next_cursor, 2)
    assert [each.exec_id for each in rest.executions] == [execution(4).exec_id]
    assert rest.next_cursor is None
    assert (await service.page(Query(), rest.changes_cursor, 2)).executions == ()
    await database.close()


async def test_what_changes_between_two_pages_comes_after_the_last(tmp_path: Path) -> None:
    database, service = await _filled(tmp_path, 5)
    page = await service.page(Query(), "", 2)

    def late(connection: sqlite3.Connection) -> None:
        executions.record_commission(connection, commission(1))
        executions.touch(connection, commission(1).exec_id)

    await database.write(late)
    while page.next_cursor is not None:
        page = await service.page(Query(), page.next_cursor, 2)
    later = await service.page(Query(), page.changes_cursor, 2)
    assert [each.exec_id for each in later.executions] == [execution(1).exec_id]
    assert later.executions[0].commission == 1.0
    await database.close()


async def test_a_cursor_of_another_journal_is_refused(tmp_path: Path) -> None:
    database, service = await _filled(tmp_path, 3)
    page = await service.page(Query(), "", 10)
    assert (await service.page(Query(), page.changes_cursor, 10)).executions == ()
    later = f"c-{int(page.changes_cursor[2:]) + 1}"  # of before the backup was put back
    with pytest.raises(BadCursorError) as refused:
        await service.page(Query(), later, 10)
    assert "from no cursor on" in refused.value.next_step
    await database.close()


@pytest.mark.parametrize(
    "cursor", ["x", "t-1", "t-a-b", "c-", "t-1-2-3-4", "t-1-2-", "c-٣", "t-" + "9" * 40 + "-1"]
)
async def test_made_up_cursors_are_refused(tmp_path: Path, cursor: str) -> None:
    database, service = await _filled(tmp_path, 1)
    with pytest.raises(BadCursorError):
        await service.page(Query(), cursor, 5)
    await database.close()


async def test_csv_says_the_same_and_runs_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    database, service = await _filled(tmp_path, 2)
    evil = execution(3, order_ref="=HYPERLINK(1)", side="SLD", time=at(3.5))
    await database.write(lambda connection: executions.record(connection, evil, None))
    page = await service.page(Query(), "", 10)
    rows = list(csv.DictReader(io.StringIO(as_csv(page.executions))))
    assert [row["execId"] for row in rows] == [each.exec_id for each in page.executions]
    assert rows[2]["orderRef"] == "'=HYPERLINK(1)"
    assert (rows[2]["side"], rows[2]["commission"], rows[2]["time"]) == (
        "SELL",
        "",
        "2026-02-13T17:00:03.500000Z",
    )
    await database.close()
