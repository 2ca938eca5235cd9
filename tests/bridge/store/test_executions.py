import random
import sqlite3
from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec import structs

from bridge.store import executions, migrations
from bridge.store.executions import Novelty, Query, split
from tests.bridge.orders.samples import at, commission, execution


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    opened.row_factory = sqlite3.Row
    migrations.advance(opened)
    yield opened
    opened.close()


def test_an_execution_comes_back_as_it_was(connection: sqlite3.Connection) -> None:
    assert executions.record(connection, execution(), "o7") is Novelty.NEW
    row = executions.by_exec_id(connection, execution().exec_id)
    assert row is not None
    assert (row.execution, row.order_id, row.commission) == (execution(), "o7", None)


def test_repeats_bring_nothing(connection: sqlite3.Connection) -> None:
    executions.record(connection, execution(), "o7")
    assert executions.record(connection, execution(), "o7") is Novelty.NOTHING
    assert executions.sum_of_order(connection, "o7", "STK") == (10.0, 99.5)


def test_a_correction_replaces_and_keeps_the_id(connection: sqlite3.Connection) -> None:
    executions.record(connection, execution(), "o7")
    corrected = execution(exec_id="00000001.6553d8a1.01.02", price=98.0)
    assert executions.record(connection, corrected, "o7") is Novelty.CORRECTED
    assert executions.record(connection, execution(), "o7") is Novelty.NOTHING
    (row,) = executions.of_order(connection, "o7")
    assert (row.exec_id, row.execution.price) == (execution().exec_id, 98.0)
    assert row.execution.exec_id == "00000001.6553d8a1.01.02"


@pytest.mark.parametrize("first", ["execution", "commission"])
def test_commissions_join_whenever_they_come(connection: sqlite3.Connection, first: str) -> None:
    if first == "execution":
        executions.record(connection, execution(), None)
        assert executions.record_commission(connection, commission(realized_pnl=5.0))
        assert executions.touch(connection, commission().exec_id)
    else:
        assert executions.record_commission(connection, commission(realized_pnl=5.0))
        assert not executions.touch(connection, commission().exec_id)
        executions.record(connection, execution(), None)
    (row,) = executions.by_time(connection, Query(), after=None, limit=5)
    assert (row.commission, row.commission_currency, row.realized_pnl) == (1.0, "USD", 5.0)
    assert not executions.record_commission(connection, commission(realized_pnl=5.0))


def test_an_older_commission_does_not_undo_a_correction(connection: sqlite3.Connection) -> None:
    newer = commission(amount=2.0, exec_id="00000001.6553d8a1.01.02")
    assert executions.record_commission(connection, newer)
    assert not executions.record_commission(connection, commission(amount=1.0))


def test_following_changes_shows_new_ones_late_commissions_and_corrections(
    connection: sqlite3.Connection,
) -> None:
    for number in (1, 2, 3):
        executions.record(connection, execution(number), None)
    seen = executions.newest_change(connection)
    executions.record_commission(connection, commission(1))
    executions.touch(connection, commission(1).exec_id)
    executions.record(connection, execution(4), None)
    changed = executions.by_change(connection, Query(), after=seen, limit=10)
    assert [row.exec_id for row in changed] == [execution(1).exec_id, execution(4).exec_id]
    assert changed[0].commission == 1.0
    assert executions.by_change(connection, Query(), after=changed[-1].change, limit=10) == []


def test_pages_meet_without_gap_or_overlap_at_equal_times(connection: sqlite3.Connection) -> None:
    numbers = list(range(1, 24))
    random.Random(3).shuffle(numbers)
    for number in numbers:
        executions.record(connection, execution(number, time=at(number // 5)), None)
    seen: list[str] = []
    after: tuple[int, int] | None = None
    while page := executions.by_time(connection, Query(), after=after, limit=4):
        seen += [row.exec_id for row in page]
        after = (int(page[-1].execution.time.timestamp() * 1000), page[-1].sequence)
    assert sorted(seen) == sorted(execution(number).exec_id for number in numbers)
    assert len(set(seen)) == 23


def test_filters(connection: sqlite3.Connection) -> None:
    for number in range(1, 6):
        executions.record(connection, execution(number), None)
    other = execution(9, account="DU7654321")
    other = structs.replace(other, contract=structs.replace(other.contract, symbol="MSFT"))
    executions.record(connection, other, None)

    def found(**fields: object) -> list[str]:
        rows = executions.by_time(connection, Query(**fields), after=None, limit=50)  # type: ignore[arg-type]
        return [row.exec_id[:8] for row in rows]

    assert found(symbol="MSFT") == ["00000009"]
    assert found(account="DU7654321") == ["00000009"]
    assert found(since=at(4)) == ["00000004", "00000005", "00000009"]
    assert found(until=at(3)) == ["00000001", "00000002"]
    assert found(since=at(4), until=at(4) + timedelta(seconds=1), symbol="AAPL") == ["00000004"]


def test_every_page_is_read_through_an_index(connection: sqlite3.Connection) -> None:
    plans: list[str] = []
    connection.set_trace_callback(plans.append)
    executions.by_time(connection, Query(since=at(0)), after=(1, 1), limit=5)
    executions.by_time(connection, Query(symbol="AAPL", since=at(0)), after=(1, 1), limit=5)
    executions.by_change(connection, Query(since=at(0), symbol="AAPL"), after=1, limit=5)
    connection.set_trace_callback(None)
    for statement in plans:
        steps = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert any("SEARCH executions USING INDEX" in step for step in steps), steps
        assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize(
    ("exec_id", "parts"),
    [
        ("0000e0d5.6596b0c2.01.01", ("0000e0d5.6596b0c2.01", 1)),
        ("0000e0d5.6596b0c2.01.12", ("0000e0d5.6596b0c2.01", 12)),
        ("plain", ("plain", 0)),
        ("two.parts", ("two.parts", 0)),
    ],
)
def test_ids_are_split_at_the_correction(exec_id: str, parts: tuple[str, int]) -> None:
    assert split(exec_id) == parts
