"""What is told, ended, limited and not yet sent, over restarts of the bridge."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bridge.alerts import memory as memory_module
from bridge.alerts.memory import FILE_NAME, Kept, Memory
from bridge.alerts.messages import AlertKind
from bridge.alerts.service import CONFIRM_SECONDS, MOST_UNTOLD, SETTLES_SECONDS, AlertService
from bridge.store.identity import replace_file
from tests.bridge.alerts.test_service import FickleSender, drained
from tests.bridge.portal.conftest import JumpingClock


class Host:
    """One data folder, one clock, and services that take messages or not."""

    def __init__(self, folder: Path, clock: JumpingClock) -> None:
        self.folder = folder
        self.clock = clock
        self.sender = FickleSender(True)

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[AlertService]:
        alerts = AlertService(
            self.sender, self.clock, CollectorRegistry(), memory=Memory(self.folder)
        )
        await alerts.start()
        try:
            yield alerts
            await drained(alerts)
        finally:
            await alerts.stop()


@pytest.fixture
def host(tmp_path: Path, clock: JumpingClock) -> Host:
    return Host(tmp_path, clock)


async def test_a_restart_repeats_nothing_and_forgets_no_end(host: Host) -> None:
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.CONNECTION_LOST, "x")
    for _ in range(3):
        async with host.bridge() as alerts:
            host.clock.advance(3600)
            alerts.raised(AlertKind.CONNECTION_LOST, "x")
    assert len(host.sender.taken) == 1
    async with host.bridge() as alerts:
        host.clock.advance(SETTLES_SECONDS)
        alerts.cleared(AlertKind.CONNECTION_LOST)
    assert host.sender.taken[1:] == ["The connection to the broker is back\nNothing to do."]
    async with host.bridge() as alerts:
        alerts.cleared(AlertKind.CONNECTION_LOST)
    assert len(host.sender.taken) == 2


@pytest.mark.parametrize("ends", ["stops", "is killed"])
async def test_restarts_put_no_reminder_off(host: Host, ends: str) -> None:
    told = await told_by_hours(host, 50, ends)
    assert told == [1] * 24 + [2] * 24 + [3] * 2


async def told_by_hours(host: Host, hours: int, ends: str = "is killed") -> list[int]:
    """Messages by hour of a condition that lasts, with a restart in each."""
    told, file = [0] * hours, host.folder / FILE_NAME
    for hour in range(hours):
        async with host.bridge() as alerts:
            alerts.raised(AlertKind.DISK_LOW, "x")
            await until_kept(alerts)
            kept = file.read_bytes()
        if ends == "is killed":
            file.write_bytes(kept)
        told[hour] = len(host.sender.taken)
        host.clock.advance(3600)
    return told


async def until_kept(alerts: AlertService) -> None:
    async with asyncio.timeout(10):
        while alerts._keeping:
            await asyncio.sleep(0.001)


class SetClock(JumpingClock):
    """Its wall time can be set."""

    ahead = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)


@pytest.mark.parametrize(("ahead", "first"), [(-365 * 86400.0, 24), (365 * 86400.0, 0)])
async def test_a_clock_that_was_set_silences_no_reminder_and_sends_no_row(
    tmp_path: Path, ahead: float, first: int
) -> None:
    clock = SetClock()
    host = Host(tmp_path, clock)
    await told_by_hours(host, 1)
    clock.ahead = ahead
    told = await told_by_hours(host, first + 24)
    assert told == [1] * first + [2] * 24
    clock.ahead = 0.0
    assert await told_by_hours(host, 25) == [3 if ahead < 0 else 2] * 24 + [3 + (ahead < 0)]


async def test_a_file_without_times_reminds_a_day_later(host: Host) -> None:
    (host.folder / FILE_NAME).write_text('{"told": {"disk-low": ""}}')
    assert await told_by_hours(host, 26) == [0] * 24 + [1] * 2


async def test_good_news_waits_until_all_is_known(host: Host) -> None:
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.JOURNAL, "x")
    async with host.bridge() as alerts:
        alerts.cleared(AlertKind.JOURNAL)  # the disk was not looked at yet
        alerts.forgotten(AlertKind.JOURNAL)
        host.clock.advance(SETTLES_SECONDS)
        alerts.raised(AlertKind.JOURNAL, "x")
    assert len(host.sender.taken) == 1


async def test_what_is_not_seen_to_hold_any_more_hides_nothing(host: Host) -> None:
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.CERTIFICATE, "x")
    async with host.bridge() as alerts:
        host.clock.advance(CONFIRM_SECONDS)
        alerts.tend()
        alerts.raised(AlertKind.CERTIFICATE, "y")
    assert len(host.sender.taken) == 2


async def test_a_trouble_that_was_not_told_yet_is_told_after_the_restart(host: Host) -> None:
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.LOGIN_BLOCKED, "x", "session-taken")
        alerts.raised(AlertKind.LOGIN_BLOCKED, "y", "password-expired")  # within ten minutes
    async with host.bridge() as alerts:
        host.clock.advance(600)
        alerts.raised(AlertKind.LOGIN_BLOCKED, "y", "password-expired")
    assert [each.splitlines()[1] for each in host.sender.taken] == ["x", "y"]


async def test_the_limits_hold_over_restarts(host: Host) -> None:
    for _ in range(60):
        async with host.bridge() as alerts:
            alerts.raised(AlertKind.DISK_LOW, "x")
            alerts.tell(AlertKind.DEPLOY_FAILED, "y")
            alerts.tell(AlertKind.ORDER_UNKNOWN, "z")
        host.clock.advance(31)
    titles = [each.splitlines()[0] for each in host.sender.taken]
    assert titles.count("The disk is nearly full") == 1
    assert titles.count("A deploy failed") <= 4
    assert titles.count("An order may or may not have reached the broker") == 20


async def test_the_next_process_sends_what_could_not_be_sent(host: Host) -> None:
    host.sender.takes = [False]
    async with host.bridge() as alerts:
        alerts.tell(AlertKind.ORDER_UNKNOWN, "the first order")
        alerts.tell(AlertKind.ORDER_UNKNOWN, "the second order")
        alerts.raised(AlertKind.BAD_CREDENTIALS, "the password")
        alerts.raised(AlertKind.WAITING_2FA, "the approval")
        alerts.forgotten(AlertKind.WAITING_2FA)
    host.sender.takes = [True]
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.BAD_CREDENTIALS, "the password")
        alerts.tend()
    (late,) = host.sender.taken
    for text in ("the first order", "the second order", "the password"):
        assert late.count(text) == 1
    assert "the approval" not in late
    async with host.bridge() as alerts:
        alerts.tend()
    assert len(host.sender.taken) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        '{"told": 3}',
        '{"told": {"no-such-kind": "x"}, "last": {"also-none": 1}, "recent": {"none": [1]}}',
        '{"untold": [{"kind": "clock", "title": "x", "body": "y", "level": "info", "at": 1e300}]}',
        '{"untold": [{"kind": "none", "title": "x", "body": "y", "level": "info", "at": 1}]}',
    ],
)
async def test_a_damaged_file_is_no_end(host: Host, content: str) -> None:
    (host.folder / FILE_NAME).write_text(content)
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.CLOCK, "x")
    assert len(host.sender.taken) == 1


async def test_where_nothing_can_be_kept_alerts_are_told_all_the_same(
    tmp_path: Path, clock: JumpingClock
) -> None:
    host = Host(tmp_path / "none", clock)
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.CLOCK, "x")
    assert len(host.sender.taken) == 1


async def test_what_still_holds_is_not_pushed_out_over_a_restart(host: Host) -> None:
    host.sender.takes = [False]
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.BAD_CREDENTIALS, "the password")
        for number in range(MOST_UNTOLD + 5):
            alerts.tell(AlertKind.ORDER_UNKNOWN, f"order {number}.")
    host.sender.takes = [True]
    async with host.bridge() as alerts:
        alerts.raised(AlertKind.BAD_CREDENTIALS, "the password")
        for _ in range(5):
            alerts.tend()
            await drained(alerts)
    told = "\n".join(host.sender.taken)
    assert told.count("the password") == 1
    assert f"order {MOST_UNTOLD + 4}." in told
    assert "order 0." not in told


async def test_a_disk_that_hangs_keeps_no_thread_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They read the addresses with it: that the disk hangs has to be told, too."""
    goes_on, writes = threading.Event(), list[bytes]()

    def hangs(path: Path, content: bytes, *, durable: bool) -> None:
        writes.append(content)
        goes_on.wait(60)
        replace_file(path, content, durable=durable)

    monkeypatch.setattr(memory_module, "replace_file", hangs)
    monkeypatch.setattr(memory_module, "KEEP_SECONDS", 0.01)
    memory = Memory(tmp_path)
    try:
        for number in range(40):
            await memory.keep(Kept(told={"clock": f"{number}"}))
        async with asyncio.timeout(10):
            await asyncio.to_thread(len, "")
    finally:
        goes_on.set()
    monkeypatch.setattr(memory_module, "KEEP_SECONDS", 30)
    await memory.keep(Kept(told={"clock": "last"}))
    assert Memory(tmp_path).load().told == {"clock": "last"}
    assert len(writes) <= 3, "the first, and the newest after it"


async def test_what_came_meanwhile_is_kept_although_the_write_in_hand_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, begun = threading.Event(), threading.Event()

    def fails_once(path: Path, content: bytes, *, durable: bool) -> None:
        if not goes_on.is_set():
            begun.set()
            goes_on.wait(60)
            raise OSError("no space is left")
        replace_file(path, content, durable=durable)

    monkeypatch.setattr(memory_module, "replace_file", fails_once)
    monkeypatch.setattr(memory_module, "KEEP_SECONDS", 30)
    memory = Memory(tmp_path)
    keeping = [asyncio.create_task(memory.keep(Kept(told={"clock": "first"})))]
    await asyncio.to_thread(begun.wait, 30)
    keeping.append(asyncio.create_task(memory.keep(Kept(told={"clock": "last"}))))
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(*keeping)
    assert Memory(tmp_path).load().told == {"clock": "last"}
