"""Cancels and halts do not depend on the journal."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import halt_mark
from bridge.account.held_before import HeldBefore
from bridge.clock import SystemClock
from bridge.model import Contract, Order, Position
from bridge.orders.cancel import Cancelling
from bridge.orders.errors import TradingHaltedError
from bridge.orders.halt import HaltSwitch
from bridge.orders.silence import SilenceWatch
from bridge.store import StoreError
from bridge.store.condition import Trouble
from bridge.store.orders import Status
from bridge.store.probe import Probe
from bridge.store.urgent import Urgent
from tests.bridge.orders.fake_broker import BookedOrder, FakeBroker, lost
from tests.bridge.orders.order_rig import CALLER, JOURNAL_WAITS, Rig, opened
from tests.bridge.rig import eventually

LIMIT_SECONDS = 5.0  # it takes a tenth of a second, and never as long as the slow disk
APPLE = 265598


def refuse(rig: Rig, code: int) -> Callable[[], None]:
    """Every write fails with this error of SQLite's; returns what ends that."""
    database = rig.database

    def failing(*_: Any) -> Any:
        error = sqlite3.OperationalError("refused by the test")
        error.sqlite_errorcode = code
        raise error

    database.__dict__["_transact"] = failing

    def heal() -> None:
        del database.__dict__["_transact"]

    return heal


def delay(rig: Rig, seconds: float) -> Callable[[], None]:
    """Every write takes so long, or until it is healed."""
    database = rig.database
    real = database._transact
    healed = threading.Event()

    def slow(*arguments: Any) -> Any:
        healed.wait(seconds)
        return real(*arguments)

    database.__dict__["_transact"] = slow

    def heal() -> None:
        healed.set()
        del database.__dict__["_transact"]

    return heal


FAULTS: dict[str, Callable[[Rig], Callable[[], None]]] = {
    "full": lambda rig: refuse(rig, sqlite3.SQLITE_FULL),
    "read-only": lambda rig: refuse(rig, sqlite3.SQLITE_READONLY),
    "locked": lambda rig: refuse(rig, sqlite3.SQLITE_BUSY),
    "corrupt": lambda rig: refuse(rig, sqlite3.SQLITE_CORRUPT),
    "disk": lambda rig: refuse(rig, sqlite3.SQLITE_IOERR),
    "slow": lambda rig: delay(rig, 30.0),
}


async def actions(rig: Rig) -> list[tuple[str, str]]:
    return [(each.action, each.result) for each in (await rig.service.audit("", 100)).entries]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_cancel_reaches_the_broker_and_its_entry_follows(
    tmp_path: Path, fault: str
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, hurried=JOURNAL_WAITS) as rig:
        order = await rig.place()
        heal = FAULTS[fault](rig)
        begun = time.monotonic()
        view = await rig.canceller.cancel(order.order_id, CALLER)
        assert time.monotonic() - begun < LIMIT_SECONDS
        assert broker.cancelled == [order.broker_order_id]
        assert (view.status, view.journaled) == (Status.CANCELLED, False)
        heal()

        async def kept() -> bool:
            await rig.services[Urgent].again()
            told = await actions(rig)
            return ("order.cancel", "ok") in told and ("order.cancel", "sending") in told

        await eventually(kept)
        stored = await rig.view(order.order_id)
        assert (stored.status, stored.journaled) == (Status.CANCELLED, True)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_halt_holds_over_a_kill_and_reaches_the_journal_when_it_can(
    tmp_path: Path, fault: str
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, hurried=JOURNAL_WAITS) as rig:
        order = await rig.place()
        heal = FAULTS[fault](rig)
        begun = time.monotonic()
        view = await rig.halt.halt("fire", "opening", CALLER)
        assert time.monotonic() - begun < LIMIT_SECONDS
        assert (view.halted, view.journaled, view.survives_restart) == (True, False, True)
        assert broker.cancelled == [order.broker_order_id]
        said = json.loads((tmp_path / "data" / halt_mark.NAME).read_bytes())
        assert (said["reason"], said["cancel"]) == ("fire", "opening")
        heal()

        async def kept() -> bool:
            await rig.services[Urgent].again()
            known = ("trading.halt", "ok") in await actions(rig)
            return known and rig.halt.view().journaled

        await eventually(kept)
        (tmp_path / "data" / halt_mark.NAME).unlink()
    async with opened(tmp_path, broker) as rig:
        assert rig.halt.view().reason == "fire"
        assert (tmp_path / "data" / halt_mark.NAME).exists()


async def test_after_a_restart_the_answer_says_where_the_halt_stands(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = rig.halt.view()
        assert (view.halted, view.journaled, view.survives_restart) == (False, True, True)
        await rig.halt.halt("fire", "own", CALLER, allow_closing=True)
    async with opened(tmp_path, broker) as rig:
        view = rig.halt.view()
        assert (view.halted, view.journaled, view.survives_restart) == (True, True, True)
        assert (view.by, view.reason, view.cancel) == ("phone", "fire", "own")
        assert (view.allow_closing, view.cancelled) == (True, None)
        await rig.halt.resume(CALLER)
    async with opened(tmp_path, broker) as rig:
        assert not rig.halt.view().halted
        (tmp_path / "data" / halt_mark.NAME).write_text("{}")
        view = rig.halt.view()
        assert (view.halted, view.journaled, view.survives_restart) == (True, False, True)
        assert (await rig.halt.halt("", "none", CALLER)).cancelled is None
        for which in ("own", "all", "opening"):
            assert (await rig.halt.halt("", which, CALLER)).cancelled is not None


async def test_a_bridge_that_finds_the_mark_starts_halted_until_it_is_lifted(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        refuse(rig, sqlite3.SQLITE_FULL)
        await rig.halt.halt("fire", "none", CALLER)
    async with opened(tmp_path, broker) as rig:
        assert rig.halt.view().reason == "fire"
        with pytest.raises(TradingHaltedError, match="fire"):
            await rig.place()
        await rig.halt.resume(CALLER)
        assert not (tmp_path / "data" / halt_mark.NAME).exists()
        await rig.place()
    async with opened(tmp_path, broker) as rig:
        assert not rig.halt.view().halted


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"since": 5, "cancel": "everything"}', b"\xff" * 100]
)
async def test_any_mark_halts_a_running_bridge_at_the_moment_of_the_send(
    tmp_path: Path, content: bytes
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        broker.hold = asyncio.Event()
        placing = asyncio.create_task(rig.place())
        await eventually(lambda: rig.services[HaltSwitch].halt is None and broker.asked)
        mark = tmp_path / "data" / halt_mark.NAME
        mark.write_bytes(content)
        broker.hold.set()
        with pytest.raises(TradingHaltedError):
            await placing
        assert not broker.placed
        view = rig.halt.view()
        assert (view.by, view.cancel, view.survives_restart) == ("mark", "none", True)
        mark.unlink()
        assert not rig.halt.view().halted


async def test_a_mark_says_why_and_what_is_cancelled_at_the_next_connect(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        said = {"by": "host", "reason": "no answer", "cancel": "own", "since": "2026-02-13T12:00Z"}
        halt_mark.write(tmp_path / "data", said)
        view = rig.halt.view()
        assert (view.by, view.reason, view.cancel) == ("host", "no answer", "own")
        await broker.reconnect()
        assert broker.cancelled == [order.broker_order_id]


async def test_what_others_place_after_a_halt_is_not_cancelled_at_the_next_connect(
    tmp_path: Path,
) -> None:
    """People close by hand, and protect by hand, while trading is halted."""
    broker = FakeBroker()
    everybody = ("cancel-all", 0)
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        await rig.halt.halt("", "all", CALLER)
        assert broker.wire.count(everybody) == 1
        await broker.reconnect()
        assert broker.wire.count(everybody) == 1
        assert broker.cancelled == [order.broker_order_id], "its cancel may not have got there"
        await rig.halt.halt("once more", "all", CALLER)
        assert broker.wire.count(everybody) == 2
    async with opened(tmp_path, broker) as rig:
        await broker.reconnect()
        assert rig.halt.view().cancel == "all"
        assert broker.wire.count(everybody) == 2


async def test_a_global_cancel_that_was_not_heard_is_sent_at_the_next_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()

        async def nothing(*_: object, **__: object) -> None:
            raise lost()

        with monkeypatch.context() as patched:
            patched.setattr(broker, "all_open_orders", nothing)
            await rig.halt.halt("", "all", CALLER)
        for _ in range(2):
            await broker.reconnect()
        assert broker.wire.count(("cancel-all", 0)) == 2


@pytest.mark.parametrize("cancel", ["own", "all"])
async def test_what_a_halt_lets_through_stays_at_the_next_connect(
    tmp_path: Path, cancel: Cancelling
) -> None:
    broker = FakeBroker()
    broker.held = holding(10)
    async with opened(tmp_path, broker) as rig:
        await rig.halt.halt("", cancel, CALLER, allow_closing=True)
        rig.clock.wind(1)
        stop = await rig.place(
            "stop", action="SELL", quantity=4, order_type="STP", limit_price=None, stop_price=90
        )
        await broker.reconnect()
        assert (await rig.view(stop.order_id)).status == "Submitted"
        await rig.halt.halt("", cancel, CALLER, allow_closing=True)  # that one is meant now
        await broker.reconnect()
        await eventually(lambda: rig.journal.open_order(stop.order_id) is None)


async def test_what_a_halt_has_kept_waits_for_the_positions_at_the_next_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker()
    broker.held = holding(10)
    async with opened(tmp_path, broker) as rig:
        stop = await rig.place(
            "stop", action="SELL", quantity=10, order_type="STP", limit_price=None, stop_price=90
        )
        view = await rig.halt.halt("", "opening", CALLER)
        assert view.cancelled is not None
        assert view.cancelled.kept == (stop.order_id,)
        monkeypatch.setattr("bridge.orders.cancel._POSITIONS_SECONDS", 0.0)  # it is busy
        await broker.reconnect()
        assert broker.cancelled == []


async def test_what_only_closes_stays_when_a_client_falls_silent_in_a_busy_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker()
    broker.held = holding(10)
    async with opened(tmp_path, broker, cancel_when_silent=30.0) as rig:
        await rig.place("stop", action="SELL", order_type="STP", limit_price=None, stop_price=90)
        opens = await rig.place("opens")
        watch = rig.services[SilenceWatch]
        await watch.beat("phone")
        monkeypatch.setattr("bridge.orders.cancel._POSITIONS_SECONDS", 0.0)
        rig.clock.wind(31)
        await watch.look()
        assert broker.cancelled == [opens.broker_order_id]


async def test_where_no_mark_can_be_left_the_answer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        monkeypatch.setattr(halt_mark, "write", no)
        view = await rig.halt.halt("", "none", CALLER)
        assert (view.journaled, view.survives_restart) == (True, True)
        await rig.halt.resume(CALLER)
        heal = refuse(rig, sqlite3.SQLITE_READONLY)
        view = await rig.halt.halt("", "none", CALLER)
        assert (view.halted, view.journaled, view.survives_restart) == (True, False, False)
        assert view.next_step is not None
        assert "Do not restart" in view.next_step
        with pytest.raises(StoreError):
            await rig.halt.resume(CALLER)
        assert rig.halt.view().halted
        heal()


async def test_the_reserve_is_given_up_for_a_mark_and_for_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, broker = halt_mark.write, FakeBroker()

    def full(folder: Path, said: dict[str, Any]) -> None:
        if (folder / "journal.reserve").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(folder, said)

    async with opened(tmp_path, broker) as rig:
        await eventually(rig.services[Urgent].reserve.keep)  # the probe may just be at it
        monkeypatch.setattr(halt_mark, "write", full)
        # Else the probe takes it again at once, where a busy machine lets it look in between.
        monkeypatch.setattr("bridge.store.urgent.free_bytes", lambda _: 0)
        await rig.halt.halt("fire", "none", CALLER)
        assert not (tmp_path / "data" / "journal.reserve").exists()
        assert json.loads((tmp_path / "data" / halt_mark.NAME).read_bytes())["reason"] == "fire"


async def test_the_reserve_is_for_a_halt_or_a_cancel_alone(tmp_path: Path) -> None:
    """A full disk is met by an order first, as a rule: its own audit entry waits."""

    def full(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    async with opened(tmp_path, FakeBroker()) as rig:
        urgent = rig.services[Urgent]
        await eventually(urgent.reserve.keep)
        file = tmp_path / "data" / "journal.reserve"
        assert not await urgent.keep(full)
        assert file.exists()
        rig.services.journal.writable = False
        assert not await urgent.keep(full)
        assert file.exists()
        assert not await urgent.keep(full, reserve=True)
        assert not file.exists()


async def test_a_second_halt_never_loosens_the_first(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        assert not (await rig.halt.halt("", "none", CALLER)).allow_closing
        second = await rig.halt.halt("", "opening", CALLER, allow_closing=True)
        assert (second.allow_closing, second.cancel) == (False, "opening")


async def test_a_halt_keeps_what_only_closes_a_position(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.held = (
        Position(
            account="DU1234567", contract=Contract(con_id=APPLE), quantity=10, average_cost=1.0
        ),
    )
    async with opened(tmp_path, broker) as rig:
        stop = await rig.place(
            "stop", action="SELL", order_type="STP", limit_price=None, stop_price=95.0
        )
        opening = await rig.place("buy")
        beyond = await rig.place("beyond", action="SELL", limit_price=101.0)
        view = await rig.halt.halt("", "opening", CALLER)
        assert view.cancelled is not None
        assert view.cancelled.kept == (stop.order_id,)
        assert view.cancelled.requested == (opening.order_id, beyond.order_id)
        assert broker.cancelled == [opening.broker_order_id, beyond.broker_order_id]


async def test_a_mark_that_appears_is_obeyed_for_what_is_open(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        halt_mark.write(tmp_path / "data", {"by": "host", "cancel": "opening"})
        await eventually(lambda: broker.cancelled)
        assert broker.cancelled == [order.broker_order_id]


async def looked(rig: Rig) -> Trouble | None:
    """What a look finds; one may share what the rig's own has just asked, before a fault."""
    await rig.services[Probe].look()
    return rig.services.journal.trouble


@pytest.mark.parametrize("fault", [each for each in FAULTS if each != "slow"])
async def test_a_probe_sees_a_journal_that_cannot_be_written_and_that_it_is_back(
    tmp_path: Path, fault: str
) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        condition, probe = rig.services.journal, rig.services[Probe]
        await probe.look()
        before = condition.trouble
        assert before is None
        await eventually((tmp_path / "data" / "journal.reserve").exists)  # it looks by itself, too
        heal = FAULTS[fault](rig)
        trouble = await eventually(lambda: looked(rig))
        assert trouble.next_step
        assert not condition.writable
        heal()

        async def well() -> bool:
            return await looked(rig) is None

        await eventually(well)


async def test_a_probe_looks_more_often_until_the_journal_is_mended(tmp_path: Path) -> None:
    class EndedError(Exception):
        """All looks of the test are done."""

    class Noting(SystemClock):
        def __init__(self) -> None:
            self.pauses: list[float] = []

        async def sleep(self, seconds: float) -> None:
            self.pauses.append(seconds)
            if len(self.pauses) == 2:
                heal()
            elif len(self.pauses) == 4:
                raise EndedError

    async with opened(tmp_path, FakeBroker()) as rig:
        heal, clock = refuse(rig, sqlite3.SQLITE_FULL), Noting()
        await eventually(lambda: looked(rig))
        with pytest.raises(EndedError):
            await rig.services[Probe].run(clock)
        assert clock.pauses == [0.5, 0.5, 2.0, 2.0]


async def test_a_probe_goes_on_after_a_look_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndedError(Exception):
        """All looks of the test are done."""

    class Noting(SystemClock):
        def __init__(self) -> None:
            self.pauses: list[float] = []

        async def sleep(self, seconds: float) -> None:
            self.pauses.append(seconds)
            if len(self.pauses) == 3:
                raise EndedError

    async def breaks() -> None:
        raise RuntimeError("by the test")

    async with opened(tmp_path, FakeBroker()) as rig:
        clock = Noting()
        monkeypatch.setattr(rig.services[Probe], "look", breaks)
        with pytest.raises(EndedError):
            await rig.services[Probe].run(clock)
        assert len(clock.pauses) == 3


async def test_a_probe_sees_a_write_that_does_not_end(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        condition, probe = rig.services.journal, rig.services[Probe]
        heal = delay(rig, 30)
        begun = time.monotonic()
        await eventually(lambda: looked(rig))
        assert time.monotonic() - begun < 15
        assert not condition.writable
        heal()

        async def well() -> bool:
            await probe.look()
            return condition.writable

        await eventually(well)


@pytest.mark.parametrize("harm", ["removed", "replaced", "damaged"])
async def test_a_probe_sees_what_became_of_the_file(tmp_path: Path, harm: str) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        file = tmp_path / "data" / "journal.sqlite3"
        if harm == "removed":
            file.unlink()
        elif harm == "replaced":
            content = file.read_bytes()
            (tmp_path / "copy").write_bytes(content)
            (tmp_path / "copy").replace(file)
        else:
            with file.open("r+b") as opened_file:
                opened_file.write(bytes(100))
        trouble = await eventually(lambda: looked(rig))
        assert "restore its last backup" in trouble.next_step
        with pytest.raises(StoreError):
            await rig.place()


def holding(quantity: float) -> tuple[Position, ...]:
    apple = Contract(con_id=APPLE)
    return (Position(account="DU1234567", contract=apple, quantity=quantity, average_cost=1.0),)


async def test_while_halted_only_what_reduces_a_position_passes(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.held = holding(10)
    async with opened(tmp_path, broker) as rig:
        await rig.halt.halt("", "none", CALLER, allow_closing=True)
        for changes in ({}, {"action": "SELL", "quantity": 11}):
            with pytest.raises(TradingHaltedError, match="reduce a position"):
                await rig.place(f"key {changes}", **changes)
        assert not broker.placed
        first = await rig.place("six", action="SELL", quantity=6)
        with pytest.raises(TradingHaltedError):
            await rig.place("five", action="SELL", quantity=5)
        await rig.place("four", action="SELL", quantity=4)
        with pytest.raises(TradingHaltedError):
            await rig.place("one", action="SELL", quantity=1)
        broker.fill(first.broker_order_id)
        broker.held = holding(4)
        with pytest.raises(TradingHaltedError):
            await rig.place("again", action="SELL", quantity=1)
        assert len(broker.placed) == 2
        await rig.halt.halt("", "none", CALLER)
        await rig.canceller.cancel((await rig.order()).order_id, CALLER)
        with pytest.raises(TradingHaltedError):
            await rig.place("forbidden again", action="SELL", quantity=1)


async def test_closing_orders_of_one_moment_share_the_position(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.held = holding(-10)
    async with opened(tmp_path, broker) as rig:
        await rig.halt.halt("", "none", CALLER, allow_closing=True)
        told = await asyncio.gather(
            *(rig.place(f"key {number}", quantity=4) for number in range(6)),
            return_exceptions=True,
        )
        assert len(broker.placed) == 2
        assert sum(isinstance(each, TradingHaltedError) for each in told) == 4


async def test_orders_of_others_count_against_the_position(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.held = holding(10)
    async with opened(tmp_path, broker) as rig:
        foreign = Order(
            order_id=900, client_id=0, action="SELL", quantity=8, account="DU1234567", perm_id=77
        )
        broker.book[900] = BookedOrder(foreign, Contract(con_id=APPLE, symbol="AAPL"))
        await rig.halt.halt("", "none", CALLER, allow_closing=True)
        with pytest.raises(TradingHaltedError):
            await rig.place("three", action="SELL", quantity=3)
        await rig.place("two", action="SELL", quantity=2)


LATE = HeldBefore(account="DU1234567", con_id=APPLE, symbol="AAPL", sec_type="STK", quantity=10)


@pytest.mark.parametrize("comes", [True, False])
async def test_what_stays_for_a_late_position_is_judged_anew(tmp_path: Path, comes: bool) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        stop = await rig.place(action="SELL", order_type="STP", limit_price=None, stop_price=90.0)
        entry = await rig.place("key-2")
        late: tuple[HeldBefore, ...] = (LATE,)
        rig.canceller.late = lambda: late
        view = await rig.halt.halt("", "opening", CALLER)
        assert view.cancelled is not None
        assert view.cancelled.kept == (stop.order_id,)
        assert view.cancelled.requested == (entry.order_id,)
        await asyncio.sleep(0.1)
        assert len(broker.cancelled) == 1
        broker.held = holding(10) if comes else ()
        late = ()
        await eventually(lambda: not rig.canceller._noting)
        assert len(broker.cancelled) == (1 if comes else 2)
