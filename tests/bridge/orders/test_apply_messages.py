"""Which order a message is about, what it changes, and what of it is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.model import Execution, OpenOrder, Order, Unreadable
from bridge.orders import apply_messages as applying
from bridge.orders.apply_messages import (
    Applied,
    Message,
    MessageApplier,
    OrderErrorMessage,
    Own,
    about,
    apply_messages,
    apply_own,
)
from bridge.orders.lifecycle import ChangeSent, Sent
from bridge.store import migrations, orders, quarantine
from bridge.store.orders import OrderRecord, PendingChange
from tests.bridge.orders.samples import AAPL, at, commission, execution, open_order, record, status

CLIENT = 17
OURS = f"gw-{'a' * 24}-0"


@pytest.fixture
def journal() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrations.advance(connection)
    connection.execute("BEGIN")
    yield connection
    connection.close()


def keep(journal: sqlite3.Connection, **fields: Any) -> OrderRecord:
    kept = record(**fields)
    orders.insert(journal, kept)
    return kept


def take(journal: sqlite3.Connection, *messages: Message, seconds: float = 1) -> Applied:
    return apply_messages(journal, messages, CLIENT, at(seconds))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ({}, True),
        ({"perm_id": 0}, True),
        ({"perm_id": 0, "client_id": 18}, False),
        ({"perm_id": 0, "order_id": 8}, False),
        ({"order_id": 0}, True),
        ({"order_id": -1, "client_id": 0}, True),
        ({"order_id": 99, "client_id": 99}, True),
        ({"perm_id": 901}, False),  # numbers begun anew: another order
        ({"perm_id": 901, "order_id": 0}, False),
        ({"perm_id": 0, "order_id": 0}, False),
    ],
)
def test_which_order_a_status_is_about(
    journal: sqlite3.Connection, message: dict[str, Any], changes: bool
) -> None:
    keep(journal, perm_id=900)
    found = take(journal, status("Submitted", **message))
    assert set(found.orders) == ({"o7"} if changes else set())


def test_a_number_finds_an_order_that_has_no_permanent_id_yet(journal: sqlite3.Connection) -> None:
    keep(journal)
    found = take(journal, status("Submitted", perm_id=901))
    assert found.orders["o7"].perm_id == 901


def test_a_reference_outranks_every_number(journal: sqlite3.Connection) -> None:
    keep(journal, perm_id=900)
    order = Order(order_id=7, client_id=CLIENT, perm_id=900, quantity=10.0, order_ref="theirs")
    assert take(journal, open_order("Submitted", order)).orders == {}


@pytest.mark.parametrize(
    ("fields", "is_adopted"),
    [
        ({}, True),
        ({"order_ref": "theirs"}, False),
        ({"order_ref": ""}, False),
        ({"client_id": 18}, False),
        ({"order_id": 0}, False),
        ({"order_id": -1}, False),
    ],
)
def test_an_order_under_our_reference_is_adopted(
    journal: sqlite3.Connection, fields: dict[str, Any], is_adopted: bool
) -> None:
    terms: dict[str, Any] = {
        "order_id": 9, "client_id": CLIENT, "perm_id": 900, "quantity": 4.0, "order_ref": OURS,
    }  # fmt: skip
    order = Order(**(terms | fields))
    listed = OpenOrder(
        order_id=order.order_id, contract=AAPL, order=order, state=open_order("Submitted").state
    )
    found = take(journal, listed)
    assert (found.adopted, len(found.orders)) == ((1, 1) if is_adopted else (0, 0))
    again = take(journal, listed)
    assert again.adopted == 0
    assert len(orders.open_orders(journal)) == is_adopted
    if is_adopted:
        (kept,) = orders.open_orders(journal)
        kinds = [each.kind for each in orders.events_of(journal, kept.id)]
        assert kinds == ["Adopted", "Reported"]


@pytest.mark.parametrize(
    ("fields", "terms"),
    [
        ({"side": "BOT", "quantity": 3.0, "cumulative_quantity": 8.0}, ("BUY", 8.0)),
        ({"side": "SLD", "quantity": 3.0, "cumulative_quantity": 0.0}, ("SELL", 3.0)),
    ],
)
def test_what_a_fill_tells_of_its_order(
    journal: sqlite3.Connection, fields: dict[str, Any], terms: tuple[str, float]
) -> None:
    fill = execution(order_ref=OURS, order_id=9, **fields)
    found = take(journal, fill)
    (kept,) = found.orders.values()
    assert (kept.terms.action, kept.terms.quantity) == terms
    assert (kept.filled, kept.perm_id or kept.terms.perm_id) == (fill.quantity, 900)
    assert set(found.executions) == {fill.exec_id}
    assert take(journal, fill).executions == {}, "the same again is nothing new"


def test_an_execution_of_somebody_else_is_kept_alone(journal: sqlite3.Connection) -> None:
    fill = execution(order_ref="theirs", client_id=99, perm_id=5)
    found = take(journal, commission(), fill)
    assert (found.orders, set(found.executions)) == ({}, {fill.exec_id})
    assert found.executions[fill.exec_id].commission == 1.0
    paid_later = take(journal, commission(amount=2.0))
    assert paid_later.executions[fill.exec_id].commission == 2.0


def test_only_what_has_changed_is_written_to_an_orders_events(journal: sqlite3.Connection) -> None:
    before = keep(journal)
    take(journal, status("Submitted"), seconds=5)
    (event,) = orders.events_of(journal, before.id)
    assert event.kind == "StatusReported"
    assert {"status", "state"} <= set(event.detail)
    assert not {"updatedAt", "updated_at", "symbol", "terms", "account"} & set(event.detail)
    after = orders.get(journal, before.id)
    assert after is not None
    told = applying._difference(before, after)
    assert told == event.detail
    assert applying._difference(after, after) == {}
    take(journal, status("Submitted"), seconds=9)
    assert len(orders.events_of(journal, before.id)) == 1, "nothing new is no event"


@pytest.mark.parametrize(
    ("seconds", "has_terms", "looks"), [(50, True, True), (70, True, False), (50, False, False)]
)
def test_a_refusal_soon_after_a_change_is_looked_into(
    journal: sqlite3.Connection, seconds: float, has_terms: bool, looks: bool
) -> None:
    """It may be of the change, whose answer has come already: only the lists can tell."""
    kept = keep(journal, perm_id=900)
    take(journal, status("Submitted"), seconds=1)
    terms = kept.terms if has_terms else None
    change = PendingChange(at=at(2), terms=terms, fields=("limit_price",), notional=1000.0)
    apply_own(journal, [Own(kept.id, ChangeSent(at(2), change))], CLIENT, at(2))
    take(journal, open_order("Submitted", kept.terms), seconds=3)
    found = take(journal, OrderErrorMessage(7, 201, "no"), seconds=2 + seconds)
    assert found.look is looks


def test_of_an_order_that_nobody_knows_there_is_nothing_to_look_into(
    journal: sqlite3.Connection,
) -> None:
    found = take(journal, OrderErrorMessage(5, 201, "no"))
    assert (found.look, found.orders) == (False, {})


BROKEN = Unreadable(kind="execution", name="00000001.6553d8a1.01.01", cause="bad", content="...")


def test_what_is_set_aside_is_counted_and_mended_by_the_same_thing_whole(
    journal: sqlite3.Connection,
) -> None:
    assert MessageApplier(journal, CLIENT, at(1))._doubtful is False
    first = take(journal, BROKEN)
    assert ([each.name for each in first.set_aside], first.quarantined) == ([BROKEN.name], 1)
    assert MessageApplier(journal, CLIENT, at(1))._doubtful is True
    again = take(journal, BROKEN)
    assert (again.set_aside, again.quarantined) == ([], 1)
    other = take(journal, execution(2))
    assert other.quarantined is None, "as before"
    whole = take(journal, execution(1))
    assert whole.quarantined == quarantine.count(journal) == 0
    assert take(journal, execution(1)).quarantined is None


def test_one_that_cannot_be_kept_costs_none_of_the_others(
    journal: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(journal)
    real = MessageApplier._execution

    def failing(self: MessageApplier, message: Execution) -> None:
        if message.exec_id == execution(2).exec_id:
            raise ValueError("by the test")
        real(self, message)

    monkeypatch.setattr(MessageApplier, "_execution", failing)
    found = take(
        journal, status("Submitted"), execution(1, 4.0), execution(2, 1.0), execution(3, 2.0)
    )
    assert set(found.executions) == {execution(number).exec_id for number in (1, 3)}
    assert [each.cause for each in found.set_aside] == ["ValueError: by the test"]
    assert (found.orders["o7"].filled, found.quarantined) == (6.0, 1)
    with pytest.raises(ValueError, match="by the test"):
        apply_own(journal, [execution(2)], CLIENT, at(1))


def test_what_came_later_is_added() -> None:
    one, two = record(), record(broker_order_id=8)
    entry = quarantine.Entry(kind="k", name="n", cause="c", content="x", at=at(1))
    found = Applied({"a": one}, {}, [], quarantined=2, adopted=1)
    found.take(Applied({"a": two}, {}, [entry], adopted=2, look=True))
    assert (found.orders, found.set_aside) == ({"a": two}, [entry])
    assert (found.quarantined, found.adopted, found.look) == (2, 3, True)
    found.take(Applied({}, {}, [], quarantined=0))
    assert (found.quarantined, found.adopted, found.look) == (0, 3, True)
    assert Applied({}, {}, []).look is False


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (Own("o7", Sent(at(1))), ("own-sent", "o7")),
        (open_order("Submitted"), ("open-order", "gw-7")),
        (open_order("Submitted", Order(order_id=7)), ("open-order", "7")),
        (status("Submitted"), ("order-status", "7")),
        (OrderErrorMessage(7, 201, "no"), ("order-error", "7/201")),
        (execution(), ("execution", "00000001.6553d8a1.01.01")),
        (commission(), ("commission", "00000001.6553d8a1.01.01")),
        (BROKEN, ("execution", "00000001.6553d8a1.01.01")),
    ],
)
def test_what_a_message_is_about(message: Message, name: tuple[str, str]) -> None:
    assert about(message) == name


SAID: list[Message] = [
    Own("o7", Sent(at(1))),
    Own("o8", Sent(at(1))),
    *(
        message
        for number, perm_id in ((7, 900), (8, 901), (8, 900))
        for word in ("PreSubmitted", "Submitted", "Cancelled")
        for message in (
            status(word, order_id=number, perm_id=perm_id),
            open_order(
                word,
                Order(
                    order_id=number,
                    client_id=CLIENT,
                    perm_id=perm_id,
                    quantity=10.0,
                    limit_price=99.0,
                    order_ref=f"gw-{number}",
                ),
            ),
        )
    ),
    status("Submitted", perm_id=0),
    OrderErrorMessage(7, 201, "rejected"),
    OrderErrorMessage(8, 399, "held until the opening"),
    execution(1, 4.0),
    execution(2, 6.0, order_id=8, perm_id=901, order_ref=""),
    commission(1),
    open_order("Submitted", Order(order_id=9, client_id=CLIENT, quantity=4.0, order_ref=OURS)),
    status("Filled", 4.0, order_id=9, perm_id=902),
]


def rows(connection: sqlite3.Connection) -> list[Any]:
    ids = {row["id"]: f"order {row['sequence']}" for row in connection.execute(ORDERS)}
    return [
        [ids.get(value, value) for value in tuple(row)]
        for table in (ORDERS, "SELECT * FROM order_events", "SELECT * FROM executions")
        for row in connection.execute(table)
    ]


ORDERS = "SELECT * FROM orders ORDER BY sequence"


@settings(max_examples=60)
@given(st.lists(st.sampled_from(SAID), max_size=12))
def test_at_once_is_the_same_as_one_after_the_other(messages: list[Message]) -> None:
    found = []
    for portions in ([messages], [[message] for message in messages]):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.row_factory = sqlite3.Row
        migrations.advance(connection)
        connection.execute("BEGIN")
        for number in (7, 8):
            keep(connection, broker_order_id=number)
        for portion in portions:
            take(connection, *portion)
        found.append(rows(connection))
        connection.close()
    assert found[0] == found[1]


def test_an_order_is_read_and_written_once_for_all_that_is_said_of_it(
    journal: sqlite3.Connection,
) -> None:
    keep(journal, perm_id=900)
    said: list[str] = []
    journal.set_trace_callback(said.append)
    take(journal, *(status(word) for word in ("PreSubmitted", "Submitted", "Filled")))
    journal.set_trace_callback(None)
    assert sum(each.startswith("UPDATE orders") for each in said) == 1
    assert sum(each.startswith("SELECT * FROM orders") for each in said) == 1
