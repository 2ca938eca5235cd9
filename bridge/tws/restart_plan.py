"""The gateway's planned restarts: expected, not alarming.

The daily one is at ``BRIDGE_RESTART_TIME`` in the gateway's time zone, and takes the API away for a
minute or two. On Sundays the broker ends every session at 01:00 New York time, and a new login with
a second factor follows.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

BEFORE = timedelta(seconds=30)  # clocks differ
DAILY_LENGTH = timedelta(minutes=6)
SUNDAY_LENGTH = timedelta(minutes=15)
SUNDAY_RESET = time(1, 0)
NEW_YORK = "America/New_York"


class Restart(Struct, frozen=True, kw_only=True, rename="camel"):
    """One planned restart; times are UTC."""

    reason: str
    at: datetime
    until: datetime


class RestartPlan:
    """When the gateway goes away on purpose. ``daily`` None: only the Sunday reset is known."""

    def __init__(self, daily: time | None, zone: str) -> None:
        self._daily = daily
        self._zone = ZoneInfo(zone)
        self._new_york = ZoneInfo(NEW_YORK)

    def active(self, now: datetime) -> Restart | None:
        """The restart that is expected to be under way."""
        for restart in self._around(now):
            if restart.at - BEFORE <= now < restart.until:
                return restart
        return None

    def following(self, now: datetime) -> Restart:
        """The next one to begin after now."""
        return min(
            (restart for restart in self._around(now) if restart.at > now), key=lambda r: r.at
        )

    def _around(self, now: datetime) -> list[Restart]:
        found = []
        for days in range(-1, 9):
            if self._daily:
                day = now.astimezone(self._zone).date() + timedelta(days=days)
                at = datetime.combine(day, self._daily, self._zone).astimezone(UTC)
                found.append(Restart(reason="daily-restart", at=at, until=at + DAILY_LENGTH))
            day = now.astimezone(self._new_york).date() + timedelta(days=days)
            if day.weekday() == 6:
                at = datetime.combine(day, SUNDAY_RESET, self._new_york).astimezone(UTC)
                found.append(Restart(reason="sunday-reset", at=at, until=at + SUNDAY_LENGTH))
        return found


def parse_time(text: str) -> time:
    """``23:45`` or ``11:45 PM``; ``ValueError`` for anything else."""
    for pattern in ("%H:%M", "%I:%M %p"):
        try:
            return datetime.strptime(text.strip(), pattern).time()  # noqa: DTZ007
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no time of day such as 23:45 or 11:45 PM")
