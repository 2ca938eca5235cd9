"""The one calendar of planned restarts, and that all who speak of them say the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.api.health import health
from bridge.environment import Environment
from bridge.restart_calendar import PlannedRestart, RestartCalendar, RestartRule
from bridge.services import Services
from bridge.tws.advice import next_action
from bridge.tws.connection_context import Target
from bridge.tws.connection_state import DialProblem
from bridge.tws.session import TwsSession
from tests.bridge.orders.test_risk import codes
from tests.bridge.orders.test_risk import context as case
from tests.bridge.wound import WoundClock

NEW_YORK = ZoneInfo("America/New_York")
DAILY = RestartRule("auto-restart", "23:45", None, 6)
SUNDAY = RestartRule("cold", "09:00", "Sun", 15)
LIVE = RestartCalendar((DAILY, SUNDAY))


def new_york(day: int, hour: int, minute: int) -> datetime:
    """A moment of March 2026; the 1st is a Sunday, clocks change on the 8th at 02:00."""
    return datetime(2026, 3, day, hour, minute, tzinfo=NEW_YORK).astimezone(UTC)


def test_the_daily_restart_is_next_and_then_under_way() -> None:
    following = LIVE.following(new_york(2, 18, 46))
    begins = new_york(2, 23, 45)
    assert following == PlannedRestart(begins, "auto-restart", begins + timedelta(minutes=6))
    assert LIVE.active(begins) == following
    assert LIVE.active(begins - timedelta(seconds=29)) == following
    assert LIVE.active(begins - timedelta(seconds=31)) is None
    assert LIVE.active(begins + timedelta(minutes=6)) is None


@pytest.mark.parametrize("day", [1, 8])
def test_the_sunday_cold_restart_comes_first_on_a_sunday(day: int) -> None:
    following = LIVE.following(new_york(day, 2, 30))
    assert following == PlannedRestart(new_york(day, 9, 0), "cold", new_york(day, 9, 15))


def test_the_end_of_the_brokers_session_is_expected_and_stands_for_a_missing_cold_restart() -> None:
    only_daily = RestartCalendar((DAILY,))
    for calendar in (LIVE, only_daily):
        reset = calendar.active(new_york(8, 1, 5))
        assert reset == PlannedRestart(new_york(8, 1, 0), "cold", new_york(8, 1, 15))
    following = only_daily.following(new_york(8, 0, 30))
    assert following
    assert (following.kind, following.at) == ("cold", new_york(8, 1, 0))
    following = LIVE.following(new_york(8, 0, 30))
    assert following
    assert following.at == new_york(8, 9, 0)


def test_a_gateway_without_a_broker_plans_nothing() -> None:
    none = RestartCalendar((), broker_ends_sessions=False)
    assert none.active(new_york(8, 1, 5)) is None
    assert none.following(new_york(8, 1, 5)) is None
    assert none.seconds_left(new_york(8, 1, 5)) is None


@pytest.mark.parametrize(
    ("rules", "moment", "seconds"),
    [
        ((DAILY,), (13, 23, 44), 60),
        ((DAILY,), (13, 23, 46), 24 * 3600 - 60),
        ((SUNDAY, DAILY), (15, 8, 59), 60),
        ((RestartRule("auto-logoff", "00:01", None, 6),), (13, 23, 59), 120),
        ((SUNDAY,), (13, 9, 0), 2 * 24 * 3600),
    ],
)
def test_seconds_left(
    rules: tuple[RestartRule, ...], moment: tuple[int, int, int], seconds: float
) -> None:
    calendar = RestartCalendar(rules, broker_ends_sessions=False)
    assert calendar.seconds_left(new_york(*moment)) == seconds


def test_a_zone_far_away_has_its_own_days() -> None:
    tokyo = RestartCalendar((SUNDAY,), "Asia/Tokyo")
    following = tokyo.following(new_york(7, 12, 0))
    assert following
    assert following.at == datetime(2026, 3, 8, 0, 0, tzinfo=UTC)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "restarts.json"
    path.write_text(LIVE.text())
    assert RestartCalendar.load(path) == LIVE


@pytest.mark.parametrize(
    "content",
    [
        [],
        "text",
        {},
        {"timeZone": "Nowhere/Atall", "restarts": []},
        {"timeZone": "../etc", "restarts": []},
        {"timeZone": "UTC", "restarts": [{"kind": "cold"}]},
        {"timeZone": "UTC", "restarts": [["cold"]]},
        *(
            {"timeZone": "UTC", "restarts": [{"kind": k, "at": at, "day": day, "minutes": minutes}]}
            for k, at, day, minutes in (
                ("weekly", "09:00", None, 6),
                ("cold", "9:30", "Sun", 6),
                ("cold", "09:30", "Sonntag", 6),
                ("cold", "09:30", "Sun", 0),
                ("cold", "09:30", "Sun", "6"),
            )
        ),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "restarts.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"\S"):
        RestartCalendar.load(path)


def test_health_advice_alerts_and_the_guard_of_orders_say_the_same_of_a_sunday() -> None:
    """The Sunday cold restart is known to all of them or to none."""
    clock = WoundClock(new_york(8, 8, 58))
    session = TwsSession(Target(restarts=LIVE), clock)
    session.context.status.update(started=True, problem=DialProblem.REFUSED)
    services = Services(Environment(), session, clock)
    services.provide(TwsSession, session)
    assert codes(case(seconds_to_restart=LIVE.seconds_left(clock.now()))) == {"restart-window"}
    assert not session.context.expected_now()
    assert "logs in anew" not in next_action(session.context.situation())
    assert health(services).next_restart == LIVE.following(new_york(8, 8, 58))

    clock.advance(5 * 60)
    assert session.context.expected_now()
    assert "asked (expected back by 13:15 UTC)" in next_action(session.context.situation())
    said = health(services)
    assert said.restart_under_way
    assert said.next_restart == LIVE.following(clock.now())


@settings(max_examples=200)
@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.floats(0, 0.999),
    st.booleans(),
)
def test_what_was_worked_out_for_a_second_holds_in_all_of_it(
    second: datetime, fraction: float, broker: bool
) -> None:
    calendar = RestartCalendar((DAILY, SUNDAY), broker_ends_sessions=broker)
    second = second.replace(microsecond=0)
    within = second + timedelta(seconds=fraction)
    assert calendar.active(within) == calendar._active(within) == calendar._active(second)
    assert calendar.following(within) == calendar._following(within)
