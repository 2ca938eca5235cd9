"""A journal that was lost does not trade again what it has forgotten."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from msgspec import structs

from bridge.orders.errors import (
    JournalNotAcceptedError,
    OrderArchivedError,
    OrderListedError,
    TradingHaltedError,
)
from bridge.orders.journal_service import JournalService
from bridge.store.orders import Status
from bridge.store.retention import Retention
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.rig import BridgeProcess, SimulatorProcess, eventually

RESTING = {
    "symbol": "AAPL",
    "action": "BUY",
    "quantity": 3,
    "orderType": "LMT",
    "limitPrice": 1.0,
    "tif": "GTC",
}


async def lost(tmp_path: Path, broker: FakeBroker, *, everything: bool) -> None:
    async with opened(tmp_path, broker) as rig:
        await rig.place()
    if everything:
        shutil.rmtree(tmp_path / "data")
    else:
        for file in (tmp_path / "data").glob("journal.sqlite3*"):
            file.unlink()


async def accept(rig: Rig) -> None:
    view = await rig.services[JournalService].accept(CALLER)
    assert view.accepted


@pytest.mark.parametrize("everything", [False, True])
async def test_it_starts_halted_adopts_and_does_not_send_the_same_key_again(
    tmp_path: Path, everything: bool
) -> None:
    broker = FakeBroker()
    await lost(tmp_path, broker, everything=everything)
    for _ in range(2):  # a restart is no acceptance
        async with opened(tmp_path, broker) as rig:
            with pytest.raises(TradingHaltedError) as raised:
                await rig.place(key="another")
            assert "journal accept" in raised.value.next_step
            order = await rig.order()
            assert (order.status, order.quantity) == (Status.SUBMITTED, 10)
            assert order.order_ref == broker.book[broker.placed[0]].order.order_ref
            with pytest.raises(JournalNotAcceptedError):
                await rig.halt.resume(CALLER)
            view = await rig.services[JournalService].view()
            assert not view.accepted
    async with opened(tmp_path, broker) as rig:
        await accept(rig)
        again = await rig.place()
        assert again.order_id == (await rig.order()).order_id
        assert len(broker.placed) == 1
        await rig.canceller.cancel(again.order_id, CALLER)
        await rig.place(key="another")
        assert len(broker.placed) == 2
    async with opened(tmp_path, broker) as rig:
        assert (await rig.services[JournalService].view()).accepted
        actions = [each.action for each in (await rig.service.audit("", 100)).entries]
        assert {"order.adopted", "journal.accept"} <= set(actions)


async def test_the_key_of_an_adopted_order_stays_taken_when_that_is_archived(
    tmp_path: Path,
) -> None:
    """Only a part of it is known, and that is all that is left of the order."""
    broker = FakeBroker()
    await lost(tmp_path, broker, everything=False)
    async with opened(tmp_path, broker) as rig:
        await accept(rig)
        adopted = await rig.order()
        broker.fill(adopted.broker_order_id)
        newest = await rig.place(key="another")  # the newest stays in the journal
        broker.fill(newest.broker_order_id)
        await rig.journal.flush()
        sent = len(broker.placed)
        later = rig.clock.now() + timedelta(days=40)
        assert await Retention(rig.database, timedelta(days=30)).move(later) == 1
        broker.book.clear()  # the broker has forgotten it, too
        with pytest.raises(OrderArchivedError):
            await rig.place()
        assert len(broker.placed) == sent
        await rig.place(key="a third")
        assert len(broker.placed) == sent + 1


async def test_a_filled_order_is_adopted_from_its_executions(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        broker.fill(broker.placed[0])
        await rig.journal.flush()
    shutil.rmtree(tmp_path / "data")
    async with opened(tmp_path, broker) as rig:
        await accept(rig)
        order = await rig.place()
        assert (order.status, order.filled) == (Status.FILLED, 10)
        assert len(broker.placed) == 1


async def test_a_reference_that_the_broker_lists_is_never_sent(tmp_path: Path) -> None:
    """Its client id is not told, so it is nobody's to adopt; sent again it is not either."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
    booked = broker.book[broker.placed[0]]
    booked.status = "Cancelled"
    booked.order = structs.replace(booked.order, client_id=0)
    shutil.rmtree(tmp_path / "data")
    async with opened(tmp_path, broker) as rig:
        assert (await rig.services[JournalService].view()).accepted
        with pytest.raises(OrderListedError):
            await rig.place()
        assert len(broker.placed) == 1


async def test_a_persons_halt_stays_when_the_journal_is_accepted(tmp_path: Path) -> None:
    broker = FakeBroker()
    await lost(tmp_path, broker, everything=False)
    async with opened(tmp_path, broker) as rig:
        await rig.halt.halt("lunch", "none", CALLER)
        await accept(rig)
        with pytest.raises(TradingHaltedError, match="lunch"):
            await rig.place(key="another")
        await rig.halt.resume(CALLER)
        await rig.place(key="another")


async def test_over_http_with_the_simulators_book_as_the_judge(
    tmp_path: Path, simulator_process: SimulatorProcess
) -> None:
    def place(bridge: BridgeProcess, key: str) -> httpx.Response:
        return bridge.client.post("/order", json=RESTING, headers={"Idempotency-Key": key})

    def start() -> BridgeProcess:
        return BridgeProcess(tmp_path / "bridge", simulator_process.port)

    bridge = await asyncio.to_thread(start)
    bridge.wait_for("ready")
    first = place(bridge, "once")
    assert first.status_code == 201
    bridge.stop()
    for file in (tmp_path / "bridge" / "data").glob("journal.sqlite3*"):
        file.unlink()
    bridge = await asyncio.to_thread(start)
    try:
        health = bridge.wait_for("halted")
        assert "journal accept" in health["nextAction"]
        assert bridge.get("/ready").status_code == 503
        assert place(bridge, "another").status_code == 423
        assert place(bridge, "once").json()["orderRef"] == first.json()["orderRef"]
        assert bridge.client.delete("/trading/halt").json()["code"] == "journal-not-accepted"
        open_orders = bridge.get("/orders", open=True).json()["orders"]
        assert [each["orderRef"] for each in open_orders] == [first.json()["orderRef"]]
        assert bridge.client.post("/journal/accept").json()["accepted"] is True
        await eventually(lambda: bridge.get("/ready").status_code == 200)
        again = place(bridge, "once")
        assert (again.status_code, again.json()["orderRef"]) == (201, first.json()["orderRef"])
        booked = simulator_process.book()["orders"]
        assert len(booked) == 1
        cancelled = bridge.client.delete(f"/order/{again.json()['orderId']}")
        assert cancelled.json()["status"] == "Cancelled"
    finally:
        bridge.stop()


ELSEWHERE = "identity"


def _begun(folder: Path) -> BridgeProcess:
    (folder / ELSEWHERE).mkdir(parents=True, exist_ok=True)
    return BridgeProcess(
        folder, 9, BRIDGE_IDENTITY_DIR=str(folder / ELSEWHERE)
    )  # nobody is there: the broker is no witness


def test_an_emptied_folder_is_no_new_bridge_where_its_name_is_kept_elsewhere(
    tmp_path: Path,
) -> None:
    for accepted in (True, False, False):
        bridge = _begun(tmp_path)
        try:
            view = bridge.get("/journal").json()
            assert view["accepted"] is accepted
            assert bridge.get("/trading/halt").json()["halted"] is not accepted
            if not accepted:
                assert "emptied or removed" in view["why"]
                assert "journal accept" in view["nextStep"]
        finally:
            bridge.stop()
        if accepted:
            shutil.rmtree(tmp_path / "data")
    bridge = _begun(tmp_path)
    try:
        assert bridge.client.post("/journal/accept").json()["accepted"] is True
    finally:
        bridge.stop()
    bridge = _begun(tmp_path)
    try:
        assert bridge.get("/journal").json()["accepted"] is True
    finally:
        bridge.stop()


def test_the_whole_folder_of_another_bridge_is_another_journal(tmp_path: Path) -> None:
    for name in ("one", "other"):
        _begun(tmp_path / name).stop()
    kept = tmp_path / "one" / ELSEWHERE / "journal.identity"
    (tmp_path / "other" / ELSEWHERE / "journal.identity").replace(kept)
    bridge = _begun(tmp_path / "one")
    try:
        view = bridge.get("/journal").json()
        assert (view["accepted"], view["why"]) == (
            False,
            "this is another journal than the one that was here",
        )
    finally:
        bridge.stop()


def test_a_bridge_of_an_earlier_release_keeps_its_name_there_from_now_on(tmp_path: Path) -> None:
    (tmp_path / ELSEWHERE).mkdir()
    earlier = BridgeProcess(tmp_path, 9)
    earlier.stop()
    _begun(tmp_path).stop()
    shutil.rmtree(tmp_path / "data")
    bridge = _begun(tmp_path)
    try:
        assert bridge.get("/journal").json()["accepted"] is False
    finally:
        bridge.stop()
