"""The gateway's planned restarts: expected, not alarming, and nothing is ordered right before one.

`./deploy.py` renders the schedule once, as a file (`BRIDGE_RESTARTS_FILE`)::

    {"timeZone": "America/New_York", "brokerEndsSessions": true, "restarts": [
        {"kind": "auto-restart", "at": "23:30", "day": null, "minutes": 6},
        {"kind": "cold", "at": "09:00", "day": "Sun", "minutes": 15}]}

One class answers for `/health`, advice, alerts, the guard of orders, and `./deploy.py status`,
which imports it: therefore nothing but the standard library is needed here.

The broker ends every session on Sunday at 01:00 New York time, whatever is planned (IBKR's auto
restart lasts "the week"; docs/two-factor-and-restarts.md); a full login follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args
from zoneinfo import ZoneInfo

Kind = Literal["auto-restart", "auto-logoff", "cold"]
"""With its session, without a second factor · a log-off and a new login · a full login."""

LENGTHS: Final[dict[Kind, int]] = {"auto-restart": 6, "auto-logoff": 6, "cold": 15}
"""Minutes after which a gateway that is still away is not expected to be so any more."""

BEFORE: Final = timedelta(seconds=30)  # clocks differ
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class PlannedRestart:
    """One restart; `at` and `until` (expected back) are UTC."""

    at: datetime
    kind: Kind
    until: datetime


@dataclass(frozen=True, slots=True)
class RestartRule:
    """A restart that comes again: every day, or on one `day` of the week (`Sun`)."""

    kind: Kind
    at: str
    """`HH:MM` in the calendar's zone."""
    day: str | None
    minutes: int

    def __post_init__(self) -> None:
        """Raises ValueError for what is no kind, time, day or length."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} is none of {', '.join(get_args(Kind))}")
        if not _CLOCK.fullmatch(str(self.at)):
            raise ValueError(f"{self.at!r} is no time of day such as 23:45")
        if self.day is not None and self.day not in DAYS:
            raise ValueError(f"{self.day!r} is none of {', '.join(DAYS)}")
        if type(self.minutes) is not int or not 0 < self.minutes <= 24 * 60:
            raise ValueError(f"{self.minutes!r} is no number of minutes from 1 to 1440")

    def around(self, now: datetime, zone: ZoneInfo) -> Iterator[PlannedRestart]:
        """The occurrences from yesterday to more than a week ahead."""
        today, clock = now.astimezone(zone).date(), time.fromisoformat(self.at)
        for ahead in range(-1, 9):
            day: date = today + timedelta(days=ahead)
            if self.day is None or DAYS[day.weekday()] == self.day:
                at = datetime.combine(day, clock, zone).astimezone(UTC)
                yield PlannedRestart(at, self.kind, at + timedelta(minutes=self.minutes))


BROKER_RESET: Final = RestartRule("cold", "01:00", "Sun", LENGTHS["cold"])
BROKER_ZONE: Final = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class RestartCalendar:
    """When the gateway goes away on purpose."""

    restarts: tuple[RestartRule, ...] = ()
    time_zone: str = "America/New_York"
    broker_ends_sessions: bool = True
    """False only for a simulated gateway, which has no broker."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """The calendar in a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds something else; the text says what.
        """
        found: Any = json.loads(path.read_bytes())
        try:
            ZoneInfo(found["timeZone"])
            return cls(
                tuple(RestartRule(**each) for each in found["restarts"]),
                found["timeZone"],
                bool(found.get("brokerEndsSessions", True)),
            )
        except (KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(f"no calendar of restarts: {error}") from None

    def text(self) -> str:
        """What `load` reads."""
        content = {
            "timeZone": self.time_zone,
            "brokerEndsSessions": self.broker_ends_sessions,
            "restarts": [asdict(each) for each in self.restarts],
        }
        return json.dumps(content, indent=2) + "\n"

    def active(self, now: datetime) -> PlannedRestart | None:
        """The restart that is expected to be under way."""
        return _active(self, now.replace(microsecond=0))

    def following(self, now: datetime) -> PlannedRestart | None:
        """The next one to begin; None where nothing is ever planned.

        Where no cold restart is planned, the broker's own end of the session stands for it.
        """
        return _following(self, now.replace(microsecond=0))

    def seconds_left(self, now: datetime) -> float | None:
        """How long until the next one begins; None where none is planned."""
        following = self.following(now)
        return (following.at - now).total_seconds() if following else None

    def _own(self, now: datetime) -> Iterator[PlannedRestart]:
        zone = ZoneInfo(self.time_zone)
        for each in self.restarts:
            yield from each.around(now, zone)

    def _active(self, second: datetime) -> PlannedRestart | None:
        known = list(self._own(second))
        if self.broker_ends_sessions:
            known += BROKER_RESET.around(second, BROKER_ZONE)
        return next((each for each in known if each.at - BEFORE <= second < each.until), None)

    def _following(self, second: datetime) -> PlannedRestart | None:
        due = list(self._own(second))
        if self.broker_ends_sessions and all(each.kind != "cold" for each in self.restarts):
            due += BROKER_RESET.around(second, BROKER_ZONE)
        return min((each for each in due if each.at > second), key=_beginning, default=None)


def _beginning(restart: PlannedRestart) -> datetime:
    return restart.at


# Restarts begin and end at whole seconds: within one, nothing changes. `/health` asks thrice.
_active = lru_cache(maxsize=8)(RestartCalendar._active)  # noqa: SLF001
_following = lru_cache(maxsize=8)(RestartCalendar._following)  # noqa: SLF001
