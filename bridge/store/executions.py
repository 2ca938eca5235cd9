"""Every fill, once. Whatever the broker repeats, corrects or sends late ends in the same row.

`exec_id` is the first id that was seen and never changes, so clients can upsert by it. `change` is
a counter over the whole table that a row gets anew whenever something about it changes: following
it shows new executions as well as late commissions and corrections.

A correction of an execution comes as another execution whose id differs only after the last dot
(`0000e0d5.6596b0c2.01.01` becomes `....02`): what comes before is the execution's own name.
Commissions come before their execution, with it, or long after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from bridge.model import CommissionReport, Contract, Execution
from bridge.store.rows import compact, from_milliseconds, readable, to_milliseconds, wanted


def split(exec_id: str) -> tuple[str, int]:
    """The stem, which all corrections share, and the number of the correction."""
    stem, dot, revision = exec_id.rpartition(".")
    if not dot or stem.count(".") < 2 or not revision.isdigit():
        return exec_id, 0
    return stem, int(revision)


class Novelty(StrEnum):
    """What an execution message brought."""

    NEW = "new"
    CORRECTED = "corrected"
    NOTHING = "nothing"


class ExecutionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One execution with its commission, as it is known now; no commission yet: None."""

    sequence: int
    change: int
    execution: Execution
    exec_id: str
    order_id: str | None
    commission: float | None
    commission_currency: str | None
    realized_pnl: float | None


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions: `since` <= time < `until`; empty texts mean any."""

    since: datetime | None = None
    until: datetime | None = None
    symbol: str = ""
    account: str = ""


_SELECT: Final = (
    "SELECT executions.*, commissions.commission, commissions.currency AS commission_currency,"
    " commissions.realized_pnl FROM executions LEFT JOIN commissions USING (stem)"
)
_COLUMNS: Final = (
    "exec_id, stem, broker_exec_id, revision, change, at, account, symbol, sec_type, con_id, side,"
    " quantity, price, currency, order_id, broker_order_id, client_id, perm_id, order_ref, detail"
)
_UNDATED: Final = '"timeKnown":false'
"""In the detail of a fill whose time could not be read; repeated with one that can, it is dated."""
_MARKS: Final = ", ".join("?" * 20)
_INSERT: Final = f"INSERT INTO executions ({_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608


def record(connection: sqlite3.Connection, execution: Execution, order_id: str | None) -> Novelty:
    """Keeps an execution of the order `order_id` (None: not one of the bridge's)."""
    stem, revision = split(execution.exec_id)
    known = connection.execute(
        "SELECT sequence, exec_id, revision, instr(detail, ?) = 0 AS dated FROM executions"
        " WHERE stem = ?",
        (_UNDATED, stem),
    ).fetchone()
    dated = known is not None and not known["dated"] and execution.time_known
    if known is not None and (
        known["revision"] > revision or (known["revision"] == revision and not dated)
    ):
        return Novelty.NOTHING
    if known is not None:
        connection.execute(
            "UPDATE executions SET broker_exec_id = ?, revision = ?, change = ?,"
            " at = coalesce(?, at), quantity = ?, price = ?, detail = ? WHERE sequence = ?",
            (
                execution.exec_id,
                revision,
                _next_change(connection),
                to_milliseconds(execution.time) if dated else None,
                execution.quantity,
                execution.price,
                compact(execution),
                known["sequence"],
            ),
        )
        return Novelty.CORRECTED
    connection.execute(_INSERT, _values(connection, execution, stem, revision, order_id))
    return Novelty.NEW


def _values(
    connection: sqlite3.Connection,
    execution: Execution,
    stem: str,
    revision: int,
    order_id: str | None,
) -> tuple[Any, ...]:
    contract = execution.contract
    return (
        execution.exec_id,
        stem,
        execution.exec_id,
        revision,
        _next_change(connection),
        to_milliseconds(execution.time),
        execution.account,
        contract.symbol,
        contract.sec_type,
        contract.con_id,
        execution.side,
        execution.quantity,
        execution.price,
        contract.currency,
        order_id,
        execution.order_id,
        execution.client_id,
        execution.perm_id,
        execution.order_ref,
        compact(execution),
    )


def touch(connection: sqlite3.Connection, exec_id: str) -> bool:
    """Marks an execution as changed (its commission came); False when it is not there yet."""
    stem, _ = split(exec_id)
    touched = connection.execute(
        "UPDATE executions SET change = ? WHERE stem = ?", (_next_change(connection), stem)
    )
    return touched.rowcount == 1


def by_exec_id(connection: sqlite3.Connection, exec_id: str) -> ExecutionRow | None:
    """The execution behind any of its ids, corrections' too."""
    stem, _ = split(exec_id)
    row = connection.execute(f"{_SELECT} WHERE stem = ?", (stem,)).fetchone()
    return None if row is None else wanted("executions", row, _execution)


def known(connection: sqlite3.Connection, exec_ids: Iterable[str]) -> tuple[str, ...]:
    """Those executions of these, whichever correction is named, that are there: their own ids."""
    stems = sorted({split(each)[0] for each in exec_ids})
    rows = connection.execute(
        "SELECT exec_id FROM executions WHERE stem IN (SELECT value FROM json_each(?))"
        " ORDER BY sequence",
        (msgspec.json.encode(stems).decode(),),
    )
    return tuple(row["exec_id"] for row in rows)


def of_order(connection: sqlite3.Connection, order_id: str) -> list[ExecutionRow]:
    """The executions of one order, in the order in which they came."""
    rows = connection.execute(f"{_SELECT} WHERE order_id = ? ORDER BY sequence", (order_id,))
    return list(readable("executions", rows, _execution))


def of_nobodys(connection: sqlite3.Connection, perm_id: int) -> list[ExecutionRow]:
    """The executions of one order that is none of the bridge's, in the order in which they came."""
    rows = connection.execute(
        f"{_SELECT} WHERE perm_id = ? AND order_id IS NULL ORDER BY sequence", (perm_id,)
    )
    return list(readable("executions", rows, _execution))


def balance(connection: sqlite3.Connection, account: str, contract: Contract) -> float:
    """What was bought of a contract less what was sold, as far as the journal has it."""
    row = connection.execute(
        "SELECT total(CASE side WHEN 'BOT' THEN quantity ELSE -quantity END) FROM executions"
        " WHERE symbol = ? AND +account = ? AND con_id = ?",
        (contract.symbol, account, contract.con_id),
    ).fetchone()
    return float(row[0])


def sum_of_order(
    connection: sqlite3.Connection, order_id: str, sec_type: str
) -> tuple[float, float]:
    """Quantity and average price of an order's executions; (0, 0) when there are none.

    `sec_type` is the kind that was ordered: the legs of a combination are filled beside it, and are
    no more of it.
    """
    row = connection.execute(
        "SELECT coalesce(sum(quantity), 0), coalesce(sum(quantity * price), 0)"
        " FROM executions WHERE order_id = ? AND (? <> 'BAG' OR sec_type = 'BAG')",
        (order_id, sec_type),
    ).fetchone()
    quantity, money = float(row[0]), float(row[1])
    return quantity, money / quantity if quantity else 0.0


def by_time(
    connection: sqlite3.Connection, query: Query, *, after: tuple[int, int] | None, limit: int
) -> list[ExecutionRow]:
    """Oldest first, from behind `after` (time in milliseconds, sequence) on."""
    where, values = _conditions(query)
    if after is not None:
        where.append("(executions.at, executions.sequence) > (?, ?)")
        values.extend(after)
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    order = " ORDER BY executions.at, executions.sequence LIMIT ?"
    rows = connection.execute(f"{_SELECT}{condition}{order}", (*values, limit))
    return list(readable("executions", rows, _execution))


def of_contracts(connection: sqlite3.Connection, con_ids: list[int]) -> list[tuple[Execution, str]]:
    """The executions in these contracts, the oldest first, each with the label of its order."""
    marks = ", ".join("?" * len(con_ids))
    rows = connection.execute(
        f"{_SELECT} WHERE executions.con_id IN ({marks})"
        " ORDER BY executions.at, executions.sequence",
        con_ids,
    )
    found = [(row.execution, row.order_id) for row in readable("executions", rows, _execution)]
    labels = _labels(connection, {order_id for _, order_id in found if order_id is not None})
    return [(execution, labels.get(order_id or "", "")) for execution, order_id in found]


def _labels(connection: sqlite3.Connection, order_ids: set[str]) -> dict[str, str]:
    """Of those orders that have one."""
    rows = connection.execute(
        "SELECT id, label FROM orders WHERE label != '' AND id IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(sorted(order_ids)).decode(),),
    )
    return {row["id"]: row["label"] for row in rows}


def by_change(
    connection: sqlite3.Connection, query: Query, *, after: int, limit: int
) -> list[ExecutionRow]:
    """What has come or changed since the change `after`, in the order in which it did."""
    where, values = _conditions(query)
    condition = " AND ".join([*(f"+{each}" for each in where), "executions.change > ?"])
    rows = connection.execute(
        f"{_SELECT} WHERE {condition} ORDER BY executions.change LIMIT ?", (*values, after, limit)
    )
    return list(readable("executions", rows, _execution))


def newest_change(connection: sqlite3.Connection) -> int:
    """The counter's present value."""
    return int(connection.execute("SELECT coalesce(max(change), 0) FROM executions").fetchone()[0])


def _next_change(connection: sqlite3.Connection) -> int:
    return newest_change(connection) + 1


def _conditions(query: Query) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    if query.since is not None:
        where.append("executions.at >= ?")
        values.append(to_milliseconds(query.since))
    if query.until is not None:
        where.append("executions.at < ?")
        values.append(to_milliseconds(query.until))
    if query.symbol:
        where.append("executions.symbol = ?")
        values.append(query.symbol)
    if query.account:
        where.append("executions.account = ?")
        values.append(query.account)
    return where, values


def _execution(row: sqlite3.Row) -> ExecutionRow:
    detail = _detail(row)
    return ExecutionRow(
        sequence=row["sequence"],
        change=row["change"],
        execution=msgspec.structs.replace(detail, time=from_milliseconds(row["at"])),
        exec_id=row["exec_id"],
        order_id=row["order_id"],
        commission=row["commission"],
        commission_currency=row["commission_currency"],
        realized_pnl=row["realized_pnl"],
    )


def _detail(row: sqlite3.Row) -> Execution:
    """The execution as it was told; where that is damaged, what its columns hold."""
    try:
        return msgspec.json.decode(row["detail"], type=Execution)
    except msgspec.MsgspecError:
        return Execution(
            exec_id=row["broker_exec_id"],
            time=from_milliseconds(row["at"]),
            contract=Contract(
                con_id=row["con_id"],
                symbol=row["symbol"],
                sec_type=row["sec_type"],
                exchange="",
                currency=row["currency"],
            ),
            account=row["account"],
            side=row["side"],
            quantity=row["quantity"],
            price=row["price"],
            perm_id=row["perm_id"],
            client_id=row["client_id"],
            order_id=row["broker_order_id"],
            order_ref=row["order_ref"],
        )


def with_commission(connection: sqlite3.Connection, exec_ids: Iterable[str]) -> set[str]:
    """Those of these ids whose report is kept, or that of a later correction."""
    named = {each: split(each) for each in exec_ids}
    rows = connection.execute(
        "SELECT stem, revision FROM commissions WHERE stem IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(sorted({stem for stem, _ in named.values()})).decode(),),
    )
    kept = {row["stem"]: row["revision"] for row in rows}
    return {each for each, (stem, revision) in named.items() if revision <= kept.get(stem, -1)}


def record_commission(connection: sqlite3.Connection, report: CommissionReport) -> bool:
    """Keeps a report; False when it says nothing new. The newest correction wins."""
    stem, revision = split(report.exec_id)
    values = (revision, report.commission, report.currency, report.realized_pnl)
    known = connection.execute(
        "SELECT revision, commission, currency, realized_pnl FROM commissions WHERE stem = ?",
        (stem,),
    ).fetchone()
    if known is not None and (known["revision"] > revision or tuple(known) == values):
        return False
    connection.execute("INSERT OR REPLACE INTO commissions VALUES (?, ?, ?, ?, ?)", (stem, *values))
    return True
