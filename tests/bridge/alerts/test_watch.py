"""Conditions as they arise on a real session with the simulated gateway."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from bridge.alerts.messages import AlertKind
from bridge.alerts.watch import ConditionWatch, order_text
from bridge.orders.health import OrderAlerts
from bridge.portal.service import PortalService, SessionView
from bridge.portal.state import PortalState
from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.store import Database, orders
from bridge.store.condition import JournalCondition
from bridge.tws.connection_context import ConnectionContext, Target
from bridge.tws.connection_state import DialProblem, Socket
from tests.bridge.alerts.conftest import WebHook
from tests.bridge.orders.samples import record
from tests.bridge.portal.conftest import JumpingClock
from tests.bridge.portal.running import running

OFF = SessionView(enabled=False, state=PortalState.OFF, next_action="")


class Told:
    """Stands for the alerts: what was raised and cleared."""

    def __init__(self) -> None:
        self.active: dict[AlertKind, str] = {}
        self.resolved: list[AlertKind] = []
        self.about: dict[AlertKind, str] = {}

    def raised(self, kind: AlertKind, body: str, about: str = "") -> None:
        if self.about.get(kind) != about:
            self.active.pop(kind, None)
        self.about[kind] = about
        self.active.setdefault(kind, body)

    def cleared(self, kind: AlertKind) -> None:
        if self.active.pop(kind, None):
            self.resolved.append(kind)

    def forgotten(self, kind: AlertKind) -> None:
        self.active.pop(kind, None)

    def tend(self) -> None: ...


class Rig:
    def __init__(
        self, file: Path | None = None, restart: str = "", *, other: Path | None = None
    ) -> None:
        self.clock = JumpingClock()
        self.told = Told()
        rules = (RestartRule("auto-restart", restart, None, 6),) if restart else ()
        target = Target(
            restarts=RestartCalendar(rules),
            login_state_file=file,
            other_login_file=other,
            session="paper",
        )
        self.context = ConnectionContext(target, self.clock)  # type: ignore[arg-type]
        self.watch = ConditionWatch(
            self.told,  # type: ignore[arg-type]
            self.context,
            self.clock,
            lost_seconds=300,
            journal=JournalCondition(),
        )

    def ready(self) -> None:
        self.context.status.update(started=True, socket=Socket.UP, reconciled=True)

    def lost(self) -> None:
        self.context.status.update(socket=Socket.NONE, reconciled=False)

    def look(self, portal: SessionView = OFF) -> dict[AlertKind, str]:
        self.watch.look(portal)
        return self.told.active


def test_a_lost_connection_is_told_after_some_minutes_only() -> None:
    rig = Rig()
    rig.ready()
    assert rig.look() == {}
    rig.lost()
    rig.look()
    rig.clock.advance(299)
    assert rig.look() == {}
    rig.clock.advance(2)
    assert "For 5 minutes" in rig.look()[AlertKind.CONNECTION_LOST]
    rig.ready()
    assert rig.look() == {}
    rig.lost()
    rig.clock.advance(10)
    assert rig.look() == {}


def test_a_bridge_that_never_connects_is_told_as_well() -> None:
    rig = Rig()
    rig.look()
    rig.clock.advance(301)
    assert AlertKind.CONNECTION_LOST in rig.look()


def test_a_planned_restart_is_no_alarm_until_it_takes_too_long() -> None:
    rig = Rig(restart="23:45")
    rig.ready()
    # 23:45 in New York
    rig.clock.advance((rig.context.target.restarts.seconds_left(rig.clock.now()) or 0.0) + 1)
    rig.look()
    rig.lost()
    rig.look()
    rig.clock.advance(301)
    assert rig.context.expected_now()
    assert AlertKind.CONNECTION_LOST not in rig.look()
    rig.clock.advance(3600)
    assert AlertKind.CONNECTION_LOST in rig.look()


class Facts:
    """What the hook beside the gateway writes down, event by event."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / "login-paper"
        self.at = 1_763_740_800
        self.file.write_text(f"{self.at} by ibc\n{self.at} launch password\n")

    def add(self, *events: str) -> None:
        with self.file.open("a") as file:
            for event in events:
                self.at += 5
                file.write(f"{self.at} {event}\n")


@pytest.mark.parametrize(
    ("event", "kind", "said"),
    [
        ("refused", AlertKind.BAD_CREDENTIALS, "secrets set tws-password"),
        ("locked", AlertKind.LOGIN_LOCKED, "wait as long as IBKR says"),
        ("passkey", AlertKind.LOGIN_BLOCKED, "another second factor"),
        ("yielded", AlertKind.LOGIN_BLOCKED, "end the other session"),
        ("blocker Login Messages", AlertKind.LOGIN_BLOCKED, "(Login Messages)"),
        ("push", AlertKind.WAITING_2FA, "on IBKR Mobile"),
        ("device", AlertKind.WAITING_2FA, "gateway.two_factor.device"),
        ("code", AlertKind.WAITING_2FA, "type the code"),
    ],
)
def test_what_the_gateways_login_says(
    tmp_path: Path, event: str, kind: AlertKind, said: str
) -> None:
    facts = Facts(tmp_path)
    rig = Rig(facts.file)
    rig.context.status.update(started=True)
    assert rig.look() == {}
    facts.add("attempt 1", event)
    assert set(rig.look()) == {kind}
    assert said in rig.told.active[kind]
    if event in ("device", "code"):
        assert "IBKR Mobile" not in rig.told.active[kind]
    facts.add("launch password", "attempt 1", "login")
    assert rig.look() == {}
    assert rig.told.resolved == [kind]


def test_a_dialog_that_merely_reopens_is_not_told_as_over(tmp_path: Path) -> None:
    facts = Facts(tmp_path)
    rig = Rig(facts.file)
    rig.context.status.update(started=True)
    for attempt in range(1, 5):
        facts.add(f"attempt {attempt}", "push")
        assert set(rig.look()) == {AlertKind.WAITING_2FA}
        facts.add("closed Second Factor Authentication", "duration 183", "asked-again")
        assert set(rig.look()) == {AlertKind.WAITING_2FA}
    assert rig.told.resolved == []
    facts.add("duration 20", "ends-soon 60", "login")
    rig.look()
    assert rig.told.resolved == [AlertKind.WAITING_2FA]


@pytest.mark.parametrize("end", ["failed", "refused", "not-asked-again"])
def test_a_wait_that_ends_badly_is_not_told_as_nothing_to_do(tmp_path: Path, end: str) -> None:
    facts = Facts(tmp_path)
    rig = Rig(facts.file)
    rig.context.status.update(started=True)
    facts.add("attempt 1", "push")
    rig.look()
    facts.add("duration 183", end)
    assert AlertKind.WAITING_2FA not in rig.look()
    assert rig.told.resolved == []


def test_after_a_while_a_broker_that_lets_nobody_in_is_told_with_its_reason(
    tmp_path: Path,
) -> None:
    facts = Facts(tmp_path)
    rig = Rig(facts.file)
    rig.context.status.update(started=True, problem=DialProblem.REFUSED)
    facts.add("attempt 1", "failed", "exit 0", "pause 60")
    assert rig.look() == {}
    rig.clock.advance(301)
    told = rig.look()[AlertKind.CONNECTION_LOST]
    assert "refuses logins without a reason" in told
    assert "next attempt at 2025-11-21T16:0" in told
    assert "just been started" not in told


def test_waiting_for_an_approval() -> None:
    rig = Rig()
    rig.context.status.update(started=True, logging_in=True)
    assert "Approve" in rig.look()[AlertKind.WAITING_2FA]
    rig.ready()
    assert rig.look() == {}


def test_a_gateway_that_dies_while_it_waits_is_no_good_news() -> None:
    rig = Rig()
    rig.context.status.update(started=True, logging_in=True)
    rig.look()
    rig.context.status.update(logging_in=False, problem=DialProblem.REFUSED)
    assert rig.look() == {}
    assert rig.told.resolved == []
    rig.context.status.update(logging_in=True)
    assert AlertKind.WAITING_2FA in rig.look(), "a new wait is told anew"
    rig.context.status.update(logging_in=False, problem=None)
    rig.look()
    rig.ready()
    assert rig.look() == {}
    assert rig.told.resolved == [AlertKind.WAITING_2FA]


def test_a_portal_that_needs_a_login() -> None:
    rig = Rig()
    rig.ready()
    needed = SessionView(
        enabled=True,
        state=PortalState.LOGIN_REQUIRED,
        next_action="Log in",
        login_url="https://portal:5000/",
    )
    assert "https://portal:5000/" in rig.look(needed)[AlertKind.PORTAL_LOGIN]
    unreachable = SessionView(enabled=True, state=PortalState.UNREACHABLE, next_action="")
    assert AlertKind.PORTAL_LOGIN in rig.look(unreachable)
    connected = SessionView(enabled=True, state=PortalState.CONNECTED, next_action="")
    assert rig.look(connected) == {}


async def test_a_whole_bridge_tells_of_a_login_that_is_needed(
    tmp_path: Path, hook: WebHook, address_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.alerts.watch.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("bridge.portal.client.START_SECONDS", -1.0)
    async with running(tmp_path, portal="http", alerts_file=address_file) as bridge:
        await bridge.ready()
        session = bridge.bridge.services[PortalService].running
        await session.check()  # joins the one of the start
        bridge.simulator.world.faults.start("portal-logged-out")
        await session.check()
        await hook.until(1)
        assert hook.titles == ["gangway (paper): The Client Portal needs a login"]
        tested = await bridge.client.post("/alerts/test")
        assert tested.json() == {"services": [{"service": "json", "sent": True}]}


async def test_without_an_address_file_nothing_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        answer = await bridge.client.post("/alerts/test")
        assert (answer.status_code, answer.json()["code"]) == (404, "alerts-off")


async def test_what_happened_outside_is_told_once_in_a_while(
    tmp_path: Path, hook: WebHook, address_file: Path
) -> None:
    async with running(tmp_path, alerts_file=address_file) as bridge:
        body = {"event": "deploy-failed", "text": "`up` by me: it broke"}
        first = await bridge.client.post("/alerts", json=body)
        second = await bridge.client.post("/alerts", json=body)
        assert (first.json(), second.json()) == ({"told": True}, {"told": False})
        await hook.until(1)
        assert hook.received[0]["message"] == "`up` by me: it broke"
        assert hook.titles == ["gangway (paper): A deploy failed"]
        wrong = [{**body, "event": "waiting-2fa"}, {**body, "text": ""}, {"event": "deploy-failed"}]
        for each in wrong:
            assert (await bridge.client.post("/alerts", json=each)).status_code == 422


@pytest.mark.parametrize(("wanted", "sent"), [("", 1), ("deploy-failed", 1), ("disk-low", 0)])
async def test_the_command_tells_what_stands_on_standard_input(
    hook: WebHook, address_file: Path, wanted: str, sent: int
) -> None:
    variables = {"BRIDGE_ALERTS_FILE": str(address_file), "BRIDGE_ALERT_EVENTS": wanted}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bridge", "alerts", "tell", "deploy-failed"],
            env={**os.environ, **variables},
            input="`up` by me: it broke\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["services"]) == sent
    assert [message["message"] for message in hook.received] == ["`up` by me: it broke"] * sent


async def test_the_command_sends_and_fails_as_its_exit_code_says(
    hook: WebHook, address_file: Path
) -> None:
    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bridge", "alerts", "test"],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = await asyncio.to_thread(run, BRIDGE_ALERTS_FILE=str(address_file))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"services": [{"service": "json", "sent": True}]}
    hook.refusing = True
    refused = await asyncio.to_thread(run, BRIDGE_ALERTS_FILE=str(address_file))
    assert refused.returncode == 1
    missing = await asyncio.to_thread(run)
    assert missing.returncode == 1
    assert missing.stderr.splitlines()[1].endswith("for this one set BRIDGE_ALERTS_FILE")


async def test_an_order_of_unknown_fate_is_told(
    tmp_path: Path, hook: WebHook, address_file: Path
) -> None:
    async with running(tmp_path, alerts_file=address_file) as bridge:
        await bridge.ready()
        order = {
            "symbol": "AAPL",
            "action": "BUY",
            "quantity": 1,
            "orderType": "LMT",
            "limitPrice": 1.0,
        }
        headers = {"Idempotency-Key": "fate-unknown"}
        placed = await bridge.client.post("/order", json=order, headers=headers)
        assert placed.status_code < 300, placed.text
        services = bridge.bridge.services
        (record,) = await services[Database].read(orders.open_orders)
        services[OrderAlerts].order_unknown.emit(record)
        await hook.until(1)
        assert hook.titles[0].endswith("An order may or may not have reached the broker")
        assert "BUY 1 AAPL" in hook.received[0]["message"]


async def test_a_client_that_falls_silent_is_told(
    tmp_path: Path, hook: WebHook, address_file: Path
) -> None:
    rules = tmp_path / "trading.json"
    rules.write_text('{"cancel_when_silent": 0.6}')
    async with running(tmp_path, alerts_file=address_file, trading_file=rules) as bridge:
        await bridge.ready()
        armed = await bridge.client.post("/trading/heartbeat")
        assert armed.json()["armed"]
        await hook.until(1)
        assert hook.titles[0].endswith("A client fell silent")
        assert "Cancelled: 0 open orders" in hook.received[0]["message"]


def test_a_journal_that_falls_behind_is_told_and_over_when_it_has_caught_up() -> None:
    rig = Rig()
    rig.ready()
    age = 0.0
    rig.watch._journal.measure(lambda: age)
    rig.watch.look(OFF)
    assert AlertKind.JOURNAL not in rig.told.active
    age = 2.5
    rig.watch.look(OFF)
    assert "has waited 2 s" in rig.told.active[AlertKind.JOURNAL]
    age = 0.0
    rig.watch.look(OFF)
    assert AlertKind.JOURNAL not in rig.told.active
    rig.watch._journal.writable = False
    rig.watch.look(OFF)
    assert "cannot be written" in rig.told.active[AlertKind.JOURNAL]


ENDS = (
    "The version of the application you are running, 1039.1, needs to be upgraded, as it will be"
    " desupported on 20261215. The minimum supported version at that time will be 1050.1. "
)


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (2172, ENDS, "version 1039.1 from 2026-12-15 on; the oldest that it takes then is 1050.1"),
        (1, ENDS.lower(), "version 1039.1 from 2026-12-15 on"),
        (2172, "Words that nobody knows yet", "the gateway's version soon"),
    ],
)
def test_the_announced_end_of_a_gateway_version_is_told_once(
    code: int, text: str, said: str
) -> None:
    rig = Rig()
    rig.ready()
    rig.context.broker_said(code, text)
    rig.context.broker_said(code, text)
    assert said in rig.look()[AlertKind.VERSION_ENDS]
    rig.lost()
    rig.context.version_ends = None  # a new connection
    assert AlertKind.VERSION_ENDS in rig.look()  # not before it is ready is it over
    rig.ready()
    assert AlertKind.VERSION_ENDS not in rig.look()


def test_other_words_of_the_brokers_announce_no_end() -> None:
    rig = Rig()
    rig.ready()
    rig.context.broker_said(2104, "Market data farm connection is OK:usfarm")
    rig.context.broker_said(201, "Order rejected - this version of the order is desupported")
    assert rig.look() == {}


def test_another_trouble_of_a_login_is_told_though_the_first_was_not_seen_to_end(
    tmp_path: Path,
) -> None:
    facts = Facts(tmp_path)
    rig = Rig(facts.file)
    rig.context.status.update(started=True)
    facts.add("attempt 1", "yielded")
    assert "end the other session" in rig.look()[AlertKind.LOGIN_BLOCKED]
    facts.add("begin", "launch password", "attempt 1", "expired")
    assert "wants a new password" in rig.look()[AlertKind.LOGIN_BLOCKED]
    facts.add("begin", "launch password", "attempt 1", "blocker Login Messages")
    assert "(Login Messages)" in rig.look()[AlertKind.LOGIN_BLOCKED]


def test_the_login_of_the_other_session_is_told_as_well(tmp_path: Path) -> None:
    own, other = Facts(tmp_path), Facts(tmp_path / "other")
    rig = Rig(own.file, other=other.file)
    rig.context.status.update(started=True)
    own.add("attempt 1", "login")
    other.add("attempt 1", "refused")
    assert rig.look()[AlertKind.BAD_CREDENTIALS].startswith("(live) IBKR does not accept")
    other.add("begin", "launch password", "attempt 1")
    assert AlertKind.BAD_CREDENTIALS in rig.look()
    other.add("login")
    assert rig.look() == {}
    assert rig.told.resolved == [AlertKind.BAD_CREDENTIALS]
    own.add("launch password", "attempt 1", "push")
    other.add("launch password", "attempt 1", "push")
    assert rig.look()[AlertKind.WAITING_2FA].startswith("(paper) Approve")
    own.add("login")
    assert rig.look()[AlertKind.WAITING_2FA].startswith("(live) Approve")
    assert rig.told.resolved == [AlertKind.BAD_CREDENTIALS]


def test_a_look_that_breaks_keeps_the_others_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()

    def breaks() -> None:
        raise RuntimeError("by the test")

    monkeypatch.setattr(rig.watch, "_look_at_login", breaks)
    rig.watch._journal.writable = False
    assert AlertKind.JOURNAL in rig.look()


async def test_a_watch_goes_on_after_a_look_that_broke() -> None:
    rig = Rig()
    looks = 0

    def portal() -> SessionView:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("by the test")
        return OFF

    task = asyncio.create_task(rig.watch.run(portal))
    for _ in range(20):
        await asyncio.sleep(0)
    assert looks > 1
    task.cancel()


async def test_the_command_fails_only_where_nobody_has_heard_of_it(
    hook: WebHook, address_file: Path
) -> None:
    def run(command: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "bridge", "alerts", *command.split()],
            env={**os.environ, "BRIDGE_ALERTS_FILE": str(address_file)},
            input="`up` by me: it broke\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).returncode

    address_file.chmod(0o600)
    address_file.write_text(f"{hook.address}\njson://127.0.0.1:9/nobody\n")
    assert await asyncio.to_thread(run, "tell deploy-failed") == 0
    assert await asyncio.to_thread(run, "test") == 1
    hook.refusing = True
    assert await asyncio.to_thread(run, "tell deploy-failed") == 1


def test_a_connection_that_comes_and_goes_is_told() -> None:
    rig = Rig()
    rig.ready()
    rig.look()
    for _ in range(2):
        rig.lost()
        rig.look()
        rig.clock.advance(120)
        assert rig.look() == {}
        rig.ready()
        rig.look()
        rig.clock.advance(20)
        assert rig.look() == {}
    rig.lost()
    rig.clock.advance(25)
    assert "For 5 minutes, but for moments" in rig.look()[AlertKind.CONNECTION_LOST]
    rig.ready()
    assert rig.look() == {}
    rig.lost()
    rig.clock.advance(299)
    assert rig.look() == {}, "it was told, and is counted anew"


def test_a_short_loss_is_forgotten_when_the_connection_has_lasted() -> None:
    rig = Rig()
    rig.ready()
    rig.look()
    for _ in range(10):
        rig.lost()
        rig.look()
        rig.clock.advance(100)
        assert rig.look() == {}
        rig.ready()
        rig.look()
        rig.clock.advance(61)
        assert rig.look() == {}


def test_an_order_is_told_with_every_digit_of_its_size() -> None:
    unknown = record()
    terms = structs.replace(unknown.terms, quantity=1_234_567.0)
    assert "BUY 1234567 AAPL (id o7," in order_text(structs.replace(unknown, terms=terms))
