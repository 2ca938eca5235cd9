"""How logins are spaced out: the rule itself, and fifty wound weeks of a broker that misbehaves."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from bridge.login import states
from bridge.login.model import Login
from bridge.login.spacing import HOUR, Launches, maintenance_until, new_york_offset

NEW_YORK = ZoneInfo("America/New_York")


def new_york(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp())


def test_new_yorks_clock_without_zones() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(366 * 24 * 3):
        offset = moment.astimezone(NEW_YORK).utcoffset()
        assert offset is not None
        assert new_york_offset(int(moment.timestamp())) == offset.total_seconds()
        moment += timedelta(hours=1)


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-11-24T00:14:59", None),
        ("2026-11-24T00:15:00", "2026-11-24T01:45:00"),
        ("2026-07-07T01:44:59", "2026-07-07T01:45:00"),
        ("2026-11-24T01:45:00", None),
        ("2026-11-27T22:59:59", None),
        ("2026-11-27T23:00:00", "2026-11-28T03:00:00"),
        ("2026-11-28T01:50:00", "2026-11-28T03:00:00"),
        ("2026-11-28T03:00:00", None),
        ("2026-11-29T02:00:00", None),
    ],
)
def test_the_brokers_maintenance(at: str, until: str | None) -> None:
    assert maintenance_until(new_york(at)) == (new_york(until) if until else 0)


def failing(start: int, seconds: int) -> list[int]:
    """The launches of a login that fails at once, for so long."""
    history, now, found = Launches(), start, []
    while now < start + seconds:
        at, _ = history.next(now)
        history.note("launch", at)
        found.append(at)
        now = at + 1
    return found


def test_a_row_of_failures_by_day() -> None:
    start = new_york("2026-11-24T10:00:00")
    minutes = [(at - start) / 60 for at in failing(start, 2 * HOUR)]
    assert minutes[:9] == [0, 1, 3, 7, 15, 25, 35, 45, 55]
    assert minutes[9:] == [65, 75, 85, 95, 105, 115, 125]


def test_one_in_twenty_minutes_in_the_maintenance_and_one_when_it_ends() -> None:
    start = new_york("2026-11-24T00:20:00")
    found = failing(start, 2 * HOUR)
    assert [(at - start) // 60 for at in found] == [0, 20, 40, 60, 80, 90, 100, 110, 120]
    start = new_york("2026-11-24T01:30:00")
    assert [(at - start) // 60 for at in failing(start, HOUR)][:4] == [0, 15, 17, 21]


def test_a_planned_restart_waits_for_nothing() -> None:
    start = new_york("2026-11-24T00:20:00")
    history = Launches()
    for event, at in (("launch", start), ("login", start + 30)):
        history.note(event, at)
    assert history.next(start + 60, token=True) == (start + 60, "")
    assert history.next(start + 60)[0] > start + 60, "it did not last, and no session continues"
    assert history.next(start + 200) == (start + 200, "")


def test_a_person_begins_afresh() -> None:
    history = Launches.read("".join(f"{at} launch\n" for at in range(100, 109)), 200)
    assert history.next(110)[0] > 110
    history.note("begin", 110)
    assert history.next(110) == (110, "")


def test_a_java_that_could_not_start_has_asked_the_broker_for_nothing() -> None:
    """As after wrong flags: the release that comes back logs in at once, in the maintenance too."""
    start = new_york("2026-11-24T00:20:00")
    events = f"{start} begin\n{start} launch password\n{start} start\n{start + 1} exit 1\n"
    later = start + 5
    assert Launches.read(events, later).next(later) == (later, "")
    for lived in ("attempt 1", "opened Login", "logging-in"):
        text = events.replace("exit", f"{lived}\n{start + 1} exit")
        assert Launches.read(text, later).next(later)[0] > later
    slow = events.replace(f"{start + 1} exit", f"{start + 6} exit")
    assert Launches.read(slow, later + 6).next(later + 6)[0] > later + 6
    again = events + f"{later} launch password\n{later} exit 1\n"
    assert Launches.read(again, later).next(later)[0] > later, "not for ever without a pause"


def test_never_more_than_nine_an_hour_whatever_happens() -> None:
    history, now, found = Launches(), new_york("2026-11-24T10:00:00"), []
    for _ in range(100):
        at, _ = history.next(now, token=True)
        found.append(at)
        history.note("launch", at)
        history.note("login", at + 1)
        now = at + 2
    assert all(found[place + 9] - found[place] >= HOUR for place in range(len(found) - 9))


# --- fifty weeks ---------------------------------------------------------------------------------


@dataclass
class Broker:
    """When it does not let anyone in, and how it says so."""

    chance: random.Random
    outages: list[tuple[int, int, str]] = field(default_factory=list)

    def plan(self, start: int, weeks: int) -> None:
        """Half of the nights' maintenance bites; every third day something else."""
        at = start
        while at < start + weeks * 7 * 86_400:
            at += 3600
            until = maintenance_until(at)
            begun = until and not maintenance_until(at - 3600)
            if begun and self.chance.random() < 0.5:
                self._add(at - 1800, self.chance.randrange(at, until + 600), "Login failed")
            elif not until and self.chance.random() < 0.015:
                length = self.chance.choice((20, 60, 300, 900, 4 * HOUR, 9 * HOUR))
                self._add(at, at + self.chance.randrange(10, length), self.chance.choice(SAID))

    def _add(self, begins: int, ends: int, said: str) -> None:
        if not self.outages or begins > self.outages[-1][1] + 2 * HOUR:
            self.outages.append((begins, ends, said))

    def says(self, at: int) -> str | None:
        return next((said for begins, ends, said in self.outages if begins <= at < ends), None)


SAID = (
    "Login failed",
    "Login error message: Server disconnected",
    "Connection to server failed: Connection reset",
    "",  # no answer at all: the gateway's own window gives up
)


class World:
    """A gateway that IBC drives, with the container's rules, on a clock that jumps."""

    def __init__(self, seed: int, weeks: int) -> None:
        self.chance = random.Random(seed)
        self.now = new_york("2026-01-05T09:00:00")
        self.end = self.now + weeks * 7 * 86_400
        self.broker = Broker(self.chance)
        self.broker.plan(self.now + 86_400, weeks)
        self.login, self.launches = Login("live"), Launches()
        self.attempts: list[int] = []
        self.rows: list[list[int]] = []
        self.logged_in: list[int] = []
        self.pauses_seen = 0

    def line(self, text: str, *, ibc: bool = True) -> None:
        self.login.feed(f"2026-01-01 00:00:00:000 {'IBC: ' if ibc else ''}{text}", self.now)

    def run(self) -> None:
        token = False
        while self.now < self.end:
            token = self.one(token=token)

    def one(self, *, token: bool) -> bool:
        """One launch and what becomes of it; whether the next one has a token."""
        at, why = self.launches.next(self.now, token=token)
        if at > self.now:
            assert why
            self.pauses_seen += 1
            self.login.note("pause", self.now, str(at - self.now))
            assert self.login.state in (states.WAITING_BROKER, states.STARTING, states.RESTARTING)
            assert self.login.retry_at == at
            self.now = at
        if self.launches.row == 0 or self.logged_in[-1:] >= self.attempts[-1:]:
            self.rows.append([])
        self.launches.note("launch", self.now)
        self.login.note("launch", self.now, "token" if token else "password")
        self.attempts.append(self.now)
        self.rows[-1].append(self.now)
        self.now += self.chance.randrange(15, 50)
        refused = token and self.chance.random() < 0.1
        if token:
            self.line("Re-starting session")
        else:
            self.line("Login attempt: 1")
        said = self.broker.says(self.now)
        if said is not None:
            self.fail(said)
        elif refused:
            self.line("detected dialog entitled: Unrecognized Username or Password; event=Opened")
            assert self.login.code == "token-refused"
            self.line("IBC returned exit status 137", ibc=False)
        else:
            return self.succeed()
        assert not self.login.held, f"held for {said!r}"
        return False

    def fail(self, said: str) -> None:
        if said:
            for event in ("Activated", "Focused", "Opened"):
                self.line(f"detected dialog entitled: {said[:12]}; event={event}")
            self.line(said)
            self.line("Cold restart in progress")
            assert self.login.state == states.WAITING_BROKER
        self.now += self.chance.randrange(1, 40)
        self.line(f"IBC returned exit status {0 if said else 1}", ibc=False)

    def succeed(self) -> bool:
        """Logged in until the next night's restart, an outage's end of it, or a crash."""
        self.line("Login has completed")
        assert self.login.state == states.LOGGED_IN
        assert self.login.trouble is None
        self.launches.note("login", self.now)
        self.logged_in.append(self.now)
        local = datetime.fromtimestamp(self.now, NEW_YORK)
        night = local.replace(hour=23, minute=45, second=0, microsecond=0)
        ends = int((night if night > local else night + timedelta(days=1)).timestamp())
        outage = min((b for b, _, _ in self.broker.outages if b > self.now), default=self.end)
        crashed = outage < ends
        self.now = min(ends, outage) + 1
        self.line(f"IBC returned exit status {1 if crashed else 0}", ibc=False)
        return not crashed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fifty_weeks(seed: int) -> None:
    world = World(seed, weeks=50)
    world.run()
    attempts = world.attempts
    assert len(world.broker.outages) > 100
    assert world.pauses_seen > 500
    assert len(world.logged_in) > 300
    for place in range(len(attempts) - 9):
        assert attempts[place + 9] - attempts[place] >= HOUR
    for row in world.rows:
        hours: dict[int, int] = {}
        for at in row:
            hours[(at - row[0]) // HOUR] = hours.get((at - row[0]) // HOUR, 0) + 1
        assert hours[0] <= 9
        assert all(count <= 6 for hour, count in hours.items() if hour)
    worst = {"outside": 0, "inside": 0}
    for _, ended, _ in world.broker.outages:
        back = next((at for at in world.logged_in if at >= ended), None)
        if back is None:
            continue
        touched = any(maintenance_until(at) for at in range(ended, back, 60))
        where = "inside" if touched else "outside"
        worst[where] = max(worst[where], back - ended)
    assert worst["outside"] <= 12 * 60, worst
    assert worst["inside"] <= 22 * 60, worst
    assert all(later > earlier for earlier, later in pairwise(attempts))
