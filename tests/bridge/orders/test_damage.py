"""A damaged row is one line in the log: no traceback, no start that never ends, no second order."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.orders.errors import OrderPendingError, TradingHaltedError
from bridge.orders.order_ids import key_digest
from bridge.store import DamagedRowError, orders
from bridge.store.executions import Query
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.rig import BridgeProcess, SimulatorProcess

RESTING = {
    "symbol": "AAPL",
    "action": "BUY",
    "quantity": 3,
    "orderType": "LMT",
    "limitPrice": 1.0,
    "tif": "GTC",
}


def edit(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "data" / "journal.sqlite3", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE orders SET terms = 'x' WHERE key_digest = '{key}'",
        "UPDATE orders SET contract = '[]' WHERE key_digest = '{key}'",
        "UPDATE orders SET state = 'dancing' WHERE key_digest = '{key}'",
        "UPDATE orders SET created_at = 9e17 WHERE key_digest = '{key}'",
    ],
)
async def test_a_damaged_order_is_not_sent_again_and_the_rest_goes_on(
    tmp_path: Path, damage: str
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place(key="sound")
        await rig.place(key="damaged")
    edit(
        tmp_path, damage.format(key=key_digest("damaged")), "UPDATE idempotency SET answer = x'ff'"
    )
    async with opened(tmp_path, broker) as rig:
        orders = (await rig.service.orders(only_open=False, cursor="", limit=10)).orders
        assert len(orders) == 1
        with pytest.raises(DamagedRowError, match="damaged"):
            await rig.place(key="damaged")
        with pytest.raises(DamagedRowError, match="cannot be read"):
            await rig.place(key="sound")
        await rig.place(key="another")
        assert len(broker.placed) == 3
        broker.fill(broker.placed[0])
        await rig.journal.flush()
        assert (await rig.view(orders[0].order_id)).filled == 10


async def damaged_execution(rig: Rig) -> None:
    page = await rig.executions.page(Query(), "", 10)
    assert [(each.symbol, each.quantity, each.price) for each in page.executions] == [
        ("AAPL", 10, 100.0)
    ]


async def damaged_history(rig: Rig) -> None:
    order = await rig.view((await rig.order()).order_id)
    assert {"damaged": "x"} in [each.detail for each in order.history]  # type: ignore[attr-defined]


async def damaged_audit(rig: Rig) -> None:
    entries = (await rig.service.audit("", 10)).entries
    assert entries


async def damaged_halt(rig: Rig) -> None:
    with pytest.raises(TradingHaltedError, match="cannot be read"):
        await rig.place(key="another")
    await rig.halt.resume(CALLER)
    await rig.place(key="another")


async def damaged_sequence(rig: Rig) -> None:
    await rig.place(key="another")


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("UPDATE executions SET detail = 'x'", damaged_execution),
        ("UPDATE order_events SET detail = 'x'", damaged_history),
        ("UPDATE connection_events SET detail = 'x'", damaged_audit),
        ("INSERT INTO diagnostics VALUES ('oddity', 'x')", damaged_audit),
        ("INSERT INTO settings VALUES ('trading.halt', x'00', 0)", damaged_halt),
        ("UPDATE settings SET value = x'00' WHERE name LIKE 'orders.%'", damaged_sequence),
    ],
)
async def test_damage_of_one_row_is_damage_of_one_row(
    tmp_path: Path, damage: str, check: Callable[[Rig], object]
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        broker.fill(broker.placed[0])
        await rig.journal.flush()
    edit(tmp_path, damage)
    async with opened(tmp_path, broker) as rig:
        await check(rig)  # type: ignore[misc]


async def test_a_bridge_starts_with_every_table_damaged(
    tmp_path: Path, simulator_process: SimulatorProcess
) -> None:
    def start() -> BridgeProcess:
        return BridgeProcess(tmp_path, simulator_process.port)

    bridge = await asyncio.to_thread(start)
    bridge.wait_for("ready")
    placed = bridge.client.post("/order", json=RESTING, headers={"Idempotency-Key": "one"})
    assert placed.status_code == 201
    bridge.stop()
    edit(
        tmp_path,
        "UPDATE orders SET terms = 'x'",
        "UPDATE order_events SET detail = 'x'",
        "UPDATE connection_events SET detail = 'x'",
        "UPDATE diagnostics SET value = 'x'",
        "UPDATE settings SET value = x'ff'",
        "INSERT INTO api_keys VALUES ('k', 'l', x'00', 'emperor', 9000000000000000, NULL, NULL)",
    )
    bridge = await asyncio.to_thread(start)
    try:
        bridge.wait_for("ready")
        again = bridge.client.post("/order", json=RESTING, headers={"Idempotency-Key": "one"})
        assert again.status_code in {201, 503}
        assert len(simulator_process.book()["orders"]) == 1
        told = [each for each in bridge.events() if each["event"] == "row-damaged"]
        assert {"orders", "api_keys"} <= {each["table"] for each in told}
        assert not [each for each in bridge.events() if "exception" in each]
    finally:
        bridge.stop()


async def test_a_key_whose_order_cannot_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker) as rig:
        rig.answers_within(0.05)
        with pytest.raises(OrderPendingError):
            await rig.place()
        monkeypatch.setattr(orders, "by_key", lambda *_: [])  # a damaged row is left out
        with pytest.raises(DamagedRowError, match="cannot be read"):
            await rig.place()
        assert len(broker.placed) == 1
