"""Steps that were released are frozen: a journal that has taken them is never told otherwise."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from bridge.store import migrations, orders

FROZEN = (
    "062108ef1d3a4d71a26a10fc51ae930c63da757ff266cda3e97d858f81b2df72",
    "2f0ee1abe5e5563f6ae9b099dc166fb3c4275e866ae6925baed526a42a210a96",
    "a4bf4aed158da19dd0641e89fe8fbb1171c210c39c4e3bcfd312d34ae15c299d",
    "deb5a7d32c4e4986192bcf6610cf46dcde91e5e32fe09dd0268a57a833a9050f",
    "b7cf5c0a00b4564c7f7875edec840d4bf27f3f1042733142b4a282777fecd502",
    "bb95e74ae5d238380f49e7e4890f2181e0a22468d0fb41a1979f024e4d898479",
    "d5b664b4792d7d45b57d538d39ca37eda932007f9c79d2e07530ade089574743",
    "46e4290c1ddd4859fea22767ccba50c8c3ddb0516ff5a64c976f80ed9720133e",
)
"""SHA-256 of each step. Only ever append: a mend of an old step is a new step."""


def test_released_steps_never_change() -> None:
    found = tuple(hashlib.sha256(step.encode()).hexdigest() for step in migrations.STEPS)
    assert found[: len(FROZEN)] == FROZEN
    assert len(found) == len(FROZEN), "add the checksum of the new step"


def test_an_order_that_the_first_release_wrote_down_is_read_today(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(migrations.STEPS[0])
    connection.execute("PRAGMA user_version = 1")
    connection.execute(
        "INSERT INTO orders (id, order_ref, key_digest, role, group_id, api_key_id, account,"
        " symbol, contract, terms, pending, state, status, client_id, broker_order_id, notional,"
        " created_at, updated_at) VALUES ('o1', 'gw-1-0', 'k', 'single', 'o1', 'phone', 'DU1',"
        """ 'AAPL', '{"symbol":"AAPL","conId":265598}', '{"action":"BUY","quantity":2.0,"""
        """"orderType":"LMT","limitPrice":150.0}', '{"at":"2026-02-13T12:00:00Z"}',"""
        " 'acknowledged', 'Submitted', 17, 5, 300.0, 1771000000000, 1771000000000)"
    )
    migrations.advance(connection)
    connection.row_factory = sqlite3.Row
    (record,) = orders.open_orders(connection)
    assert (record.id, record.terms.limit_price, record.notional) == ("o1", 150.0, 300.0)
    assert record.pending is not None
    assert record.pending.added == 0
    today = orders.totals_since(connection, datetime(2026, 1, 1, tzinfo=UTC))
    assert (today.orders, today.notional) == (1, 300.0)
    connection.close()
