"""Which positions were opened as one, by the executions in a journal."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from bridge.rules.opening_history import OpeningHistory
from bridge.store import Database, executions
from tests.bridge.orders.samples import execution
from tests.bridge.rules.made import stock

if TYPE_CHECKING:
    from pathlib import Path

HELD = [stock(10, con_id=1, symbol="AAPL"), stock(10, con_id=2, symbol="MSFT")]


@pytest.mark.parametrize(
    ("order", "combinations"),
    [
        ({"perm_id": 900}, [True]),
        ({"perm_id": 0, "client_id": 17, "order_id": 7}, [True]),
        ({"perm_id": 0, "client_id": 0, "order_id": 0}, [False, False]),
    ],
)
async def test_only_an_order_that_is_known_has_opened_several(
    tmp_path: Path, order: dict[str, Any], combinations: list[bool]
) -> None:
    """A statement may name no orders, and what the clearing house books has none."""

    def bought(connection: sqlite3.Connection) -> None:
        for number, each in enumerate(HELD, start=1):
            fill = execution(number, contract=each.contract, account=each.account, **order)
            executions.record(connection, fill, None)

    database = await Database.open(tmp_path)
    await database.write(bought)
    history = OpeningHistory(database, None, None)  # type: ignore[arg-type]
    found = await history.holdings(HELD, ask=False)
    await database.close()
    assert [each.combination for each in found] == combinations
