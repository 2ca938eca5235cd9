"""One message that cannot be kept never stops the rest."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.model import CommissionReport
from bridge.orders.journal_service import JournalService
from bridge.store import StoreBehindError, StoreError, migrations, quarantine
from bridge.store.executions import Query
from simulator.app import Simulator
from simulator.tws.client import Client
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, opened
from tests.bridge.orders.samples import NOON
from tests.bridge.rig import BridgeProcess, eventually

RESTING = {
    "symbol": "AAPL",
    "action": "BUY",
    "quantity": 1,
    "orderType": "LMT",
    "limitPrice": 1.0,
}
BEYOND = str(2**70)


async def test_what_came_with_it_is_kept_and_it_is_named(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        sound = broker.fill(broker.placed[0], 4, say=False)
        changes: tuple[dict[str, Any], ...] = ({"con_id": 2**70}, {"symbol": "\ud800"})
        for number, change in enumerate(changes):
            contract = structs.replace(sound.contract, **change)
            broker.events.execution.emit(
                structs.replace(sound, exec_id=f"bad{number}.1.01.01", contract=contract)
            )
        broker.events.execution.emit(sound)
        await rig.journal.flush()
        assert (await rig.view(order.order_id)).filled == 4
        page = await rig.executions.page(Query(), "", 100)
        assert [each.exec_id for each in page.executions] == [sound.exec_id]
        view = await rig.services[JournalService].view()
        assert view.quarantined == 2
        assert {each.name for each in view.set_aside} == {"bad0.1.01.01", "bad1.1.01.01"}
        entries = (await rig.service.audit("", 100)).entries
        assert [e.target for e in entries if e.action == "message.set-aside"] == [
            "bad1.1.01.01",
            "bad0.1.01.01",
        ]


async def test_repeated_it_is_one_entry_and_sent_whole_it_is_mended(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        sound = broker.fill(broker.placed[0], say=False)
        bad = structs.replace(sound, perm_id=2**70)
        for _ in range(3):
            broker.events.execution.emit(bad)
        await rig.journal.flush()
        (entry,) = (await rig.services[JournalService].view()).set_aside
        assert (entry.times, entry.mended_at) == (3, None)
        broker.events.execution.emit(sound)
        await rig.journal.flush()
        view = await rig.services[JournalService].view()
        assert view.quarantined == 0
        assert view.set_aside[0].mended_at is not None


async def test_a_person_has_looked(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        broker.events.commission.emit(
            CommissionReport(exec_id="x" * 50 + "\ud800", commission=1.0, currency="USD")
        )
        await rig.journal.flush()
        view = await rig.services[JournalService].dismiss(CALLER)
        assert view.quarantined == 0
        assert view.set_aside[0].mended_at is not None
        for commission, quarantined in ((1.0, 0), (2.0, 1)):  # the same again, then another
            broker.events.commission.emit(
                CommissionReport(exec_id="x" * 50 + "\ud800", commission=commission, currency="USD")
            )
            await rig.journal.flush()
            found = await rig.services[JournalService].view()
            assert found.quarantined == quarantined
        await rig.services[JournalService].dismiss(CALLER)
    async with opened(tmp_path, broker) as rig:
        assert (await rig.services[JournalService].view()).quarantined == 0


def test_what_the_broker_has_mended_is_news_when_it_comes_damaged_again(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x")
    connection.row_factory = sqlite3.Row
    migrations.advance(connection)
    entry = quarantine.Entry(kind="order", name="x", cause="a", content="damaged", at=NOON)
    quarantine.add(connection, entry)
    assert quarantine.mended(connection, "order", "x", NOON)
    assert quarantine.count(connection) == 0
    quarantine.add(connection, entry)
    assert quarantine.count(connection) == 1
    quarantine.dismiss(connection, NOON)
    quarantine.add(connection, entry)
    assert quarantine.count(connection) == 0, "a person has seen to that one"
    connection.close()


async def test_the_quarantine_is_counted_after_a_restart(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        broker.events.commission.emit(
            CommissionReport(exec_id="\ud800", commission=1.0, currency="USD")
        )
        await rig.journal.flush()
    async with opened(tmp_path, broker) as rig:
        assert rig.journal.condition.quarantined == 1


async def test_a_journal_that_cannot_be_written_holds_nobody_up(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        rig.database._writer.execute("PRAGMA busy_timeout = 10")
        with sqlite3.connect(rig.database.path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            broker.say(broker.placed[0])
            broker.fill(broker.placed[0], say=True)
            begun = time.monotonic()
            with pytest.raises(StoreBehindError):
                await rig.journal.flush()
            assert time.monotonic() - begun < 10  # two, and what a busy machine takes
            assert rig.journal.condition.behind
            with pytest.raises(StoreBehindError):
                await rig.place(key="key-2")
            other.execute("ROLLBACK")
        other.close()
        await eventually(lambda: not rig.journal.condition.behind)
        assert (await rig.view(order.order_id)).filled == 10


async def test_a_journal_that_has_become_read_only_is_told_and_heals(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        condition = rig.journal.condition
        rig.database._writer.execute("PRAGMA query_only = ON")
        broker.fill(broker.placed[0])
        await eventually(lambda: not condition.writable)
        assert condition.trouble is not None
        assert "mounted writable" in condition.trouble.next_step
        with pytest.raises(StoreError, match="cannot be written"):
            await rig.place(key="key-2")
        rig.database._writer.execute("PRAGMA query_only = OFF")
        await eventually(lambda: condition.writable)
        assert (await rig.view(order.order_id)).filled == 10
        await rig.place(key="key-2")


async def test_an_order_whose_writing_hangs_is_not_sent_and_its_key_works_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place(key="before")
        begun, release = threading.Event(), threading.Event()

        def hang(_: sqlite3.Connection) -> None:
            begun.set()
            release.wait(60)

        hanging = asyncio.create_task(rig.database.write(hang))
        await eventually(begun.is_set)
        monkeypatch.setattr("bridge.store.database._PATIENCE", 0.3)
        with pytest.raises(StoreBehindError):
            await rig.place()
        release.set()
        await hanging
        monkeypatch.undo()
        assert len(broker.placed) == 1
        await rig.place()
        assert len(broker.placed) == 2


async def test_what_there_was_no_room_for_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.orders.journal._MOST_WAITING", 0)
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        broker.fill_at_once = True
        rig.answers_within(0.1)
        with pytest.raises(Exception, match="not answered"):
            await rig.place()
        assert rig.journal.missed
        monkeypatch.setattr("bridge.orders.journal._MOST_WAITING", 1000)
        rig.clock.wind(6)
        rig.clock.tick()
        await eventually(lambda: not rig.journal.missed)

        async def filled() -> bool:
            return (await rig.order()).filled == 10

        await eventually(filled)


# over the wire ----------------------------------------------------------------------------------


class Injected:
    """A bridge as a process over a simulator in this loop, which says what it should not."""

    def __init__(self, bridge: BridgeProcess, simulator: Simulator) -> None:
        self.bridge = bridge
        self.simulator = simulator
        self.times = 0

    @property
    def session(self) -> Client:
        return next(iter(self.simulator.world.sessions))

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        return await asyncio.to_thread(self.bridge.client.request, method, path, **more)

    async def place(self, key: str, **body: Any) -> Any:
        headers = {"Idempotency-Key": key}
        return await self.ask("POST", "/order", json=RESTING | body, headers=headers)

    async def ready(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.bridge.wait_for, "ready", 20.0)

    def execution(self, **changes: str) -> None:
        """A fill of an order of someone else's, with these fields."""
        self.times += 1
        fields = {
            "orderId": "7",
            "conId": "265598",
            "execId": f"0000e0d5.{self.times:08x}.01.01",
            "shares": "1",
            "price": "150.0",
            "permId": "77",
            "clientId": "99",
            "cumQty": "1",
            "avgPrice": "150.0",
        } | changes
        session = self.session
        session.send(
            11, -1, fields["orderId"], fields["conId"], "AAPL", "STK", "", "0.0", "", "", "NASDAQ",
            "USD", "AAPL", "NMS", fields["execId"], "20260213 10:00:00 US/Eastern", "DU1234567",
            "NASDAQ", "BOT", fields["shares"], fields["price"], fields["permId"],
            fields["clientId"], 0, fields["cumQty"], fields["avgPrice"], "", "", "", "", "1",
            *(("0",) if session.version >= 178 else ()),
        )  # fmt: skip

    def commission(self, exec_id: str, commission: str, realized: str = "0") -> None:
        self.session.send(59, 1, exec_id, commission, "USD", realized, "0", "")


@pytest.fixture
async def injected(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Injected]:
    bridge = await asyncio.to_thread(BridgeProcess, tmp_path / "bridge", simulator.tws.port)
    made = Injected(bridge, simulator)
    await made.ready()
    yield made
    await asyncio.to_thread(bridge.stop)


POISON: tuple[dict[str, str], ...] = (
    {"price": "NaN"},
    {"price": "Infinity"},
    {"price": "1.7976931348623157E308"},
    {"shares": "NaN"},
    {"shares": "1e300"},
    {"execId": "x" * 100_000},
    {"execId": ""},
    {"shares": "many"},
)


async def test_the_symptom_orders_answer_cancels_are_quick_and_it_gets_ready_again(
    injected: Injected,
) -> None:
    first = (await injected.place("first")).json()
    for poison in POISON:
        injected.execution(**poison)
    for beyond in ("orderId", "conId", "permId", "clientId"):
        injected.execution(**{beyond: BEYOND})
    injected.commission("0000e0d5.00000001.01.01", "NaN", "NaN")
    injected.commission(BEYOND, "1e400")

    async def named() -> bool:
        health = await asyncio.to_thread(injected.bridge.health)
        return bool(health["journal"]["quarantined"] >= len(POISON))

    await eventually(named)
    begun = time.monotonic()
    second = await injected.place("second", orderType="MKT", limitPrice=None)
    assert second.status_code == 201, second.text
    cancelled = await injected.ask("DELETE", f"/order/{first['orderId']}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "Cancelled")
    assert time.monotonic() - begun < 10  # a tenth, and what a busy machine takes
    assert (await injected.ask("GET", "/ready")).status_code == 200
    health = await asyncio.to_thread(injected.bridge.health)
    assert (health["status"], health["journal"]["queueAge"]) == ("degraded", 0.0)
    assert "GET /journal" in health["nextAction"]
    audit = (await injected.ask("GET", "/audit")).json()["entries"]
    assert len([each for each in audit if each["action"] == "message.set-aside"]) >= len(POISON)
    (await injected.ask("POST", "/connection/reconnect")).raise_for_status()
    await injected.ready()
    filled = (await injected.ask("GET", f"/order/{second.json()['orderId']}")).json()
    assert filled["status"] == "Filled"
    assert not [e for e in injected.bridge.events() if "exception" in e]


async def test_locked_it_is_not_ready_and_sigterm_still_ends_it_in_time(
    injected: Injected,
) -> None:
    order = (await injected.place("first")).json()
    path = injected.bridge.folder / "data" / "journal.sqlite3"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    injected.execution()

    async def behind() -> Any:
        health = await asyncio.to_thread(injected.bridge.health)
        return health if health["journal"]["queueAge"] > 2 else None

    health = await eventually(behind)
    refused = await injected.ask("GET", "/ready")
    assert refused.status_code == 503
    assert "journal" in health["nextAction"]
    begun = time.monotonic()
    assert (await injected.place("second")).status_code == 503
    assert time.monotonic() - begun < 5  # at once, and what a busy machine takes
    cancelling = asyncio.create_task(injected.ask("DELETE", f"/order/{order['orderId']}"))
    await asyncio.sleep(0.2)
    begun = time.monotonic()
    code = await asyncio.to_thread(injected.bridge.stop, signal.SIGTERM)
    assert (code, time.monotonic() - begun < 9.0) == (0, True)  # five, and a machine that is busy
    await asyncio.gather(cancelling, return_exceptions=True)
    other.close()
