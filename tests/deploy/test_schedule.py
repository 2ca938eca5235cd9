"""Times of day as the image parses them, and a Sunday restart in every zone."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrastructure.config.base import _clock
from infrastructure.config.schedule import (
    choose,
    cold_restart_window,
    image_time,
    quiet_time,
    schedule,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target

STRICT = re.compile(r"(0[1-9]|1[0-2]):[0-5]\d (AM|PM)")
CLOCKS = st.times().map(lambda moment: moment.strftime("%H:%M"))


@given(CLOCKS)
def test_image_time_is_strict_and_the_same_moment(clock: str) -> None:
    text = image_time(clock)
    assert STRICT.fullmatch(text)
    assert datetime.strptime(text, "%I:%M %p").strftime("%H:%M") == clock  # noqa: DTZ007
    assert _clock(text) == clock
    assert _clock(clock) == clock
    assert _clock(text.lower().lstrip("0").replace(" ", "")) == clock


@pytest.mark.parametrize("text", ["24:00", "9:60", "13:00 PM", "0:10 AM", "noon", "", "9", 900])
def test_impossible_times(text: object) -> None:
    with pytest.raises(ValueError, match="time of day"):
        _clock(text)


@pytest.mark.parametrize("text", ["off", "OFF", "no", False])
def test_off(text: object) -> None:
    assert _clock(text) == "off"


def lies_between(zone: str, restart: str, cold: str) -> bool:
    """Checked moment by moment with aware times, every Sunday of ten years."""
    local, new_york = ZoneInfo(zone), ZoneInfo("America/New_York")
    for week in range(520):
        sunday = date(2026, 1, 4) + timedelta(weeks=week)
        ended = datetime.combine(sunday, time(1), new_york)
        at = datetime.combine(sunday, time.fromisoformat(cold), local)
        naive = ended.astimezone(local).replace(tzinfo=None)
        first = datetime.combine(naive.date(), time.fromisoformat(restart))
        if first <= naive:
            first += timedelta(days=1)
        if not naive < at.replace(tzinfo=None) < first:
            return False
    return True


ZONES = sorted(zone for zone in available_timezones() if "/" in zone and "Etc" not in zone)


@pytest.mark.parametrize("zone", ZONES[::12])
def test_the_defaults_fit_in_every_zone(zone: str) -> None:
    restart = quiet_time(zone)
    window = cold_restart_window(zone, restart)
    assert window is not None
    assert lies_between(zone, restart, choose(window))


@given(st.sampled_from(ZONES), CLOCKS)
def test_whatever_is_chosen_fits(zone: str, restart: str) -> None:
    window = cold_restart_window(zone, restart)
    if window is not None:
        assert lies_between(zone, restart, choose(window))


@pytest.mark.parametrize(
    ("zone", "restart", "cold"),
    [
        ("America/New_York", "23:30", "09:00"),
        ("America/New_York", "02:00", "01:40"),
        ("America/New_York", "00:30", "09:00"),
        ("America/Chicago", "22:30", "09:00"),
        ("Europe/Berlin", "04:30", "09:00"),
        ("Europe/Berlin", "08:00", "07:40"),
        ("Asia/Tokyo", "12:30", "15:15"),
    ],
)
def test_known_answers(zone: str, restart: str, cold: str) -> None:
    window = cold_restart_window(zone, restart)
    assert window is not None
    assert choose(window) == cold


def shown_in_new_york(zone: str, clock: str) -> set[str]:
    """What New York's clocks show at this clock of a zone, on every day of 2026."""
    days = [date(2026, 1, 1) + timedelta(days=day) for day in range(365)]
    moments = [datetime.combine(day, time.fromisoformat(clock), ZoneInfo(zone)) for day in days]
    return {f"{each.astimezone(ZoneInfo('America/New_York')):%H:%M}" for each in moments}


@pytest.mark.parametrize("zone", ZONES[::7])
def test_quiet_time_is_before_the_nightly_reset_and_after_the_trading(zone: str) -> None:
    """On every day: there are weeks in which only one of two zones has daylight saving."""
    shown = shown_in_new_york(zone, quiet_time(zone))
    assert min(shown) >= "20:00", shown
    assert max(shown) == "23:30", shown


@pytest.mark.parametrize(
    ("zone", "clock"),
    [
        ("America/New_York", "23:30"),
        ("Europe/Berlin", "04:30"),
        ("Europe/London", "03:30"),
        ("Asia/Tokyo", "12:30"),
        ("Australia/Sydney", "13:30"),
        ("Asia/Kolkata", "09:00"),
    ],
)
def test_known_quiet_times(zone: str, clock: str) -> None:
    assert quiet_time(zone) == clock


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ({}, (None, "23:30", None)),
        ({"mode": "live"}, ("23:30", None, "09:00")),
        ({"auto_restart": "22:00"}, ("22:00", None, "09:00")),
        ({"mode": "live", "auto_logoff": "22:00"}, (None, "22:00", None)),
        ({"mode": "live", "auto_restart": "off"}, (None, None, None)),
        ({"auto_logoff": "off"}, (None, None, None)),
        ({"auto_restart": "off"}, (None, "23:30", None)),
        ({"mode": "live", "auto_logoff": "off"}, ("23:30", None, "09:00")),
        ({"mode": "live", "cold_restart": "10:15 am"}, ("23:30", None, "10:15")),
        ({"mode": "live", "cold_restart": False}, ("23:30", None, None)),
    ],
)
def test_defaults_by_mode(
    make: Callable[..., Target],
    gateway: dict[str, object],
    expected: tuple[str | None, str | None, str | None],
) -> None:
    assert tuple(schedule(make(gateway=gateway).stack.gateway)) == expected
