"""What is said, how often, and what happens when a service does not take it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bridge.alerts import apprise_worker
from bridge.alerts.messages import (
    AddressFileError,
    AlertKind,
    Delivery,
    Message,
    Sender,
    WorkerError,
    read_addresses,
)
from bridge.alerts.service import (
    MOST_UNTOLD,
    REMIND_SECONDS,
    SAME_KIND_SECONDS,
    AlertService,
)
from tests.bridge.alerts.conftest import Stuck, WebHook
from tests.bridge.portal.conftest import JumpingClock
from tests.bridge.wound import WoundClock


class CountingSender(Sender):
    """Takes messages without a process, for the rules that need many."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.sent: list[str] = []
        self.bodies: list[str] = []
        self.levels: list[str] = []

    async def send(
        self, message: object, skip: frozenset[int] = frozenset(), within: float | None = None
    ) -> list[Delivery]:
        self.sent.append(message.title)  # type: ignore[attr-defined]
        self.bodies.append(message.body)  # type: ignore[attr-defined]
        self.levels.append(message.level)  # type: ignore[attr-defined]
        return [Delivery(service="ntfy", sent=True)]


async def drained(alerts: AlertService) -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_test_message_reaches_a_real_service(alerts: AlertService, hook: WebHook) -> None:
    assert await alerts.test() == [Delivery(service="json", sent=True)]
    assert hook.titles == ["gangway (paper): Test message"]


async def test_a_condition_is_told_once_and_when_it_has_ended(
    alerts: AlertService, hook: WebHook, registry: CollectorRegistry
) -> None:
    for _ in range(5):
        alerts.raised(AlertKind.WAITING_2FA, "Approve it on your phone")
    await hook.until(1)
    alerts.cleared(AlertKind.WAITING_2FA)
    alerts.cleared(AlertKind.WAITING_2FA)
    await hook.until(2)
    assert hook.titles == [
        "gangway (paper): The gateway waits for your approval (2FA)",
        "gangway (paper): The gateway no longer waits for an approval",
    ]
    assert hook.received[0]["message"] == "Approve it on your phone"
    assert hook.received[0]["type"] == "failure"
    assert hook.received[1]["type"] == "success"
    labels = {"kind": "waiting-2fa", "result": "sent"}
    async with asyncio.timeout(10):
        while registry.get_sample_value("gangway_alerts_total", labels) != 2:
            await asyncio.sleep(0.01)


async def test_a_service_that_refuses_is_tried_again_and_the_other_is_not(
    hook: WebHook,
    address_file: Path,
    clock: JumpingClock,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.alerts.service.RETRY_SECONDS", (30.0,))
    address_file.chmod(0o600)
    address_file.write_text(f"{hook.address}\njson://127.0.0.1:9/nobody\n")
    alerts = AlertService(Sender(address_file), clock, registry)
    await alerts.start()
    alerts.tell(AlertKind.ORDER_UNKNOWN, "x")
    labels = {"kind": "order-unknown", "result": "failed"}
    async with asyncio.timeout(60):
        while not registry.get_sample_value("gangway_alerts_total", labels):
            await asyncio.sleep(0.05)
    assert len(hook.received) == 1
    await alerts.stop()


async def test_the_same_kind_again_has_to_wait_and_is_counted(clock: JumpingClock) -> None:
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    for _ in range(4):  # a gateway that comes and goes
        alerts.raised(AlertKind.CONNECTION_LOST, "again")
        alerts.cleared(AlertKind.CONNECTION_LOST)
    await drained(alerts)
    assert len(sender.sent) == 2  # the first, and that it ended
    alerts.raised(AlertKind.CONNECTION_LOST, "still")
    clock.advance(SAME_KIND_SECONDS)
    alerts.raised(AlertKind.CONNECTION_LOST, "still")
    alerts.raised(AlertKind.CONNECTION_LOST, "still")
    await drained(alerts)
    assert len(sender.sent) == 3
    assert "4 earlier messages were held back" in sender.bodies[-1]
    await alerts.stop()


async def test_what_is_asked_again_after_an_answer_is_told_at_once(clock: JumpingClock) -> None:
    """Two approvals within ten minutes, as in an `up` and a restart behind it."""
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    for _ in range(2):
        alerts.raised(AlertKind.WAITING_2FA, "Approve it on your phone")
        alerts.cleared(AlertKind.WAITING_2FA)
        await drained(alerts)
    assert len(sender.sent) == 4
    for _ in range(2):  # asked again and again, and nobody answers
        alerts.raised(AlertKind.WAITING_2FA, "Approve it on your phone")
        alerts.forgotten(AlertKind.WAITING_2FA)
        await drained(alerts)
    assert len(sender.sent) == 5
    await alerts.stop()


async def test_a_storm_is_bounded_by_the_hour(clock: JumpingClock) -> None:
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    for _ in range(100):
        alerts.tell(AlertKind.ORDER_UNKNOWN, "x")
        await drained(alerts)
        clock.advance(31)
    assert len(sender.sent) == 20
    await alerts.stop()


async def test_only_the_wanted_events_are_told(clock: JumpingClock) -> None:
    sender = CountingSender()
    wanted = frozenset({AlertKind.ORDER_UNKNOWN})
    alerts = AlertService(sender, clock, CollectorRegistry(), wanted=wanted)
    await alerts.start()
    alerts.raised(AlertKind.WAITING_2FA, "x")
    alerts.cleared(AlertKind.WAITING_2FA)
    alerts.tell(AlertKind.ORDER_UNKNOWN, "x")
    await drained(alerts)
    assert len(sender.sent) == 1
    await alerts.stop()


async def test_addresses_are_never_shown(
    alerts: AlertService, hook: WebHook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.refusing = True
    deliveries = await alerts.test()
    assert deliveries == [Delivery(service="json", sent=False)]
    output = capsys.readouterr()
    assert "do-not-show-me" not in output.out + output.err + repr(deliveries)


async def test_the_library_is_not_loaded_into_the_bridge(
    alerts: AlertService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "apprise"]:
        monkeypatch.delitem(sys.modules, name)  # the deploy tool's own tests may have loaded it
    await alerts.test()
    assert "apprise" not in sys.modules


@pytest.mark.parametrize(
    ("content", "problem"),
    [("just words\n", "line 1"), ("\n# x\nnot one\n", "line 3"), ("ü".encode("latin-1"), "text")],
)
def test_a_file_with_something_else_is_refused_without_its_content(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    path = tmp_path / "alerts"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AddressFileError) as raised:
        read_addresses(path)
    assert problem in raised.value.detail
    assert "words" not in raised.value.detail


async def test_a_missing_file_is_told(tmp_path: Path, clock: JumpingClock) -> None:
    alerts = AlertService(Sender(tmp_path / "none"), clock, CollectorRegistry())
    with pytest.raises(AddressFileError, match="cannot read"):
        await alerts.test()


async def test_a_service_that_hangs_keeps_a_message_from_no_other(
    hook: WebHook, address_file: Path, stuck: Stuck
) -> None:
    address_file.chmod(0o600)
    address_file.write_text(f"{stuck.address}\n{hook.address}\n")
    sending = asyncio.create_task(Sender(address_file).send(Message(title="x", body="y")))
    await hook.until(1)
    stuck.let_go.set()
    assert [each.sent for each in await sending] == [False, True]


WORKERS = {
    "hangs": "import sys, time; print('1 sent', flush=True); time.sleep(600)",
    "breaks": "print('1 sent', flush=True); raise SystemExit(1)",
}


@pytest.mark.parametrize("what", WORKERS)
async def test_what_was_sent_before_the_worker_ended_is_not_sent_again(
    what: str, address_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address_file.chmod(0o600)
    address_file.write_text("json://127.0.0.1:9/a\njson://127.0.0.1:9/b\n")
    worker = tmp_path / "worker.py"
    worker.write_text(WORKERS[what])
    monkeypatch.setattr("bridge.alerts.messages.WORKER", worker)
    monkeypatch.setattr("bridge.alerts.messages.SEND_SECONDS", 3.0)
    deliveries = await Sender(address_file).send(Message(title="x", body="y"))
    assert [each.sent for each in deliveries] == [False, True]


async def test_many_messages_at_once_are_not_as_many_processes(
    address_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = most = 0

    async def work(self: Sender, message: Message, wanted: list[str], _: float) -> list[bool]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return [True]

    monkeypatch.setattr(Sender, "_work", work)
    sender = Sender(address_file)
    await asyncio.gather(*(sender.send(Message(title="x", body="y")) for _ in range(20)))
    assert most == 2


async def test_a_test_waits_for_no_service_that_hangs(
    clock: JumpingClock, address_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, seconds = asyncio.Event(), list[float]()

    async def work(self: Sender, message: Message, wanted: list[str], most: float) -> list[bool]:
        seconds.append(most)
        await let_go.wait()
        return [True]

    monkeypatch.setattr(Sender, "_work", work)
    sender = Sender(address_file)
    alerts = AlertService(sender, clock, CollectorRegistry())
    first = asyncio.create_task(sender.send(Message(title="x", body="y")))
    test = asyncio.create_task(alerts.test())
    async with asyncio.timeout(20):
        while len(seconds) < 2:
            await asyncio.sleep(0.01)
    shorter, longer = sorted(
        seconds
    )  # which of them comes first is decided by the threads that read addresses
    assert shorter <= 30, "and Caddy waits for 35"
    assert longer == 60
    monkeypatch.setattr("bridge.alerts.service.TEST_SECONDS", 0.0)
    with pytest.raises(WorkerError, match="2 other messages"):
        await alerts.test()
    let_go.set()
    assert [each.sent for each in (*await first, *await test)] == [True, True]


async def test_a_machine_without_memory_is_tried_again(
    clock: JumpingClock, address_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    async def no_memory(*_: object, **__: object) -> None:
        tries.append(clock.monotonic())
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("asyncio.create_subprocess_exec", no_memory)
    alerts = AlertService(Sender(address_file), clock, CollectorRegistry())
    await alerts.start()
    alerts.tell(AlertKind.ORDER_UNKNOWN, "x")
    async with asyncio.timeout(20):
        while len(tries) < 4:
            await asyncio.sleep(0.01)
    with pytest.raises(WorkerError, match="Cannot allocate memory"):
        await alerts.test()
    await alerts.stop()


@pytest.mark.parametrize("content", ["", "\n\n", "# nobody yet\n"])
async def test_a_file_without_addresses_reaches_nobody_and_says_so(
    tmp_path: Path, clock: JumpingClock, content: str
) -> None:
    (tmp_path / "alerts").write_text(content)
    alerts = AlertService(Sender(tmp_path / "alerts"), clock, CollectorRegistry())
    with pytest.raises(AddressFileError, match="holds no address"):
        await alerts.test()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library loads all of its services
def test_what_is_too_long_for_a_service_comes_in_parts() -> None:
    import apprise

    address = f"pover://{'u' * 30}@{'a' * 30}"
    for text, mode in ((address, "split"), (f"{address}?overflow=truncate", "truncate")):
        service = apprise_worker._service(apprise, text)
        assert [plugin.overflow_mode.value for plugin in service] == [mode]
    assert apprise_worker._service(apprise, "nonsense://x") is None


async def test_all_orders_of_one_lost_connection_are_told(clock: JumpingClock) -> None:
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    told = [alerts.tell(AlertKind.ORDER_UNKNOWN, f"order {number}.") for number in range(1, 6)]
    assert told == [True, False, False, False, False]
    for seconds in (0, 29):
        clock.advance(seconds)
        alerts.tend()
        await drained(alerts)
        assert sender.bodies == ["order 1."]
    clock.advance(1)
    alerts.tend()
    await drained(alerts)
    assert sender.bodies[1:] == ["order 2.\n\norder 3.\n\norder 4.\n\norder 5."]
    clock.advance(31)
    alerts.tend()
    await drained(alerts)
    assert len(sender.bodies) == 2
    await alerts.stop()


async def test_rules_that_fire_together_are_few_messages_and_none_is_lost(
    clock: JumpingClock,
) -> None:
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    for number in range(30):
        alerts.tell(AlertKind.RULE, f"[{number}]", level="failure" if number == 7 else "info")
    for _ in range(4):
        await drained(alerts)
        clock.advance(5)
        alerts.tend()
    assert len(sender.bodies) == 3
    assert all(f"[{number}]" in "".join(sender.bodies) for number in range(30))
    assert sender.levels == ["info", "failure", "info"]
    await alerts.stop()


async def test_a_client_that_comes_and_goes_silences_no_other_alert(clock: JumpingClock) -> None:
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    for _ in range(60):
        alerts.tell(AlertKind.CLIENT_SILENT, "x")
        alerts.tend()
        await drained(alerts)
        clock.advance(31)
    assert len(sender.sent) == 20
    assert alerts.tell(AlertKind.ORDER_UNKNOWN, "x")
    alerts.raised(AlertKind.WAITING_2FA, "x")
    await drained(alerts)
    assert len(sender.sent) == 22
    await alerts.stop()


class FickleSender(CountingSender):
    """Stands for services that take a message or not, as they are told to."""

    def __init__(self, *takes: bool) -> None:
        super().__init__()
        self.takes = list(takes)
        self.taken: list[str] = []

    async def send(
        self, message: Any, skip: frozenset[int] = frozenset(), within: float | None = None
    ) -> list[Delivery]:
        await super().send(message, skip)
        if any(self.takes):
            self.taken.append(f"{message.title}\n{message.body}")
        return [Delivery(service="ntfy", sent=take) for take in self.takes]


async def test_what_nobody_takes_is_told_as_soon_as_somebody_does(clock: JumpingClock) -> None:
    sender = FickleSender(False)
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    alerts.raised(AlertKind.BAD_CREDENTIALS, "the password")
    alerts.tell(AlertKind.ORDER_UNKNOWN, "the order")
    alerts.raised(AlertKind.WAITING_2FA, "the approval")
    for _ in range(5):
        await drained(alerts)
    assert len(sender.sent) == 12, "four tries of each"
    need = alerts.need()
    assert need
    assert (need.code, need.message) == (
        "alerts-undelivered",
        "Alerts reach nobody; 3 could not be sent",
    )
    alerts.forgotten(AlertKind.WAITING_2FA)  # it is not waited for any more
    for _ in range(3):
        clock.advance(600)
        alerts.tend()
        await drained(alerts)
    assert len(sender.sent) == 15, "all of them in one message"
    sender.takes = [True]
    clock.advance(600)
    alerts.tend()
    await drained(alerts)
    (late,) = sender.taken
    assert late.startswith("The gateway's login was refused and 1 more (late)\n2025-06-15 ")
    assert "the password" in late
    assert "the order" in late
    assert "the approval" not in late
    assert alerts.need() is None
    clock.advance(3600)
    alerts.tend()
    alerts.raised(AlertKind.BAD_CREDENTIALS, "the password")
    await drained(alerts)
    assert len(sender.taken) == 1
    alerts.cleared(AlertKind.BAD_CREDENTIALS)
    await drained(alerts)
    assert len(sender.taken) == 2
    await alerts.stop()


async def test_events_push_nothing_out_that_still_holds(clock: JumpingClock) -> None:
    """A condition is told once: pushed out of what waits it would never be."""
    sender = FickleSender(False)
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    alerts.raised(AlertKind.BAD_CREDENTIALS, "the password")
    await drained(alerts)
    for number in range(MOST_UNTOLD + 5):
        clock.advance(6)
        alerts.tell(AlertKind.RULE, f"rule {number}.")
        await drained(alerts)
    for _ in range(5):
        await drained(alerts)
    sender.takes = [True]
    clock.advance(600)
    for _ in range(5):
        alerts.tend()
        await drained(alerts)
    told = "\n".join(sender.taken)
    assert "the password" in told
    assert f"rule {MOST_UNTOLD + 4}." in told
    assert "rule 0." not in told, "the oldest event has made room"
    assert alerts.need() is None
    await alerts.stop()


async def test_a_message_that_is_sent_again_does_not_come_after_what_it_tells_is_over() -> None:
    clock, sender = WoundClock(), FickleSender(True, False)
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    alerts.raised(AlertKind.WAITING_2FA, "approve it")
    await drained(alerts)
    alerts.cleared(AlertKind.WAITING_2FA)
    await clock.wind(800)
    assert [title for title in sender.sent if "waits for your" in title] == sender.sent[:1]
    assert len(sender.sent) == 5
    await alerts.stop()


@pytest.mark.parametrize("heard", [True, False], ids=["told", "still on its way"])
async def test_good_news_does_not_come_after_the_trouble_is_back(heard: bool) -> None:
    """The last word that a flaky service gets is what is so."""
    clock, sender = WoundClock(), FickleSender(True, True)
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    alerts.raised(AlertKind.WAITING_2FA, "approve it")
    await drained(alerts)
    sender.takes = [heard, False]
    alerts.cleared(AlertKind.WAITING_2FA)
    if heard:
        await drained(alerts)
    alerts.raised(AlertKind.WAITING_2FA, "approve it again")
    sender.takes = [True, True]
    good = len([title for title in sender.sent if "no longer" in title])
    assert good == heard
    await clock.wind(800)
    await drained(alerts)
    assert len([title for title in sender.sent if "no longer" in title]) == good
    assert "waits for your" in sender.sent[-1]
    await alerts.stop()


async def test_a_dead_service_makes_nobody_else_hear_the_end_again_and_again() -> None:
    clock = WoundClock()

    class OneDead(CountingSender):
        """The first takes what is not skipped, the second nothing."""

        async def send(
            self, message: Any, skip: frozenset[int] = frozenset(), within: float | None = None
        ) -> list[Delivery]:
            if 0 not in skip:
                self.sent.append(message.title)
            return [Delivery(service="ntfy", sent=True), Delivery(service="mail", sent=False)]

    sender = OneDead()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    for _ in range(6):
        alerts.raised(AlertKind.DISK_LOW, "900 MB are free")
        await drained(alerts)
        alerts.cleared(AlertKind.DISK_LOW)
        await drained(alerts)
        await clock.wind(5)
    assert sender.sent == ["The disk is nearly full", "The disk has room again"]
    await clock.wind(1000)
    alerts.raised(AlertKind.DISK_LOW, "900 MB are free")
    await drained(alerts)
    alerts.cleared(AlertKind.DISK_LOW)
    await drained(alerts)
    assert len(sender.sent) == 4, "of what was told again the end is told again"
    await alerts.stop()


async def test_what_lasts_is_told_once_a_day() -> None:
    """Who was away, or has missed the first message, hears of it after all."""
    clock, sender = WoundClock(), CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()

    async def looked(kind: AlertKind, after: float, body: str = "x") -> int:
        await clock.wind(after)
        for _ in range(3):
            alerts.raised(kind, body)
        await drained(alerts)
        return len(sender.sent)

    assert await looked(AlertKind.DISK_LOW, 0.0, "900 MB are free") == 1
    assert await looked(AlertKind.DISK_LOW, REMIND_SECONDS - 1) == 1
    assert await looked(AlertKind.DISK_LOW, 1.0, "20 MB are free") == 2
    assert sender.bodies[-1] == "20 MB are free"
    assert await looked(AlertKind.DISK_LOW, REMIND_SECONDS - 1) == 2
    assert await looked(AlertKind.DISK_LOW, 1.0) == 3
    alerts.cleared(AlertKind.DISK_LOW)
    await drained(alerts)
    assert sender.sent[3:] == ["The disk has room again"]
    assert await looked(AlertKind.VERSION_ENDS, 0.0) == 5
    assert await looked(AlertKind.VERSION_ENDS, 3 * REMIND_SECONDS) == 5
    await alerts.stop()


async def test_what_nobody_has_got_yet_is_no_reminder() -> None:
    clock, sender = WoundClock(), FickleSender(False)
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    alerts.raised(AlertKind.DISK_LOW, "x")
    await drained(alerts)
    await clock.wind(800)
    tried = len(sender.sent)
    await clock.wind(REMIND_SECONDS)
    alerts.raised(AlertKind.DISK_LOW, "x")
    await drained(alerts)
    assert len(sender.sent) == tried
    assert alerts.need() is not None
    await alerts.stop()


async def test_nobody_is_told_of_the_end_of_what_nobody_has_heard_of() -> None:
    clock, sender = WoundClock(), FickleSender(False)
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    alerts.raised(AlertKind.CONNECTION_LOST, "x")
    await drained(alerts)
    sender.takes = [True]
    alerts.cleared(AlertKind.CONNECTION_LOST)
    await clock.wind(800)
    alerts.tend()
    await drained(alerts)
    assert sender.taken == []
    await alerts.stop()


async def test_that_the_addresses_cannot_be_read_needs_a_person(
    tmp_path: Path, clock: JumpingClock
) -> None:
    alerts = AlertService(Sender(tmp_path / "none"), clock, CollectorRegistry())
    await alerts.start()
    need = alerts.need()
    assert need
    assert need.message.startswith("Alerts reach nobody: cannot read ")
    assert "alerts.urls" in need.next_step
    (tmp_path / "none").write_text("ntfy://topic\n")
    alerts.tend()
    assert alerts.need() is None
    await alerts.stop()


async def test_another_trouble_of_the_same_kind_is_told(clock: JumpingClock) -> None:
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    for _ in range(3):
        alerts.raised(AlertKind.LOGIN_BLOCKED, "a session elsewhere", "session-taken")
    for wait in (0, SAME_KIND_SECONDS):
        clock.advance(wait)
        for _ in range(3):
            alerts.raised(AlertKind.LOGIN_BLOCKED, "a new password", "password-expired")
            await drained(alerts)
    assert [body.partition("\n")[0] for body in sender.bodies] == [
        "a session elsewhere",
        "a new password",
    ]
    alerts.cleared(AlertKind.LOGIN_BLOCKED)
    await drained(alerts)
    assert len(sender.bodies) == 3
    await alerts.stop()


async def test_no_account_and_no_key_leaves_with_a_message(clock: JumpingClock) -> None:
    sender = CountingSender()
    alerts = AlertService(sender, clock, CollectorRegistry())
    await alerts.start()
    alerts.tell(AlertKind.MESSAGE_SET_ASIDE, "execution of DU1234567, by gwk_abcdefgh12: torn")
    await drained(alerts)
    assert sender.bodies == ["execution of DU123***67, by gwk_***: torn"]
    await alerts.send_now(AlertKind.DEPLOY_FAILED, "U7654321 is not there")
    assert sender.bodies[1:] == ["U765***21 is not there"]
    await alerts.stop()
