"""The orders' journal: what was intended, what the broker said, where each order is now.

Of the statuses `PendingSubmit`, `PreSubmitted`, `Submitted`, `PendingCancel`, `Filled`, `Cancelled`
and `Inactive` are the broker's words. `Rejected` is the broker's `Inactive` (or silence) after an
error that ends the order; `NotSent` and `Unknown` are the bridge's own. The steps of each order's
life (`OrderEvent`) are only ever added to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import msgspec

from bridge.model import Contract, Order
from bridge.quantity import exact
from bridge.store.rows import (
    compact,
    detail,
    from_milliseconds,
    optional_from_milliseconds,
    readable,
    to_milliseconds,
    wanted,
)


class Status(StrEnum):
    """Where an order is."""

    PENDING_SUBMIT = "PendingSubmit"
    PRE_SUBMITTED = "PreSubmitted"
    SUBMITTED = "Submitted"
    PENDING_CANCEL = "PendingCancel"
    INACTIVE = "Inactive"
    FILLED = "Filled"
    CANCELLED = "Cancelled"
    REJECTED = "Rejected"
    NOT_SENT = "NotSent"
    UNKNOWN = "Unknown"


class State(StrEnum):
    """How much of an order's way the journal is sure of."""

    INTENTION = "intention"  # written down, perhaps not sent
    SENT = "sent"  # on the wire, no answer yet
    ACKNOWLEDGED = "acknowledged"  # the broker knows it
    UNKNOWN = "unknown"  # it may or may not have reached the broker
    TERMINAL = "terminal"  # nothing more will happen


ENDED: Final = frozenset({Status.FILLED, Status.CANCELLED, Status.REJECTED, Status.NOT_SENT})
WORKING: Final = frozenset({Status.PRE_SUBMITTED, Status.SUBMITTED})
INTENTION: Final = "Intention"
"""The first step of an order that the bridge has made."""
CLOSES: Final = "closes"
"""In that step: somebody had it sized to close a position, which binds it instead of limits."""
OPEN_STATES: Final = (State.INTENTION, State.SENT, State.ACKNOWLEDGED, State.UNKNOWN)

_BROKER_WORDS: Final = {
    "apipending": Status.PENDING_SUBMIT,
    "pendingsubmit": Status.PENDING_SUBMIT,
    "presubmitted": Status.PRE_SUBMITTED,
    "submitted": Status.SUBMITTED,
    "pendingcancel": Status.PENDING_CANCEL,
    "apicancelled": Status.CANCELLED,
    "cancelled": Status.CANCELLED,
    "filled": Status.FILLED,
    "inactive": Status.INACTIVE,
}


def from_broker(word: str) -> Status | None:
    """The status behind a broker's word; None for a word nobody has documented."""
    return _BROKER_WORDS.get(word.strip().lower())


class PendingChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A change that the broker has not answered yet; no terms: a cancel.

    `fields` are the members of `terms` that were asked for, by this change and by those before it
    that were not answered yet; the others are as the broker had them. `notional` is the order's
    money with the change, `added` what the change reserved of the day's.
    """

    at: datetime
    terms: Order | None = None
    fields: tuple[str, ...] = ()
    notional: float = 0.0
    added: float = 0.0


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One order (one leg of a bracket).

    `terms` is the order as the broker is believed to hold it.
    """

    id: str
    order_ref: str
    key_digest: str
    role: str
    group_id: str
    parent_id: str | None
    api_key_id: str
    account: str
    symbol: str
    contract: Contract
    terms: Order
    client_id: int
    broker_order_id: int
    notional: float
    created_at: datetime
    updated_at: datetime
    state: State = State.INTENTION
    status: Status = Status.PENDING_SUBMIT
    pending: PendingChange | None = None
    perm_id: int = 0
    filled: float = 0.0
    average_price: float | None = None
    reject_code: int | None = None
    reject_text: str | None = None
    warning: str | None = None
    sent_at: datetime | None = None
    acknowledged_at: datetime | None = None
    ended_at: datetime | None = None
    label: str = ""
    """The client's own word for what it belongs to; the broker never sees it."""

    @property
    def open(self) -> bool:
        """Whether more may happen to it, as far as anyone knows."""
        return self.state != State.TERMINAL

    @property
    def remaining(self) -> float:
        """What is still to be filled."""
        return max(0.0, exact(self.terms.quantity - self.filled))


class DayTotals(msgspec.Struct, frozen=True):
    """What was ordered since the start of a day."""

    orders: int
    notional: float


_COLUMNS: Final = OrderRecord.__struct_fields__
_INSERT: Final = (
    f"INSERT INTO orders ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
)
_FIXED: Final = ("id", "order_ref", "created_at")
_CHANGING: Final = tuple(name for name in _COLUMNS if name not in _FIXED)
_MOMENTS: Final = ("created_at", "updated_at", "sent_at", "acknowledged_at", "ended_at")
_STRUCTS: Final = ("contract", "terms", "pending")
_HIGHEST_NUMBER: Final = """
WITH RECURSIVE clients(id) AS (
    SELECT min(client_id) FROM orders
    UNION ALL
    SELECT (SELECT min(client_id) FROM orders WHERE client_id > clients.id) FROM clients
    WHERE clients.id IS NOT NULL
)
SELECT max((SELECT max(broker_order_id) FROM orders WHERE client_id = clients.id))
FROM clients WHERE id IS NOT NULL
"""
"""The highest of each client id, which the index knows at once, instead of a look at all orders."""
_TOTALS: Final = """
SELECT count(*), coalesce(sum(notional), 0),
    (SELECT coalesce(sum(order_money.added), 0) FROM order_money
     JOIN orders AS older ON older.id = order_money.order_id
     WHERE order_money.at >= ? AND older.created_at < ?)
FROM orders WHERE created_at >= ? AND status != 'NotSent'
"""
_OPEN: Final = ", ".join(f"'{state}'" for state in OPEN_STATES)


def insert(connection: sqlite3.Connection, record: OrderRecord) -> None:
    """Adds a new order; an id or orderRef that is there already raises sqlite3.IntegrityError."""
    connection.execute(_INSERT, [_column(record, name) for name in _COLUMNS])


def save(
    connection: sqlite3.Connection, record: OrderRecord, before: OrderRecord | None = None
) -> None:
    """Brings an order's row up to date; `before` is what the row holds, as it was read just now."""
    names = tuple(
        name
        for name in _CHANGING
        if before is None or getattr(record, name) != getattr(before, name)
    )
    if names:
        values = [_column(record, name) for name in names]
        connection.execute(_update(names), [*values, record.id])


@lru_cache(maxsize=256)
def _update(names: tuple[str, ...]) -> str:
    return f"UPDATE orders SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"  # noqa: S608


def get(connection: sqlite3.Connection, order_id: str) -> OrderRecord | None:
    """The order with this id."""
    return _one(connection.execute("SELECT * FROM orders WHERE id = ?", (order_id,)))


def by_key(connection: sqlite3.Connection, key_digest: str) -> list[OrderRecord]:
    """Every order that was made under this idempotency key, oldest first."""
    return _every(
        connection.execute(
            "SELECT * FROM orders WHERE key_digest = ? ORDER BY sequence", (key_digest,)
        )
    )


def give_key(connection: sqlite3.Connection, beginning: str, key_digest: str) -> int:
    """Gives adopted orders their key back, of which only the beginning was known; how many."""
    given = connection.execute(
        "UPDATE orders SET key_digest = ? WHERE key_digest = ?", (key_digest, beginning)
    )
    return given.rowcount


def by_group(connection: sqlite3.Connection, group_id: str) -> list[OrderRecord]:
    """The orders of one group, in the order in which they were made."""
    return _every(
        connection.execute("SELECT * FROM orders WHERE group_id = ? ORDER BY sequence", (group_id,))
    )


def by_ref(connection: sqlite3.Connection, order_ref: str) -> OrderRecord | None:
    """The order whose reference the broker carries."""
    return _one(connection.execute("SELECT * FROM orders WHERE order_ref = ?", (order_ref,)))


def by_perm_id(connection: sqlite3.Connection, perm_id: int) -> OrderRecord | None:
    """The newest order with the broker's permanent id."""
    return _one(
        connection.execute(
            "SELECT * FROM orders WHERE perm_id = ? ORDER BY sequence DESC LIMIT 1", (perm_id,)
        )
    )


def by_broker_order(
    connection: sqlite3.Connection, client_id: int, broker_order_id: int
) -> OrderRecord | None:
    """The newest order that was sent under this number (the broker may start its count again)."""
    return _one(
        connection.execute(
            "SELECT * FROM orders WHERE client_id = ? AND broker_order_id = ?"
            " ORDER BY sequence DESC LIMIT 1",
            (client_id, broker_order_id),
        )
    )


def open_orders(connection: sqlite3.Connection) -> list[OrderRecord]:
    """Every order that is not over, oldest first; those whose fate is unknown too."""
    return _many(
        connection.execute(f"SELECT * FROM orders WHERE state IN ({_OPEN}) ORDER BY sequence")  # noqa: S608
    )


def open_in_groups(
    connection: sqlite3.Connection, names: Collection[str]
) -> tuple[OrderRecord, ...]:
    """The orders of these OCA groups that are not over."""
    if not names:
        return ()
    return tuple(each for each in open_orders(connection) if each.terms.oca_group in names)


def unanswered(connection: sqlite3.Connection) -> list[OrderRecord]:
    """The open orders for which, or for a change of which, the broker's answer has not come."""
    return _many(
        connection.execute(
            f"SELECT * FROM orders WHERE state IN ({_OPEN})"  # noqa: S608
            " AND (state IN (?, ?) OR pending IS NOT NULL) ORDER BY sequence",
            (State.INTENTION, State.SENT),
        )
    )


def count_open(connection: sqlite3.Connection) -> int:
    """How many orders are not over."""
    query = f"SELECT count(*) FROM orders WHERE state IN ({_OPEN})"  # noqa: S608
    return int(connection.execute(query).fetchone()[0])


def count_of_key(connection: sqlite3.Connection, api_key_id: str, since: datetime) -> int:
    """How many orders came with this key since then, without those certainly not sent."""
    row = connection.execute(
        "SELECT COUNT(*) FROM orders WHERE created_at >= ? AND api_key_id = ?"
        " AND status != 'NotSent'",
        (to_milliseconds(since), api_key_id),
    ).fetchone()
    return int(row[0])


def totals_since(connection: sqlite3.Connection, moment: datetime) -> DayTotals:
    """What was ordered from `moment` on, orders that were certainly not sent left out.

    What changes have added since then to older orders counts, too.
    """
    since = to_milliseconds(moment)
    row = connection.execute(_TOTALS, (since, since, since)).fetchone()
    return DayTotals(int(row[0]), float(row[1]) + float(row[2]))


def add_money(connection: sqlite3.Connection, order_id: str, at: datetime, added: float) -> None:
    """Notes that a change has made an order worth more (or, when it was not sent, less again)."""
    connection.execute(
        "INSERT INTO order_money (order_id, at, added) VALUES (?, ?, ?)",
        (order_id, to_milliseconds(at), added),
    )


def highest_broker_order_id(connection: sqlite3.Connection) -> int:
    """The highest number that was ever given to an order, whatever the client id; 0: none was."""
    row = connection.execute(_HIGHEST_NUMBER).fetchone()
    return int(row[0] or 0)


def highest_acknowledged(connection: sqlite3.Connection, client_id: int, after_row: int) -> int:
    """The highest number the broker has acknowledged of the orders behind this row; 0: none."""
    row = connection.execute(
        "SELECT max(broker_order_id) FROM orders"
        " WHERE +client_id = ? AND sequence > ? AND acknowledged_at IS NOT NULL",
        (client_id, after_row),
    ).fetchone()
    return int(row[0] or 0)


def newest_row(connection: sqlite3.Connection) -> int:
    """Where the journal of orders ends; 0 while it is empty."""
    return int(connection.execute("SELECT coalesce(max(sequence), 0) FROM orders").fetchone()[0])


def row_of(connection: sqlite3.Connection, order_id: str) -> int:
    """Where an order stands in the journal; rows only ever rise. 0 for an unknown id."""
    row = connection.execute("SELECT sequence FROM orders WHERE id = ?", (order_id,)).fetchone()
    return 0 if row is None else int(row[0])


def page(
    connection: sqlite3.Connection, *, only_open: bool, before: int | None, limit: int
) -> tuple[list[OrderRecord], int | None]:
    """The newest orders first, and the cursor of the next page (None: there is none)."""
    where = [f"state IN ({_OPEN})"] if only_open else []
    values: list[Any] = []
    if before is not None:
        where.append("sequence < ?")
        values.append(before)
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    rows = connection.execute(
        f"SELECT * FROM orders {condition} ORDER BY sequence DESC LIMIT ?",  # noqa: S608
        (*values, limit + 1),
    ).fetchall()
    cursor = int(rows[limit - 1]["sequence"]) if len(rows) > limit else None
    return _many(rows[:limit]), cursor


def _column(record: OrderRecord, name: str) -> Any:
    value = getattr(record, name)
    if value is None:
        return None
    if name in _STRUCTS:
        return compact(value)
    return to_milliseconds(value) if name in _MOMENTS else value


def _record(row: sqlite3.Row) -> OrderRecord:
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    values["contract"] = msgspec.json.decode(values["contract"], type=Contract)
    values["terms"] = msgspec.json.decode(values["terms"], type=Order)
    if values["pending"] is not None:
        values["pending"] = msgspec.json.decode(values["pending"], type=PendingChange)
    for name in ("created_at", "updated_at"):
        values[name] = from_milliseconds(values[name])
    for name in ("sent_at", "acknowledged_at", "ended_at"):
        values[name] = optional_from_milliseconds(values[name])
    values["state"] = State(values["state"])
    values["status"] = Status(values["status"])
    return OrderRecord(**values)


def _one(rows: sqlite3.Cursor) -> OrderRecord | None:
    row = rows.fetchone()
    return None if row is None else wanted("orders", row, _record)


def _many(rows: Iterable[sqlite3.Row]) -> list[OrderRecord]:
    return list(readable("orders", rows, _record))


def _every(rows: Iterable[sqlite3.Row]) -> list[OrderRecord]:
    """Where leaving one out would mean that it was never made."""
    return [wanted("orders", row, _record) for row in rows]


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One step: `kind` is a stable word, `detail` what was said."""

    sequence: int
    at: datetime
    kind: str
    detail: dict[str, Any]


def add_event(
    connection: sqlite3.Connection, order_id: str, at: datetime, kind: str, detail: dict[str, Any]
) -> None:
    """Appends a step."""
    connection.execute(
        "INSERT INTO order_events (order_id, at, kind, detail) VALUES (?, ?, ?, ?)",
        (order_id, to_milliseconds(at), kind, msgspec.json.encode(detail).decode()),
    )


def events_of(connection: sqlite3.Connection, order_id: str) -> list[OrderEvent]:
    """Every step of one order, oldest first."""
    rows = connection.execute(
        "SELECT * FROM order_events WHERE order_id = ? ORDER BY sequence", (order_id,)
    )
    return list(readable("order_events", rows, _event))


def was_sized_to_close(connection: sqlite3.Connection, order_id: str) -> bool:
    """Whether the order was written down as one that only closes what is held."""
    rows = connection.execute(
        "SELECT * FROM order_events WHERE order_id = ? AND kind = ? LIMIT 1", (order_id, INTENTION)
    )
    return any(each.detail.get(CLOSES) for each in readable("order_events", rows, _event))


def had_event_since(
    connection: sqlite3.Connection, order_id: str, kind: str, said: str, since: datetime
) -> bool:
    """Whether the order has had such a step since then, with this in its detail."""
    found = connection.execute(
        "SELECT 1 FROM order_events WHERE order_id = ? AND kind = ? AND at >= ?"
        " AND instr(detail, ?) LIMIT 1",
        (order_id, kind, to_milliseconds(since), said),
    )
    return found.fetchone() is not None


def _event(row: sqlite3.Row) -> OrderEvent:
    return OrderEvent(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        kind=row["kind"],
        detail=detail(row["detail"]),
    )
