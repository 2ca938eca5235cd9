"""When the gateway restarts: the image's times, and a Sunday that costs one login only.

IBKR ends every session on Sunday 01:00 New York. The first restart after that needs a full login,
so Sunday's cold restart has to come between that moment and the first token restart; the image
runs it on Sundays only, in the gateway's zone. Daylight saving moves the moment, so a time has to
fit every Sunday of a year.
"""

from __future__ import annotations

import functools
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from bridge.restart_calendar import LENGTHS, Kind, RestartCalendar, RestartRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.config.gateway import Gateway
    from infrastructure.config.target import Target

NEW_YORK = ZoneInfo("America/New_York")
_MARGIN = 15
_FRIENDLY = 9 * 60
_DAY = 24 * 60
_SUNDAYS = 53 * 4
"""Four years of Sundays: every combination of the two zones' daylight saving."""


class Schedule(NamedTuple):
    """What the image is told; each `HH:MM` in the gateway's zone, or None."""

    auto_restart: str | None
    auto_logoff: str | None
    cold_restart: str | None


def image_time(clock: str) -> str:
    """`23:30` as the image parses it: `11:30 PM`, zero-padded, upper case, nothing else."""
    hour, minute = map(int, clock.split(":"))
    return f"{hour % 12 or 12:02d}:{minute:02d} {'PM' if hour >= 12 else 'AM'}"


def schedule(gateway: Gateway) -> Schedule:
    """The times with their defaults: paper logs off daily, live restarts with its session."""
    restart, logoff = gateway.auto_restart, gateway.auto_logoff
    if restart is None and logoff is None:
        quiet = quiet_time(gateway.time_zone)
        restart, logoff = (None, quiet) if gateway.mode == "paper" else (quiet, None)
    elif restart is None and logoff == "off":
        restart = None if gateway.mode == "paper" else quiet_time(gateway.time_zone)
    elif logoff is None and restart == "off":
        logoff = quiet_time(gateway.time_zone) if gateway.mode == "paper" else None
    restart = None if restart == "off" else restart
    logoff = None if logoff == "off" else logoff
    if not restarts_cold(gateway):
        return Schedule(restart, logoff, None)
    cold = gateway.cold_restart
    if cold is None and restart is not None:
        window = cold_restart_window(gateway.time_zone, restart)
        cold = choose(window) if window else None
    return Schedule(restart, logoff, None if cold == "off" else cold)


def restarts_cold(gateway: Gateway) -> bool:
    """Whether what logs in can be told a time for Sunday's full restart.

    ibg-controller reads no time for it: a rule would announce a restart that nobody carries out.
    """
    return gateway.controller != "ibg-controller"


@functools.cache
def quiet_time(zone: str) -> str:
    """The latest clock of another zone that is at 23:30 New York or before it on every day.

    Markets are closed then, and IBKR's nightly reset, from 23:45, has not begun. Two zones change
    to daylight saving and back weeks apart: for 28 days of a year Berlin is an hour nearer to New
    York, so that a clock of 23:30 on most days would be within the reset on those.
    """
    local, first = ZoneInfo(zone), datetime(2026, 1, 1, 23, 30)  # noqa: DTZ001 - a clock
    evenings = [first + timedelta(days=day) for day in range(365)]
    ahead = (
        evening.replace(tzinfo=NEW_YORK).astimezone(local).replace(tzinfo=None) - evening
        for evening in evenings
    )
    return (first + min(ahead)).strftime("%H:%M")


@functools.cache
def trading_time(clock: str, zone: str, exchange: str, hours: tuple[str, str]) -> str | None:
    """What a clock in `zone` shows at the exchange on a weekday, if a restart then is in its hours.

    In any week of a year: daylight saving moves the two against each other.
    """
    for week in range(53):
        wednesday = date(2026, 1, 7) + timedelta(weeks=week)
        moment = datetime.combine(wednesday, time.fromisoformat(clock), ZoneInfo(zone))
        there = moment.astimezone(ZoneInfo(exchange))
        back = there + timedelta(minutes=LENGTHS["auto-restart"])
        if there.strftime("%H:%M") < hours[1] and hours[0] < back.strftime("%H:%M"):
            return there.strftime("%H:%M")
    return None


@functools.cache
def same_clock(zone: str, other: str) -> bool:
    """Whether both zones show the same time all year."""
    noons = [datetime(2026, 1, 7, 12, tzinfo=NEW_YORK) + timedelta(weeks=n) for n in range(53)]
    return all(
        noon.astimezone(ZoneInfo(zone)).utcoffset() == noon.astimezone(ZoneInfo(other)).utcoffset()
        for noon in noons
    )


@functools.cache
def cold_restart_window(zone: str, restart: str) -> tuple[int, int] | None:
    """The minutes of a Sunday, first and last, that fit every week; None when none does.

    A time fits when it is on Sunday in `zone`, after the session's end, and before the first
    restart at `restart` that follows it.
    """
    first, last = 0, _DAY - 1
    for begin, end in _windows(ZoneInfo(zone), restart):
        first, last = max(first, begin), min(last, end)
    return (first, last) if first < last else None


def choose(window: tuple[int, int]) -> str:
    """09:00 where it fits, as a person has to approve the login; else as near as can be."""
    first, last = window
    margin = min(_MARGIN, (last - first) // 2)
    minute = min(max(_FRIENDLY, first + margin), last - margin)
    if margin >= 5:
        minute -= minute % 5
    return f"{minute // 60:02d}:{minute % 60:02d}"


def fits(window: tuple[int, int] | None, clock: str) -> bool:
    """Whether a time of day lies in the window."""
    hour, minute = map(int, clock.split(":"))
    return window is not None and window[0] <= hour * 60 + minute <= window[1]


def _windows(zone: ZoneInfo, restart: str) -> Iterator[tuple[int, int]]:
    hour, minute = map(int, restart.split(":"))
    for week in range(_SUNDAYS):
        sunday = date(2026, 1, 4) + timedelta(weeks=week)
        ended = datetime.combine(sunday, time(1), NEW_YORK).astimezone(zone).replace(tzinfo=None)
        following = ended.replace(hour=hour, minute=minute)
        if following <= ended:
            following += timedelta(days=1)
        midnight = datetime.combine(sunday, time())
        begin = int((ended - midnight).total_seconds() // 60)
        end = int((following - midnight).total_seconds() // 60)
        yield max(begin + 1, 0), min(end - 1, _DAY - 1)


def calendar(target: Target) -> RestartCalendar:
    """The planned restarts, as the bridge and `status` know them; a simulated gateway has none."""
    gateway = target.stack.gateway
    if target.stack.runtime == "sandbox":
        return RestartCalendar((), gateway.time_zone, broker_ends_sessions=False)
    restart, logoff, cold = schedule(gateway)
    planned: tuple[tuple[Kind, str | None, str | None], ...] = (
        ("auto-restart", restart, None),
        ("auto-logoff", logoff, None),
        ("cold", cold, "Sun"),
    )
    rules = (RestartRule(kind, at, day, LENGTHS[kind]) for kind, at, day in planned if at)
    return RestartCalendar(tuple(rules), gateway.time_zone)
