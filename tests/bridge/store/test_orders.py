import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from bridge.model import Order
from bridge.store import audit, idempotency, migrations, orders
from bridge.store.audit import AuditEntry
from bridge.store.orders import PendingChange, State, Status
from tests.bridge.orders.samples import NOON, at, record


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    opened.row_factory = sqlite3.Row
    opened.execute("PRAGMA foreign_keys = ON")
    migrations.advance(opened)
    yield opened
    opened.close()


def test_an_order_comes_back_as_it_was_and_as_it_became(connection: sqlite3.Connection) -> None:
    first = record()
    orders.insert(connection, first)
    assert orders.get(connection, first.id) == first
    later = structs.replace(
        first,
        state=State.TERMINAL,
        status=Status.REJECTED,
        pending=PendingChange(at=at(1), terms=Order(limit_price=1.0)),
        perm_id=900,
        filled=2.5,
        average_price=99.25,
        reject_code=201,
        reject_text="no",
        warning="careful",
        sent_at=at(1),
        acknowledged_at=at(2),
        ended_at=at(3),
        updated_at=at(3),
    )
    orders.save(connection, later)
    assert orders.get(connection, first.id) == later
    assert orders.by_ref(connection, first.order_ref) == later
    assert orders.by_perm_id(connection, 900) == later
    assert orders.by_key(connection, first.key_digest) == [later]
    assert orders.by_group(connection, first.group_id) == [later]


def test_a_reference_is_never_given_twice(connection: sqlite3.Connection) -> None:
    orders.insert(connection, record())
    with pytest.raises(sqlite3.IntegrityError):
        orders.insert(connection, record(id="other"))


def test_the_newest_order_owns_a_number_that_the_broker_used_again(
    connection: sqlite3.Connection,
) -> None:
    orders.insert(connection, record(id="old", order_ref="gw-old"))
    orders.insert(connection, record(id="new", order_ref="gw-new"))
    found = orders.by_broker_order(connection, 17, 7)
    assert found is not None
    assert found.id == "new"
    assert orders.by_broker_order(connection, 18, 7) is None
    assert orders.highest_broker_order_id(connection) == 7


def test_totals_leave_out_what_was_not_sent_and_what_is_older(
    connection: sqlite3.Connection,
) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"status": Status.NOT_SENT, "state": State.TERMINAL},
        {"created_at": at(-60)},
    ]
    for number, changes in enumerate(variants):
        orders.insert(connection, record(broker_order_id=number, notional=500.0, **changes))
    assert orders.totals_since(connection, NOON) == orders.DayTotals(1, 500.0)
    assert orders.count_open(connection) == 2
    assert [each.broker_order_id for each in orders.open_orders(connection)] == [0, 2]


def test_unanswered_are_orders_and_changes_of_which_the_broker_has_said_nothing(
    connection: sqlite3.Connection,
) -> None:
    change = PendingChange(at=NOON)
    for state in State:
        for pending in (None, change):
            name = f"{state}{'' if pending is None else '-changed'}"
            orders.insert(connection, record(id=name, order_ref=name, state=state, pending=pending))
    assert {each.id for each in orders.unanswered(connection)} == {
        "intention", "intention-changed", "sent", "sent-changed",
        "acknowledged-changed", "unknown-changed",
    }  # fmt: skip


def test_pages_go_back_in_time(connection: sqlite3.Connection) -> None:
    for number in range(1, 8):
        state = State.TERMINAL if number % 2 else State.ACKNOWLEDGED
        orders.insert(connection, record(broker_order_id=number, state=state))
    seen: list[int] = []
    before: int | None = None
    while True:
        page, before = orders.page(connection, only_open=False, before=before, limit=3)
        seen += [each.broker_order_id for each in page]
        if before is None:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert len(orders.page(connection, only_open=True, before=None, limit=9)[0]) == 3


def test_a_key_is_claimed_once_and_answered_once(connection: sqlite3.Connection) -> None:
    assert idempotency.claim(connection, "k", "body", NOON)
    assert not idempotency.claim(connection, "k", "other", NOON)
    assert idempotency.answer(connection, "k", b"{}", NOON, accepted=True)
    assert not idempotency.answer(connection, "k", b"late", NOON, accepted=False)
    known = idempotency.get(connection, "k")
    assert known is not None
    assert (known.body_digest, known.accepted, known.answer) == ("body", True, b"{}")
    assert not idempotency.release(connection, "k")


def test_an_unanswered_key_can_be_given_back(connection: sqlite3.Connection) -> None:
    idempotency.claim(connection, "k", "body", NOON)
    assert idempotency.release(connection, "k")
    assert idempotency.get(connection, "k") is None
    assert idempotency.claim(connection, "k", "other", NOON)


def test_the_life_of_an_order_is_kept(connection: sqlite3.Connection) -> None:
    orders.insert(connection, record())
    orders.add_event(connection, "o7", at(1), "sent", {})
    orders.add_event(connection, "o7", at(2), "status", {"status": "Submitted"})
    kinds = [(event.at, event.kind) for event in orders.events_of(connection, "o7")]
    assert kinds == [(at(1), "sent"), (at(2), "status")]
    with pytest.raises(sqlite3.IntegrityError):
        orders.add_event(connection, "nobody", at(1), "sent", {})


def _entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=at(number),
        api_key_id="phone",
        request_id=f"r{number}",
        action="order.place",
        target=f"o{number}",
        detail={"symbol": "AAPL"},
        result="ok",
    )


def test_the_audit_log_only_grows(connection: sqlite3.Connection) -> None:
    for number in range(5):
        audit.add(connection, _entry(number))
    page, before = audit.page(connection, before=None, limit=3)
    rest, end = audit.page(connection, before=before, limit=3)
    assert [entry.request_id for entry in page + rest] == ["r4", "r3", "r2", "r1", "r0"]
    assert end is None
    assert structs.replace(page[0], sequence=0, chain="") == _entry(4)
    for statement in ("DELETE FROM audit", "UPDATE audit SET result = 'ok'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


def _verified(connection: sqlite3.Connection, limit: int = 2) -> audit.Verification:
    link = audit.Link()
    while not link.done:
        link = audit.follow(connection, link, limit)
    return audit.verification(link)


def _tampered(connection: sqlite3.Connection, statement: str) -> audit.Verification:
    """What a verification finds after somebody with the file in his hands has changed it."""
    connection.execute("SAVEPOINT before")
    connection.execute("DROP TRIGGER audit_keeps_what_it_has")
    connection.execute("DROP TRIGGER audit_loses_nothing")
    connection.execute(statement)
    found = _verified(connection)
    connection.execute("ROLLBACK TO before")
    return found


@pytest.mark.parametrize(
    ("statement", "at_number"),
    [
        ("DELETE FROM audit WHERE sequence = 1", 2),
        ("DELETE FROM audit WHERE sequence = 3", 4),
        ("DELETE FROM audit WHERE sequence = 5", 5),
        ("DELETE FROM audit", 5),
        ("UPDATE audit SET result = 'refused' WHERE sequence = 2", 2),
        ("UPDATE audit SET at = at + 1 WHERE sequence = 4", 4),
        ("UPDATE audit SET chain = '' WHERE sequence = 5", 5),
        ("INSERT INTO audit SELECT 9, at, api_key_id, '', action, target, detail, result, 'x'"
         " FROM audit WHERE sequence = 5", 9),
    ],
)  # fmt: skip
def test_an_audit_log_that_somebody_edited_shows_it(
    connection: sqlite3.Connection, statement: str, at_number: int
) -> None:
    entries = [audit.add(connection, _entry(number)) for number in range(5)]
    whole = _verified(connection)
    assert (whole.intact, whole.entries, whole.head) == (True, 5, entries[-1].chain)
    found = _tampered(connection, statement)
    assert (found.intact, found.broken_at) == (False, at_number)
    assert _verified(connection).intact


def test_a_removed_end_shows_after_further_entries_too(connection: sqlite3.Connection) -> None:
    for number in range(3):
        audit.add(connection, _entry(number))
    connection.execute("DROP TRIGGER audit_loses_nothing")
    connection.execute("DELETE FROM audit WHERE sequence = 3")
    audit.add(connection, _entry(7))
    found = _verified(connection)
    assert (found.intact, found.broken_at) == (False, 4)


def test_entries_of_a_release_without_a_chain_are_covered(connection: sqlite3.Connection) -> None:
    old = (
        "INSERT INTO audit (at, api_key_id, request_id, action, target, detail, result)"
        " VALUES (1, 'phone', 'r', 'order.place', 'o', '{}', 'ok')"
    )
    connection.execute(old)
    connection.execute(old)
    audit.add(connection, _entry(1))
    connection.execute(old)  # rolled back to the older bridge for a while
    audit.add(connection, _entry(2))
    assert _verified(connection).intact
    for number in (1, 2, 4):
        assert not _tampered(connection, f"DELETE FROM audit WHERE sequence = {number}").intact
