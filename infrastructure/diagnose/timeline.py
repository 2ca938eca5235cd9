"""A gateway's log as a timeline of login states. Pure; the lines may come from a file.

What a line says is judged by `bridge.login`; here its time is found, and the program that wrote
the log is told apart. Nothing of a line is passed on but what the table knows by name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from bridge.login.lines import source
from bridge.login.model import WINDOW_PATIENCE, Login, iso, replay
from infrastructure.health.login import farthest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_UTC = re.compile(
    r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)? (?:gateway +)?", re.ASCII
)
_LOCAL = re.compile(r"(?:^|\| )\[?(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)[:.,]\d{3}\b", re.ASCII)
_BANNER = re.compile(r"Starting IBC version .* on (\d{4}-\d\d-\d\d) at (\d\d:\d\d:\d\d)", re.ASCII)
_SERVICE = re.compile(r"^[A-Za-z0-9_.-]+\s+\| ")
LONGEST = 4096
"""Characters of a line that are looked at."""


class Timeline:
    """Takes lines in their order; `shown` is the answer. `totp`: gangway types the codes."""

    def __init__(self, zone: str = "America/New_York", *, totp: bool = False) -> None:
        self._zone = ZoneInfo(zone)
        self._login = Login(whole=False)
        if totp:  # no line of a log says so
            self._login.note("totp", 0.0)
        self._sources: Counter[str] = Counter()
        self._events: list[dict[str, str | None]] = []
        self._at, self._time = 0.0, ""

    def add(self, line: str, time: str = "") -> None:
        """One line; `time` is when the engine took it (ISO 8601 UTC), where that is known."""
        text = self._timed(_unwrapped(line[:LONGEST]), time)
        name = source(text)
        if name is not None:
            self._sources[name] += 1
        before = self._login.attempts
        told = self._login.feed(text, self._at)
        again = self._login.attempts > max(before, 1)
        if told or again:
            attempt = f" (attempt {self._login.attempts})" if again else ""
            self._tell((told or "logging in again") + attempt)

    def _timed(self, text: str, time: str) -> str:
        match = _UTC.match(text)
        if match:
            time, text = match[1], text[match.end() :]
        if time:
            moment = _moment(time[:19], UTC)
            if moment is not None:
                self._at, self._time = moment.timestamp(), f"{time[:19]}Z"
            return text
        match = _LOCAL.search(text) or _BANNER.search(text)
        local = _moment(f"{match[1]}T{match[2]}", self._zone) if match else None
        if local is not None:
            self._at = local.timestamp()
            self._time = local.replace(tzinfo=None).isoformat()
        return text

    def _tell(self, detail: str) -> None:
        at = self._time or None
        self._events.append({"at": at, "state": self._login.state, "detail": detail})

    @property
    def known(self) -> bool:
        """Whether any line was a login controller's or the gateway's own."""
        return bool(self._sources)

    def shown(self, now: float | None = None) -> dict[str, Any]:
        """`{"source", "events", "state", "trouble", "attempts"}`; `now` for a log that runs.

        A window that is still open where a saved log ends is one that nobody answered.
        """
        told = self._login.look(self._at + WINDOW_PATIENCE if now is None else now)
        if told:
            self._tell(told)
        trouble = self._login.trouble
        return {
            "source": self._sources.most_common(1)[0][0] if self._sources else None,
            "events": list(self._events),
            "state": self._login.state,
            "trouble": None if trouble is None else trouble.shown(),
            "attempts": self._login.attempts,
        }


def explain(lines: Iterable[str], zone: str = "America/New_York") -> Timeline:
    """The timeline of a saved log."""
    found = Timeline(zone)
    for line in lines:
        found.add(line)
    return found


def of_sessions(facts: Mapping[str, str], now: float) -> dict[str, Any]:
    """One timeline of several sessions, from what their container wrote down of each.

    Their log cannot be told apart; the state is that of the one farthest from logged in.
    """
    found: list[tuple[float, dict[str, str | None]]] = []
    logins = []
    for session, text in facts.items():
        login = Login(session)
        for line in text.splitlines():
            at = line.split(" ", 1)[0]
            before = login.told
            replay(line, into=login)
            if login.told != before:
                detail = f"{session}: {login.told}"
                event = {"at": iso(float(at)), "state": login.state, "detail": detail}
                found.append((float(at), event))
        login.look(now)
        logins.append(login)
    worst = farthest(logins)
    found.sort(key=lambda one: one[0])
    return {
        "source": worst.controller,
        "events": [event for _, event in found],
        "state": worst.state,
        "trouble": None if worst.trouble is None else worst.trouble.shown(),
        "attempts": sum(login.attempts for login in logins),
    }


def _moment(text: str, zone: tzinfo) -> datetime | None:
    """A time as it is written; None for what is none (a line may be damaged)."""
    try:
        found = datetime.fromisoformat(text).replace(tzinfo=zone)
    except ValueError:
        return None
    return found if 1970 < found.year < 9999 else None


def _unwrapped(line: str) -> str:
    """Without what `docker compose logs`, or `logs --json`, put around a line."""
    text = line.rstrip("\r\n")
    if text.startswith('{"service"'):
        try:
            found = json.loads(text)
            return f"{found['time']} {found['line']}"
        except (ValueError, KeyError, TypeError):
            return text
    return _SERVICE.sub("", text)


def lines_for_people(found: dict[str, Any]) -> Iterator[str]:
    """The timeline, its end and what to do."""
    width = max((len(one["state"]) for one in found["events"]), default=0)
    for one in found["events"]:
        at = (one["at"] or "-").replace("T", " ")
        yield f"{at:<20}  {one['state']:<{width}}  {one['detail']}"
    attempts = found["attempts"]
    count = f"{attempts} login attempt{'' if attempts == 1 else 's'}"
    source = found["source"] or "no login controller has said anything"
    yield f"now: {found['state']}, after {count} ({source})"
    trouble = found["trouble"]
    if trouble is not None:
        yield f"why: {trouble['message']} [{trouble['code']}]"
        yield f"what to do: {trouble['hint']}"
