"""Reading executions: pages by time, and following what changes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from msgspec import Struct

from bridge.errors import InvalidRequestError
from bridge.orders.views import contract_members
from bridge.store import Database, executions
from bridge.store.executions import ExecutionRow, Query
from bridge.store.rows import to_milliseconds

_BY_TIME: Final = re.compile(r"t-([0-9]{1,15})-([0-9]{1,15})(?:-([0-9]{1,15}))?")
_BY_CHANGE: Final = re.compile(r"c-([0-9]{1,15})")
_SIDES: Final = {"BOT": "BUY", "SLD": "SELL"}
_RISKY: Final = ("=", "+", "-", "@", "\t", "\r")


class ExecutionView(Struct, rename="camel", frozen=True, kw_only=True):
    """One fill. `execId` never changes, so upsert by it.

    A correction keeps it and shows in `brokerExecId`; `commission` and `realizedPnl` are null until
    the broker has sent them. `orderId` is null for orders that were not placed through the bridge.
    Where the broker's time cannot be read, `timeKnown` is false, `timeText` is what it wrote, and
    `time` is when the bridge was told. `reason` is null for a trade, else what the clearing house
    booked: `assignment`, `exercise` or `expiry`.
    """

    exec_id: str
    time: datetime
    symbol: str
    sec_type: str
    side: str
    quantity: float
    price: float
    commission: float | None
    currency: str
    realized_pnl: float | None
    order_id: str | None
    order_ref: str
    account: str
    commission_currency: str | None
    con_id: int
    exchange: str
    expiration: str | None
    strike: float | None
    right: str | None
    multiplier: str | None
    broker_exec_id: str
    broker_order_id: int
    perm_id: int
    client_id: int
    liquidation: bool
    local_symbol: str = ""
    trading_class: str = ""
    time_known: bool = True
    time_text: str | None = None
    reason: str | None = None


class ExecutionsPage(Struct, rename="camel", frozen=True, kw_only=True):
    """Executions, the oldest first.

    `nextCursor` leads to the next page, null at the end. `changesCursor` is for later: given as
    `cursor` it leads to what has come or changed (a late commission, a correction) since this page,
    or since the first of those that `nextCursor` has led through.
    """

    executions: tuple[ExecutionView, ...]
    next_cursor: str | None
    changes_cursor: str


class BadCursorError(InvalidRequestError):
    """A cursor that no page has given out."""

    code = "invalid-cursor"
    next_step = "Use nextCursor or changesCursor of an earlier page, or none"


class ExecutionService:
    """Answers from the journal; never waits for the gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, query: Query, cursor: str, limit: int) -> ExecutionsPage:
        """One page of at most `limit` executions."""
        changed = _BY_CHANGE.fullmatch(cursor)
        if changed:
            return await self._changes(query, int(changed[1]), limit)
        after: tuple[int, int] | None = None
        begun: int | None = None  # the newest change when the first of these pages was read
        if cursor:
            reached = _BY_TIME.fullmatch(cursor)
            if reached is None:
                raise BadCursorError(f"{cursor[:40]!r} is no cursor")
            after = (int(reached[1]), int(reached[2]))
            begun = None if reached[3] is None else int(reached[3])
        newest, rows = await self._database.read(
            lambda connection: (
                executions.newest_change(connection),
                executions.by_time(connection, query, after=after, limit=limit + 1),
            )
        )
        begun = newest if begun is None else min(begun, newest)
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            following = f"t-{to_milliseconds(last.execution.time)}-{last.sequence}-{begun}"
        return _page(rows[:limit], following, begun)

    async def _changes(self, query: Query, after: int, limit: int) -> ExecutionsPage:
        newest, rows = await self._database.read(
            lambda connection: (
                executions.newest_change(connection),
                executions.by_change(connection, query, after=after, limit=limit + 1),
            )
        )
        if after > newest:  # a journal that was restored, or lost, counts anew
            raise BadCursorError(
                f"this journal has had {newest} changes, and none of the number {after}",
                next_step="Read all executions again, from no cursor on: it is another journal",
            )
        if len(rows) > limit:
            reached = rows[limit - 1].change
            return _page(rows[:limit], f"c-{reached}", reached)
        return _page(rows, None, newest)


def _page(rows: list[ExecutionRow], following: str | None, newest: int) -> ExecutionsPage:
    return ExecutionsPage(
        executions=tuple(execution_view(row) for row in rows),
        next_cursor=following,
        changes_cursor=f"c-{newest}",
    )


def execution_view(row: ExecutionRow) -> ExecutionView:
    """A row of the journal as clients see it."""
    execution = row.execution
    return ExecutionView(
        **(contract_members(execution.contract) | {"exchange": execution.exchange}),
        exec_id=row.exec_id,
        time=execution.time,
        side=_SIDES.get(execution.side, execution.side),
        quantity=execution.quantity,
        price=execution.price,
        commission=row.commission,
        realized_pnl=row.realized_pnl,
        order_id=row.order_id,
        order_ref=execution.order_ref,
        account=execution.account,
        commission_currency=row.commission_currency,
        broker_exec_id=execution.exec_id,
        broker_order_id=execution.order_id,
        perm_id=execution.perm_id,
        client_id=execution.client_id,
        liquidation=bool(execution.liquidation),
        time_known=execution.time_known,
        time_text=execution.time_text or None,
        reason=execution.reason or None,
    )


def as_csv(views: Iterable[ExecutionView]) -> str:
    """The same as CSV, one header line; texts that a spreadsheet would run are quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = ExecutionView.__struct_fields__
    writer.writerow(ExecutionView.__struct_encode_fields__)
    for view in views:
        writer.writerow([_cell(getattr(view, name)) for name in names])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_RISKY):
        return f"'{value}"
    return value
