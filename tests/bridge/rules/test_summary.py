"""What people are told once a day of what the rules have done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec
import pytest

from bridge.quantity import plain
from bridge.rules.evaluation import Trigger, reason_of
from bridge.rules.manager import Terms
from bridge.rules.model import RuleSet, read
from bridge.rules.service import RulesFileError, RulesService, described
from bridge.services import Need
from bridge.store import Database, settings
from bridge.store import rules as store
from bridge.store.rules import RuleEvent
from bridge.tws.events import Signal
from tests.bridge.rules.made import NOON

ZONE = ZoneInfo("America/New_York")


class Manager:
    """As far as a summary asks it."""

    holdings = 2
    waits: str | None = None
    needs: Need | None = None
    acts: tuple[tuple[str, Any], ...] | list[tuple[str, Any]] = ()

    def __init__(self) -> None:
        self.happened: Signal[[RuleEvent]] = Signal("rule-event")

    async def start(self, terms: Terms) -> None:
        self.acts = [(each.id, each.match.symbol) for each in terms.rules.rules]

    def standing(self) -> tuple[()]:
        return ()

    def need(self) -> Need | None:
        return self.needs


class Day:
    """A service whose clock is set."""

    def __init__(self, database: Database) -> None:
        self.database, self.manager = database, Manager()
        self.at = datetime(2026, 6, 5, 12, 0, tzinfo=ZONE)  # a Friday
        self.service = RulesService(
            database, cast("Any", self), cast("Any", None), cast("Any", self.manager), RuleSet()
        )

    def now(self) -> datetime:
        return self.at

    async def told(self, day: int, hour: int) -> str | None:
        self.at = datetime(2026, 6, day, hour, 5, tzinfo=ZONE)
        return await self.service.summary()

    async def happens(self, day: int, hour: int, kind: str = "closed") -> None:
        at = datetime(2026, 6, day, hour, 30, tzinfo=ZONE)
        event = RuleEvent(at=at, kind=kind, rule="stop", detail={"name": "AAPL", "quantity": 5})
        await self.database.write(lambda connection: store.add_event(connection, event))


@pytest.fixture
async def day(tmp_path: Path) -> AsyncIterator[Day]:
    database = await Database.open(tmp_path)
    yield Day(database)
    await database.close()


async def test_once_a_day_after_the_close_and_never_at_a_weekend(day: Day) -> None:
    await day.happens(5, 11)
    assert await day.told(5, 16) is None
    assert await day.told(5, 17) == (
        "Rules watch 2 positions. Today: 1 closed.\n11:30 stop has closed 5 AAPL"
    )
    assert await day.told(5, 18) is None
    assert await day.told(6, 17) is None
    assert await day.told(7, 17) is None


async def test_what_came_after_a_summary_is_in_the_next_one(day: Day) -> None:
    """Also on a Friday evening, or in a market that is open on Sunday."""
    assert await day.told(5, 17) == "Rules watch 2 positions. Today: nothing."
    await day.happens(5, 19)
    await day.happens(7, 20, "gone")
    assert await day.told(8, 17) == (
        "Rules watch 2 positions. Since Friday 17:05: 1 closed, 1 gone.\n"
        "Fri 19:30 stop has closed 5 AAPL\n"
        "Sun 20:30 stop ends, somebody else has closed 5 AAPL"
    )


async def test_a_summary_says_when_nothing_is_watched_at_all(day: Day) -> None:
    day.manager.waits = "the session is lost"
    told = await day.told(5, 17)
    assert told is not None
    assert "Nothing is judged now: the session is lost." in told


async def test_a_summary_says_each_day_what_is_not_judged(day: Day) -> None:
    message = "Rule stop is not judged for AAPL: nobody knows what it is"
    day.manager.needs = Need(code="rules-unjudged", message=message, next_step="look")
    for number in (4, 5):
        assert f"{message}." in (await day.told(number, 17) or "")


async def test_a_day_that_an_earlier_release_kept_is_taken_over(day: Day) -> None:
    await day.database.write(
        lambda connection: settings.put(connection, "rules.summary", b"2026-06-04", day.at)
    )
    await day.happens(4, 16)
    await day.happens(4, 18)
    told = await day.told(5, 17)
    assert told is not None
    assert "Since Thursday 17:00: 1 closed." in told


def test_sizes_and_money_of_a_million_are_written_out() -> None:
    detail = {"name": "EUR.USD", "quantity": 1234567.5}
    closed = RuleEvent(at=NOON, kind="closed", rule="fx", detail=detail)
    assert described(closed) == "fx has closed 1234567.5 EUR.USD"
    gain = Trigger(name="takeProfit", value=1234567.0, level=1_000_000.0)
    assert reason_of(gain) == "takeProfit: 1234567 has reached 1000000"
    assert (plain(0.0), plain(-1e-12), plain(100.0)) == ("0", "0", "100")


async def test_an_error_ends_no_summaries(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    found: Iterator[Exception | str] = iter([ZeroDivisionError(), "the day's"])

    async def summary() -> str | None:
        each = next(found, None)
        if isinstance(each, Exception):
            raise each
        return each

    async def sleep(_: float) -> None:
        if told:
            raise asyncio.CancelledError

    monkeypatch.setattr(day.service, "summary", summary)
    monkeypatch.setattr(day, "sleep", sleep, raising=False)
    with pytest.raises(asyncio.CancelledError):
        await day.service.watch_day(told.append)
    assert told == ["the day's"]


async def test_a_rule_whose_name_stack_yaml_takes_is_told_and_marked(day: Day) -> None:
    """It was written before; the one of stack.yaml may be for something else."""
    own = read({"rules": [{"id": "stop", "match": {"symbol": "AAPL"}, "at": "15:00"},
                          {"id": "mine", "match": {"symbol": "AAPL"}, "at": "15:00"}]})  # fmt: skip
    day.service._file = read([{"id": "stop", "match": {"symbol": "KO"}, "at": "15:00"}])
    content = msgspec.json.encode(own)
    await day.database.write(lambda connection: store.put_rules(connection, content, day.at, ""))
    told: list[RuleEvent] = []
    day.manager.happened.listen(told.append)
    await day.service.start()
    assert day.manager.acts == [("stop", "KO"), ("mine", "AAPL")]
    assert day.service.view().overridden == ("stop",)
    assert [described(each) for each in told] == [
        "stop as it was written through the API does nothing; stack.yaml has a rule of the same"
        " name, and that one holds: give yours another"
    ]


async def test_a_clock_that_was_ahead_once_ends_no_summaries(day: Day) -> None:
    assert await day.told(12, 17) is not None
    assert await day.told(5, 17) is not None
    assert await day.told(5, 18) is None
    assert await day.told(8, 17) is not None


async def test_rules_of_a_later_release_are_told_and_not_ignored(day: Day) -> None:
    content = b'{"rules":[{"id":"stop","match":{"symbol":"KO"},"at":"15:00","news":1}]}'
    await day.database.write(lambda connection: store.put_rules(connection, content, day.at, ""))
    with pytest.raises(RulesFileError, match=r"through the API, version 1: .*unknown field `news`"):
        await day.service.start()
