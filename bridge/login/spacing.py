"""When the next login may be tried: the one rule, also kept by the container's shell.

IBC starts the gateway again at once, for ever; what protects an account is fewer attempts, spread
out. A row is the launches since the last login that lasted: the second launch of a row comes 60 s
after the first, then 120 s and so on up to 10 minutes; in the broker's maintenance one in 20
minutes, or when the maintenance ends. Never more than nine in an hour, whatever happened between.
A launch with the password whose Java ends within five seconds, and says nothing before, has asked
the broker for nothing (wrong flags, no memory): the first such one does not count.
What lies more than an hour ahead was written by a clock that has been set back since, and counts
for nothing: it would hold up the login until then.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from dataclasses import dataclass, field

FIRST_PAUSE = 60
LONGEST_PAUSE = 600
MAINTENANCE_PAUSE = 1200
LASTS = 120
"""A login that held for so many seconds ends a row."""
STILLBORN = 5
"""Seconds in which no Java has come to a login's window."""
HOUR = 3600
MOST_IN_AN_HOUR = 9
_SAYS_NOTHING = {"start", "by", "boot", "parks", "no-token", "finished"}
_DAY = 86_400
_SECONDS = re.compile(r"[0-9]{1,11}")


@dataclass
class Launches:
    """What counts of a session's history. `login` is when the last login was completed."""

    times: list[int] = field(default_factory=list)
    row: int = 0
    login: int | None = None
    _alone: int | None = None
    """When the last launch was, while nothing shows that it came to a login."""
    _spared: bool = False
    _before: tuple[list[int], int, int | None] = field(default=([], 0, None))

    def note(self, event: str, at: float, argument: str = "") -> None:
        """Takes one event: a beginning, a launch, what shows that it lived, a completed login."""
        moment = int(at)
        if event == "exit":
            self._ended(moment)
        elif event not in _SAYS_NOTHING:
            self._alone = None
        if event == "begin":
            self.times, self.row, self.login, self._spared = [], 0, None, False
        elif event == "launch":
            self._before = (self.times, self.row, self.login)
            if argument.partition(" ")[0] == "password" and not self._spared:
                self._alone = moment
            if self._lasted(moment):
                self.row = 0
            self.row += 1
            self.login = None
            self.times = [*self.times, moment][-MOST_IN_AN_HOUR:]
        elif event == "login":
            self._spared = False
            self.login = moment if self.login is None else self.login

    @classmethod
    def read(cls, text: str, now: float) -> Launches:
        """From what a container has written down; lines are `SECONDS EVENT [ARGUMENT]`."""
        found = cls()
        for line in text.splitlines():
            words = line.split(None, 2)
            if len(words) > 1 and _SECONDS.fullmatch(words[0]):
                at = int(words[0])
                if at <= int(now) + HOUR:
                    found.note(words[1], at, words[2] if len(words) > 2 else "")
        return found

    def _ended(self, moment: int) -> None:
        if self._alone is not None and moment - self._alone <= STILLBORN:
            self.times, self.row, self.login = self._before
            self._spared = True
        self._alone = None

    def _lasted(self, now: int) -> bool:
        return self.login is not None and now - self.login >= LASTS

    def next(self, now: float, *, token: bool = False) -> tuple[int, str]:
        """When the next launch may come, and why not now: `maintenance`, `row`, or nothing.

        `token`: it continues a session that was logged in; only the hour's limit counts.
        """
        moment = int(now)
        at, why = moment, ""
        row = 0 if self._lasted(moment) or (token and self.login is not None) else self.row
        if row and self.times:
            last = self.times[-1]
            at = max(at, last + min(LONGEST_PAUSE, FIRST_PAUSE << min(row - 1, 6)))
            end = maintenance_until(at)
            if end:
                at = max(at, min(last + MAINTENANCE_PAUSE, end))
        if len(self.times) == MOST_IN_AN_HOUR:
            at = max(at, self.times[0] + HOUR)
        if at > moment:
            why = "maintenance" if maintenance_until(moment) else "row"
        return at, why


def maintenance_until(at: float) -> int:
    """When the broker's maintenance that is under way ends; 0 when there is none.

    Every night 00:15 to 01:45 New York, and Friday 23:00 to Saturday 03:00 for all regions.
    """
    moment = int(at)
    local = moment + new_york_offset(moment)
    weekday, second = (local // _DAY + 3) % 7, local % _DAY  # 0 is Monday
    end = 0
    if 900 <= second < 6300:
        end = 6300
    if weekday == 5 and second < 10_800:
        end = 10_800
    if weekday == 4 and second >= 82_800:
        end = _DAY + 10_800
    return moment - second + end if end else 0


def new_york_offset(moment: int) -> int:
    """Seconds that New York is ahead of UTC.

    -4 hours from the second Sunday of March, 02:00, to the first Sunday of November, 02:00, else
    -5. Own arithmetic: a host may have no zones.
    """
    year = time.gmtime(moment).tm_year
    begins = _sunday(year, 3, 2) + 7 * HOUR
    ends = _sunday(year, 11, 1) + 6 * HOUR
    return -4 * HOUR if begins <= moment < ends else -5 * HOUR


def _sunday(year: int, month: int, count: int) -> int:
    """Midnight UTC of a month's so-manieth Sunday."""
    days = _days(year, month)
    first = (6 - (days + 3) % 7) % 7
    return (days + first + 7 * (count - 1)) * _DAY


def _days(year: int, month: int) -> int:
    """Days from 1970 to the first of a month."""
    return dt.date(year, month, 1).toordinal() - dt.date(1970, 1, 1).toordinal()
