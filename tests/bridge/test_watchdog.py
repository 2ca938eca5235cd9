"""The watchdog over a gateway that hangs, and over one that does not; in wound time."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bridge.alerts.messages import AlertKind
from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.tws.connection_context import ConnectionContext, Target
from bridge.tws.connection_state import DialProblem, Socket
from bridge.watchdog import LOOK_SECONDS, PATIENCE, RECONNECT_DATA, RESTART, Hang, Watchdog
from tests.bridge.alerts.test_watch import Told

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 7, 8, 16, 0, tzinfo=UTC)  # a Wednesday, noon in New York
CALENDAR = RestartCalendar((RestartRule("auto-restart", "23:30", None, 6),))
BROKEN = "Market data farm connection is broken:usfarm"
FINE = "Market data farm connection is OK:usfarm"


class HandClock:
    """Stands still until it is wound."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds

    def call_later(self, seconds: float, callback: object) -> Any:
        raise NotImplementedError


class Stand:
    """A session's facts, a login, and what the container would be asked for."""

    def __init__(self, folder: Path, clock: HandClock | None = None) -> None:
        self.clock = clock or HandClock()
        self.folder = folder
        self.requests = folder / "requests"
        self.requests.mkdir(exist_ok=True)
        self.login = folder / "login-paper"
        self.logged_in()
        target = Target(session="paper", login_state_file=self.login, restarts=CALENDAR)
        self.context = ConnectionContext(target, self.clock)
        self.notes: list[dict[str, Any]] = []
        self.watchdog = self.again()
        self.works()

    def again(self) -> Watchdog:
        """Another process over the same folder."""
        self.watchdog = Watchdog(
            self.context, self.clock, self.requests, self.folder / "watchdog.json",
            lambda kind, **detail: self.notes.append({"kind": kind, **detail}),
        )  # fmt: skip
        return self.watchdog

    def logged_in(self) -> None:
        self.login.write_text("logged-in\n")

    def works(self) -> None:
        self.context.diagnostics.farms = {"usfarm": FINE}
        self.context.status.update(
            started=True, socket=Socket.UP, heartbeat=True, upstream=True, reconciled=True,
            problem=None,
        )  # fmt: skip

    def hang(self, kind: Hang) -> None:
        match kind:
            case Hang.SILENT:
                self.context.status.update(socket=Socket.NONE, problem=DialProblem.SILENT)
            case Hang.UPSTREAM:
                self.context.status.update(upstream=False)
            case Hang.FARMS:
                self.context.diagnostics.farms = {"usfarm": BROKEN}

    def asked(self) -> str | None:
        """The word of the newest request."""
        file = self.requests / "request-paper"
        return file.read_text().split()[1] if file.exists() else None

    def wind(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_SECONDS)):
            self.clock.passed += LOOK_SECONDS
            self.watchdog.look()


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


@pytest.mark.parametrize("kind", [Hang.SILENT, Hang.FARMS])
def test_its_own_means_first_then_a_person(stand: Stand, kind: Hang) -> None:
    stand.hang(kind)
    stand.wind(PATIENCE[kind] - 10)
    assert stand.asked() is None
    stand.wind(20)
    assert stand.asked() == RECONNECT_DATA
    stand.wind(125)
    assert stand.asked() == RESTART
    assert stand.watchdog.need() is None
    stand.wind(605)
    need = stand.watchdog.need()
    assert need is not None
    assert need.code == f"gateway-hangs-{kind}"
    assert "although its data were connected anew and it was restarted" in need.message
    assert [note["step"] for note in stand.notes] == ["reconnectdata", "restart", "person"]
    stand.works()
    stand.wind(10)
    assert stand.watchdog.need() is None


def test_a_broker_that_is_away_is_not_restarted_against(stand: Stand) -> None:
    stand.hang(Hang.UPSTREAM)
    stand.wind(PATIENCE[Hang.UPSTREAM] + 300)
    assert stand.asked() == RECONNECT_DATA
    assert stand.watchdog.need() is not None
    stand.wind(3600)
    assert stand.asked() == RECONNECT_DATA


@pytest.mark.parametrize("by", [-600.0, -7 * 3600.0, 7 * 3600.0])
def test_a_clock_that_is_set_takes_no_step_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    stand.hang(Hang.FARMS)
    stand.wind(PATIENCE[Hang.FARMS] + 10)
    assert stand.asked() == RECONNECT_DATA
    (stand.requests / "request-paper").unlink()
    moment = NOON + timedelta(seconds=by)
    monkeypatch.setattr(stand.clock, "now", lambda: moment + timedelta(seconds=stand.clock.passed))
    stand.wind(125)
    assert stand.asked() in (RESTART, None)
    stand.wind(1800)
    assert [note["step"] for note in stand.notes].count("reconnectdata") == 1


def test_each_step_once_in_six_hours_also_by_another_process(stand: Stand) -> None:
    stand.hang(Hang.SILENT)
    stand.wind(400)
    assert stand.asked() == RESTART
    (stand.requests / "request-paper").unlink()
    stand.works()
    stand.wind(60)
    stand.hang(Hang.SILENT)
    stand.again()
    stand.wind(1000)
    assert stand.asked() is None, "both were taken an hour ago"
    assert stand.watchdog.need() is not None
    stand.works()
    stand.wind(6 * 3600)
    stand.hang(Hang.SILENT)
    stand.wind(200)
    assert stand.asked() == RECONNECT_DATA


@pytest.mark.parametrize(
    "state", ["waiting-2fa", "held", "blocked", "logging-in", "restarting", "starting", "ended"]
)
def test_nothing_is_done_while_the_login_is_anything_else(stand: Stand, state: str) -> None:
    stand.login.write_text(f"{state}\n")
    stand.hang(Hang.SILENT)
    stand.wind(3600)
    assert stand.asked() is None
    assert stand.watchdog.need() is None


def test_what_is_unknown_decides_nothing(stand: Stand) -> None:
    stand.login.unlink()
    stand.hang(Hang.SILENT)
    stand.wind(3600)
    assert stand.asked() is None


@pytest.mark.parametrize(
    ("begun", "seconds"),
    [
        (datetime(2026, 7, 9, 3, 22, tzinfo=UTC), 18 * 60),  # 23:22, before 23:30 New York
        (datetime(2026, 7, 9, 4, 16, tzinfo=UTC), 85 * 60),  # 00:16: the broker's maintenance
        (datetime(2026, 7, 12, 4, 58, tzinfo=UTC), 20 * 60),  # Sunday 00:58: it ends all sessions
    ],
)
def test_restarts_and_maintenance_are_left_alone(
    tmp_path: Path, begun: datetime, seconds: float
) -> None:
    clock = HandClock()
    clock.passed = (begun - NOON).total_seconds()
    stand = Stand(tmp_path, clock)
    stand.hang(Hang.SILENT)
    stand.wind(seconds)
    assert stand.asked() is None
    assert stand.watchdog.need() is None


def test_without_a_container_to_ask_only_a_person_is_told(stand: Stand) -> None:
    stand.requests.rmdir()
    stand.hang(Hang.SILENT)
    stand.wind(200)
    assert stand.asked() is None
    for watchdog in (stand.watchdog, stand.again()):
        watchdog.person = Hang.SILENT
        need = watchdog.need()
        assert need is not None
        assert "although" not in need.message, "nothing was done"


@pytest.mark.parametrize("explained", ["held\n", "", "waiting-2fa\n"])
def test_good_news_only_when_it_works_again(stand: Stand, explained: str) -> None:
    """A login that is under way explains the hang; it does not end it."""
    told = Told()
    stand.watchdog.alerts = told  # type: ignore[assignment]
    stand.hang(Hang.UPSTREAM)
    stand.wind(7200)
    assert list(told.active) == [AlertKind.GATEWAY_HANGS]
    stand.login.write_text(explained)
    stand.wind(60)
    assert (told.active, told.resolved) == ({}, [])
    stand.logged_in()
    stand.wind(7200)
    assert list(told.active) == [AlertKind.GATEWAY_HANGS]
    stand.works()
    stand.wind(60)
    assert told.resolved == [AlertKind.GATEWAY_HANGS]


def test_one_farm_of_several_is_no_hang(stand: Stand) -> None:
    stand.context.diagnostics.farms = {"usfarm": BROKEN, "cashfarm": FINE.replace("us", "cash")}
    stand.wind(7200)
    assert stand.asked() is None


@pytest.mark.parametrize("seed", range(10))
def test_ten_hangs_of_ten_are_mended(tmp_path: Path, seed: int) -> None:
    """The gateway heals by one of the two words, sometimes only by the second."""
    chance = random.Random(seed)
    stand = Stand(tmp_path)
    heals = chance.choice([RECONNECT_DATA, RESTART])
    stand.wind(chance.uniform(0, 3600))
    stand.hang(chance.choice([Hang.SILENT, Hang.FARMS]))
    for _ in range(400):
        stand.wind(LOOK_SECONDS)
        if stand.asked() == heals:
            stand.works()
            stand.wind(60)
            break
    assert stand.asked() == heals
    assert stand.watchdog.hang() is None
    assert stand.watchdog.need() is None


def test_fifty_healthy_hours_are_not_touched(tmp_path: Path) -> None:
    """With short losses, quiet farms, restarts and logins as a week has them."""
    chance = random.Random(50)
    stand = Stand(tmp_path)
    for _ in range(50):
        begun = stand.clock.passed
        kind = chance.choice(list(Hang))
        stand.hang(kind)
        stand.wind(chance.uniform(5, PATIENCE[kind] - 10))
        stand.works()
        if chance.random() < 0.2:  # a restart inside the container, with a minute of login
            stand.login.write_text("restarting\n")
            stand.hang(Hang.SILENT)
            stand.wind(120)
            stand.logged_in()
            stand.works()
        stand.wind(3600 - (stand.clock.passed - begun))
    assert stand.asked() is None
    assert stand.notes == []


def test_one_that_takes_each_connection_only_to_hang_again_is_mended(stand: Stand) -> None:
    """The API's port is alive, what serves it is not: each connection is dropped after seconds."""
    for _ in range(20):
        stand.hang(Hang.SILENT)
        stand.wind(5)
        stand.context.status.update(problem=None)
        stand.wind(10)
    assert stand.asked() == RECONNECT_DATA
    stand.works()
    stand.wind(5)
    assert stand.watchdog.hang() is None
    stand.hang(Hang.SILENT)
    stand.wind(PATIENCE[Hang.SILENT] - 10)
    assert stand.asked() == RECONNECT_DATA, "it has worked in between: counted anew"


def test_what_the_limits_of_alerts_hold_back_is_told_later(stand: Stand) -> None:
    told = Told()
    stand.watchdog.alerts = told  # type: ignore[assignment]
    stand.hang(Hang.UPSTREAM)
    stand.wind(7200)
    told.active.clear()
    stand.wind(LOOK_SECONDS)
    assert list(told.active) == [AlertKind.GATEWAY_HANGS]


def test_another_hang_than_the_one_that_was_told_is_told(stand: Stand) -> None:
    told = Told()
    stand.watchdog.alerts = told  # type: ignore[assignment]
    stand.hang(Hang.UPSTREAM)
    stand.wind(7200)
    assert "no connection to the broker" in told.active[AlertKind.GATEWAY_HANGS]
    stand.hang(Hang.SILENT)
    stand.wind(LOOK_SECONDS)
    assert "its API does not answer" in told.active[AlertKind.GATEWAY_HANGS]
    assert told.resolved == []


def test_a_step_that_the_controller_did_not_take_is_not_told_as_done(stand: Stand) -> None:
    begun = NOON.timestamp() - 3600
    facts = f"{begun:.0f} launch password\n{begun:.0f} login\n"
    stand.login.write_text(facts)
    stand.hang(Hang.SILENT)
    stand.wind(1000)
    need = stand.watchdog.need()
    assert need
    assert "although" not in need.message
    taken = stand.watchdog._taken[RECONNECT_DATA]
    told = f"{taken:.0f} requested {RECONNECT_DATA}\n{taken + 120:.0f} not-taken {RESTART}\n"
    stand.login.write_text(facts + told)
    need = stand.watchdog.need()
    assert need
    assert need.message.endswith("although its data were connected anew")
