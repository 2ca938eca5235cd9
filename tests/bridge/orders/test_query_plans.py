"""Every query of an order's way has its index: none gets slower as the journal grows."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.orders.request import ChangeRequest
from bridge.store import executions, orders
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, Rig, opened, request
from tests.bridge.orders.samples import NOON

if TYPE_CHECKING:
    from collections.abc import Iterator

GROWING = frozenset(
    ["orders", "order_events", "order_money", "idempotency", "executions", "commissions", "audit"]
)
"""Tables with rows of every order that there ever was."""
NEWEST_FIRST = re.compile(r"ORDER BY (\w+\.)?sequence DESC LIMIT")
"""A page from the end of the table: as many rows as are asked for."""


class Traced(list[str]):
    """The statements that a room runs, with their values."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        for connection in (rig.database._writer, rig.database._reader):
            connection.set_trace_callback(self.append)

    def plans(self, path: Path) -> Iterator[tuple[str, str]]:
        """Each statement with a step of its plan."""
        connection = sqlite3.connect(path)
        try:
            for statement in dict.fromkeys(self):
                if statement.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT")):
                    for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                        yield statement, row[3]
        finally:
            connection.close()


async def everything(rig: Rig, broker: FakeBroker) -> None:
    """An order's life, a repetition, and what is read of it."""
    view = await rig.place()
    await rig.submitter.place(request(), "key-1", CALLER)
    await rig.modifier.modify(view.order_id, ChangeRequest(quantity=5), CALLER)
    broker.fill(view.broker_order_id, 2.0)
    await rig.canceller.cancel(view.order_id, CALLER)
    await rig.view(view.order_id)
    await rig.service.orders(only_open=True, cursor="", limit=10)
    await rig.service.orders(only_open=False, cursor="7", limit=10)
    await rig.service.audit("", 10)
    for query in (executions.Query(), executions.Query(symbol="AAPL", since=NOON)):
        await rig.database.read(lambda c: executions.by_time(c, query, after=(1, 1), limit=5))  # noqa: B023
        await rig.database.read(lambda c: executions.by_change(c, query, after=1, limit=5))  # noqa: B023
    await rig.database.read(lambda c: orders.count_of_key(c, "phone", NOON))
    await rig.database.read(orders.unanswered)
    await rig.database.read(orders.highest_broker_order_id)
    await rig.database.read(lambda c: orders.highest_acknowledged(c, 1, 1))
    await rig.database.read(lambda c: orders.by_perm_id(c, 7))
    await broker.reconnect()


async def test_no_query_goes_through_all_that_there_ever_was(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        traced = Traced(rig)
        await everything(rig, broker)
        plans = list(traced.plans(rig.database.path))
    seen = {step.split()[1] for _, step in plans if step.startswith("SEARCH")}
    assert seen >= {"orders", "order_events", "idempotency", "executions"}
    scans = [
        f"{step}: {statement}"
        for statement, step in plans
        if step.startswith("SCAN")
        and step.split()[1] in GROWING
        and not NEWEST_FIRST.search(statement)
    ]
    assert scans == []
