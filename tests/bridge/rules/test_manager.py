"""The manager's turns over a watch, closes and stops that are played: what leads to what."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from msgspec import structs

from bridge.account.held_before import HeldBefore
from bridge.clock import SystemClock, settle
from bridge.errors import BridgeError
from bridge.rules.evaluation import Guard, Market, Memory, remembered
from bridge.rules.holdings import Holding
from bridge.rules.journal import Place, RuleJournal
from bridge.rules.manager import Circumstances, PositionManager, Terms
from bridge.rules.model import RuleSet
from bridge.rules.service import described
from bridge.store import Database
from bridge.store import rules as store
from bridge.store.rules import RuleEvent
from tests.bridge.rules.made import NOON, market, only, rules, stock

STOP = {"match": {"symbol": "AAPL"}, "stopLoss": {"percent": 5}, "mode": "trade"}


class HandClock(SystemClock):
    passed = 0.0

    def now(self) -> Any:
        return NOON + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


@dataclass
class PlayedWatch:
    holdings: tuple[Holding, ...]
    price: float
    age_seconds: float = 0.0
    fails: BridgeError | None = None
    moved: Any = None
    direction_of: Any = None
    unclear: tuple[Holding, ...] = ()
    just_logged_in: bool = False

    def may_come_yet(self, _: str) -> bool:
        return self.just_logged_in

    def market(self, holding: Holding) -> Market:
        prices = ((leg.contract.con_id, self.price, self.price) for leg in holding.legs)
        return market(*prices, now=NOON)

    def holding(self, key: str) -> Holding | None:
        return next((each for each in self.holdings if each.key == key), None)

    def age(self) -> float:
        return self.age_seconds

    def underlying(self, _: int) -> int:
        return 0

    def reopened(self, days: float) -> None:
        """So many days after noon, or before."""
        (holding,) = self.holdings
        begun = NOON + timedelta(days=days)
        self.holdings = (structs.replace(holding, opened_at=begun, begun_at=begun),)

    async def look(self, *_: object) -> None:
        if self.fails is not None:
            raise self.fails


@dataclass
class PlayedJournal:
    memories: dict[Place, Memory] = field(default_factory=dict)
    told: list[RuleEvent] = field(default_factory=list)
    damaged: list[RuleEvent] = field(default_factory=list)
    before: list[RuleEvent] = field(default_factory=list)

    async def waits_since(self, _: float) -> list[RuleEvent]:
        return self.before

    async def tell(self, event: RuleEvent) -> None:
        self.told.append(event)

    async def load(self) -> list[str]:
        return []

    def note(self, place: Place, memory: Memory) -> None:
        self.memories[place] = memory

    async def keep_now_and_then(self) -> None:
        """Nothing is kept."""

    async def forget(self, places: list[Place]) -> None:
        for place in places:
            self.memories.pop(place, None)


@dataclass
class PlayedCloses:
    running: dict[str, Any] = field(default_factory=dict)
    begun: list[tuple[str, str]] = field(default_factory=list)
    kept: list[Memory] = field(default_factory=list)

    def of(self, key: str) -> Any:
        return next((each for each in self.running.values() if each.holding == key), None)

    def take_over(self, _: object) -> None:
        """Nothing was left."""

    async def advance_all(self, _: object) -> None:
        """None gets on."""

    async def begin(self, rule: Any, mode: str, _: Holding, judged: Any) -> None:
        self.begun.append((mode, judged.decision.reason))
        self.kept.append(judged.memory)


@dataclass
class PlayedStops:
    wanted: set[Place] = field(default_factory=set)
    taken_away: set[Place] = field(default_factory=set)

    async def follow(self, wanted: Mapping[Place, Any], *, judging: bool) -> None:
        self.wanted = set(wanted) if judging else set()

    async def make_way(self, _: object) -> None:
        """There is none."""

    async def take_all_away(self, places: Iterable[Place]) -> None:
        self.taken_away |= set(places)


class Stand:
    """A manager with one holding; its clock is wound by hand."""

    def __init__(self, wanted: RuleSet, holding: Holding, price: float) -> None:
        self.clock = HandClock()
        self.watch = PlayedWatch((holding,), price)
        self.lost: BridgeError | None = None
        self.late: tuple[HeldBefore, ...] = ()
        heard = SimpleNamespace(listen=lambda _: None)
        names = ("ready", "position", "execution", "order_status")
        gateway = SimpleNamespace(
            require_ready=self._require_ready,
            events=SimpleNamespace(**dict.fromkeys(names, heard)),
        )
        restarts = SimpleNamespace(seconds_left=lambda _: None, active=lambda _: None)
        given: dict[str, Any] = {
            "database": None, "gateway": gateway, "clock": self.clock, "watch": self.watch,
            "orders": SimpleNamespace(refused=lambda *_, **__: ""), "restarts": restarts,
            "halt": SimpleNamespace(halt=None),
            "condition": SimpleNamespace(writable=True), "guard_seconds": 120.0,
            "late": lambda: self.late,
        }  # fmt: skip
        self.manager = PositionManager(Circumstances(**cast("Any", given)))
        self.journal, self.closes, self.stops = PlayedJournal(), PlayedCloses(), PlayedStops()
        for name, part in (("journal", self.journal), ("closes", self.closes)):
            setattr(self.manager, f"_{name}", part)
        self.manager._protection = cast("Any", self.stops)
        self.manager._take(Terms(rules=wanted))

    def _require_ready(self) -> None:
        if self.lost is not None:
            raise self.lost

    @property
    def holding(self) -> Holding:
        return self.watch.holdings[0]

    def remembers(self, rule: str = "r0", **members: Any) -> None:
        """That the holding is known since a day."""
        memory = remembered(self.holding, NOON - timedelta(days=1))
        self.journal.memories[rule, self.holding.key] = structs.replace(memory, **members)

    async def turn(self, seconds: float = 1.0, price: float | None = None) -> None:
        self.clock.passed += seconds
        self.watch.price = self.watch.price if price is None else price
        await self.manager.turn()

    async def ticks(self) -> None:
        """A price has moved, and is judged before the next turn, which will look again."""
        self.manager._stale, self.watch.age_seconds = False, 31.0
        self.manager._price_moved(1)
        await asyncio.sleep(0.1)


async def test_no_stop_is_sent_before_a_holding_has_settled() -> None:
    """It may be a leg of a combination, or a position that is gone already."""
    stand = Stand(rules(STOP | {"protect": "broker"}), only(stock(100)), 100.0)
    await stand.turn()
    assert stand.stops.wanted == set()
    await stand.turn(2)
    assert stand.stops.wanted == set()
    await stand.turn(2)
    assert stand.stops.wanted == {("r0", stand.holding.key)}


async def test_what_may_not_be_listed_yet_is_not_forgotten() -> None:
    stand = Stand(rules(STOP | {"protect": "broker"}), only(stock(100)), 100.0)
    place, held = ("r0", stand.holding.key), stand.watch.holdings
    stand.remembers(best=120.0)
    stand.watch.holdings, stand.watch.just_logged_in = (), True
    await stand.turn()
    assert (set(stand.journal.memories), stand.stops.taken_away) == ({place}, set())
    stand.watch.holdings = held
    await stand.turn()
    assert stand.journal.memories[place].best == 120.0
    stand.watch.holdings, stand.watch.just_logged_in = (), False
    stand.manager.look_again()
    await stand.turn()
    assert (stand.journal.memories, stand.stops.taken_away) == ({}, {place})


@pytest.mark.parametrize("known", [False, True])
async def test_what_may_be_a_leg_of_something_that_is_not_listed_yet_waits_for_it(
    known: bool,
) -> None:
    stand = Stand(rules(STOP | {"protect": "broker"}), only(stock(100)), 90.0)
    place = ("r0", stand.holding.key)
    late = HeldBefore(account="DU1", con_id=2, symbol="AAPL", sec_type="OPT", quantity=-1)
    stand.late = (late,)
    if known:  # by itself, from before the login
        stand.remembers()
    for _ in range(3):
        await stand.turn(4)
    assert (place in stand.journal.memories, bool(stand.closes.begun)) == (known, known)
    assert (stand.stops.wanted == {place}) is known
    stand.closes.begun.clear()
    others = {"account": "DU2"}, {"symbol": "SPY"}
    stand.late = tuple(structs.replace(late, **each) for each in others)
    await stand.turn()
    await stand.turn(4)
    await stand.turn()
    assert stand.closes.begun


@pytest.mark.parametrize("opened", [None, NOON - timedelta(days=9)])
async def test_a_position_that_was_closed_and_opened_again_begins_anew(opened: Any) -> None:
    """Between two looks nobody saw that it was gone."""
    trailing = {"match": {"symbol": "AAPL"}, "trailing": {"percent": 5}, "mode": "trade"}
    stand = Stand(rules(trailing | {"maxHoldingDays": 3}), only(stock(100)), 90.0)
    old = NOON - timedelta(days=9)
    stand.remembers(first_seen=old, made_at=old, opened=opened, stop=114.0, best=120.0)
    stand.watch.reopened(-0.01)
    await stand.turn()
    await stand.turn(4)
    await stand.turn()
    assert stand.closes.begun == []
    memory = stand.journal.memories["r0", stand.holding.key]
    assert (memory.opened, memory.best) == (stand.holding.begun_at, 90.0)
    await stand.turn(price=85.0)
    assert stand.closes.begun == [("trade", "trailing: 85 has reached 85.5")]


async def test_what_was_decided_of_an_earlier_position_binds_no_later_one() -> None:
    stand = Stand(rules(STOP), only(stock(100)), 90.0)
    stand.remembers(decided=True)
    await stand.turn()
    assert stand.closes.begun == []
    stand.watch.reopened(-0.01)
    await stand.turn()
    await stand.turn(4)
    assert len(stand.closes.begun) == 1


async def test_the_stop_of_an_earlier_position_is_taken_away_first() -> None:
    stand = Stand(rules(STOP | {"protect": "broker"}), only(stock(100)), 100.0)
    guard = Guard(number=1, key="old", stop=95.0, units=100, at=NOON)
    stand.remembers(guard=guard)
    stand.watch.reopened(-0.01)
    for _ in range(3):
        await stand.turn(4)
        assert stand.stops.wanted == set()
        assert not stand.closes.begun
        (shown,) = stand.manager.standing()
        assert shown.waits == "the stop of the position before it is being cancelled"
    place = ("r0", stand.holding.key)
    ended = structs.replace(guard, anew=True)
    stand.journal.memories[place] = structs.replace(stand.journal.memories[place], guard=ended)
    await stand.turn()
    await stand.turn(4)
    assert stand.journal.memories[place].guard is None
    assert stand.stops.wanted == {place}


@pytest.mark.parametrize("seconds", [0, 30])
async def test_what_is_known_since_it_was_opened_is_no_earlier_position(seconds: float) -> None:
    """Nor by an earlier release, which did not keep when, on a clock that is a little late."""
    stand = Stand(rules(STOP), only(stock(100)), 100.0)
    stand.remembers(best=120.0)
    stand.watch.reopened(-1 + seconds / 86400)
    await stand.turn()
    memory = stand.journal.memories["r0", stand.holding.key]
    assert (memory.best, memory.opened) == (120.0, stand.holding.begun_at)


def test_a_holding_is_told_its_direction_by_what_was_kept() -> None:
    stand = Stand(rules(STOP), only(stock(100)), 100.0)
    assert stand.manager._direction_of(stand.holding) == 0
    stand.remembers("other", direction=0)
    stand.remembers(direction=-1)
    assert stand.manager._direction_of(stand.holding) == -1
    stand.closes.running["d"] = SimpleNamespace(holding=stand.holding.key, direction=1)
    assert stand.manager._direction_of(stand.holding) == 1


LOST = BridgeError("the session is lost")


@pytest.mark.parametrize("how", ["away", "no-positions", "other-rules"])
async def test_what_ticks_have_decided_is_not_carried_out_after_an_absence(how: str) -> None:
    stand = Stand(rules(STOP), only(stock(100)), 94.0)
    stand.remembers()
    await stand.ticks()
    assert len(stand.manager._decided) == 1
    if how == "away":
        stand.lost = LOST
        await stand.turn()
    elif how == "no-positions":
        stand.watch.fails = LOST
        with pytest.raises(BridgeError):
            await stand.turn()
    else:
        stand.manager.adopt(Terms(rules=rules(STOP | {"stopLoss": {"percent": 50}})))
    stand.lost = stand.watch.fails = None
    await stand.turn(16 * 3600, price=110.0)
    assert stand.closes.begun == []


async def test_a_stop_that_went_out_after_a_tick_decided_is_not_forgotten() -> None:
    """Else nobody would cancel it before the close."""
    stand = Stand(rules(STOP), only(stock(100)), 94.0)
    stand.remembers()
    await stand.ticks()
    guard = Guard(number=1, key="new", stop=95.0, units=100, at=NOON)
    stand.remembers(guard=guard)
    await stand.turn()
    assert [each.guard for each in stand.closes.kept] == [guard]


async def restarted(stand: Stand, wanted: RuleSet) -> None:
    """The bridge begins again over what was kept, perhaps with another stack.yaml."""
    await stand.manager.start(Terms(rules=wanted))
    await settle(stand.manager._task)
    stand.closes.begun.clear()
    await stand.turn(4)


async def test_a_rule_of_stack_yaml_that_was_changed_begins_anew_at_the_start() -> None:
    """It changes by a restart alone: what was simulated, refused or cancelled is over."""
    simulated = STOP | {"mode": "simulate"}
    stand = Stand(rules(simulated), only(stock(100)), 94.0)
    await stand.turn()
    await stand.turn(4)
    assert [mode for mode, _ in stand.closes.begun] == ["simulate"]
    (place,) = stand.journal.memories
    stand.journal.memories[place] = stand.closes.kept[0]
    assert stand.journal.memories[place].decided
    await restarted(stand, rules(simulated))
    assert stand.closes.begun == []
    await restarted(stand, rules(STOP))
    assert [mode for mode, _ in stand.closes.begun] == ["trade"]


async def test_an_update_of_the_bridge_is_no_change_of_the_rules() -> None:
    stand = Stand(RuleSet(), only(stock(100)), 94.0)
    stand.remembers(decided=True)  # an earlier release kept no wording
    await restarted(stand, rules(STOP))
    await stand.turn()
    assert stand.closes.begun == []
    (memory,) = stand.journal.memories.values()
    assert memory.wording


async def test_a_rule_that_is_changed_while_it_closes_does_not_begin_anew_at_the_start() -> None:
    stand = Stand(rules(STOP), only(stock(100)), 94.0)
    stand.remembers(decided=True, wording="before")
    stand.closes.running["d"] = SimpleNamespace(holding=stand.holding.key, direction=1, rule="r0")
    stand.manager.adopt(Terms(rules=rules(STOP | {"close": {"steps": 9}})))
    (memory,) = stand.journal.memories.values()
    assert (memory.decided, memory.round) == (True, 0)
    assert memory.wording != "before"


async def test_that_legs_are_not_clear_is_told_once_when_it_stays() -> None:
    stand = Stand(rules(STOP), only(stock(100)), 100.0)
    both = (stand.holding, only(stock(5, con_id=2)))
    stand.watch.unclear = tuple(structs.replace(each, unclear="whole") for each in both)
    await stand.turn()
    assert stand.journal.told == []
    for _ in range(3):
        await stand.turn(11)
    assert [described(each) for each in stand.journal.told] == [
        "whole cannot close yet AAPL, AAPL; several positions fit the legs that it names, and no "
        "rule is for any of them: say the expiration or the conId of each leg"
    ]


async def test_what_cannot_be_shown_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(rules({"match": {"account": "DU1"}, "at": "15:00"}), only(stock(100)), 100.0)
    broken = only(stock(5, con_id=2))
    stand.watch.holdings += (broken,)
    market_of = stand.watch.market

    def failing(holding: Holding) -> Market:
        if holding.key == broken.key:
            raise ZeroDivisionError
        return market_of(holding)

    monkeypatch.setattr(stand.watch, "market", failing)
    await stand.turn()
    assert [each.holding for each in stand.manager.standing()] == [stand.watch.holdings[0].key]


async def test_a_rule_that_cannot_be_judged_keeps_no_other_from_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand = Stand(rules({"match": {"account": "DU1"}, "at": "15:00"}, STOP), only(stock(100)), 94.0)
    stand.remembers("r1")
    judged = stand.manager._judged

    def failing(rule: Any, *given: Any) -> Any:
        if rule.id == "r0":
            raise ZeroDivisionError
        return judged(rule, *given)

    monkeypatch.setattr(stand.manager, "_judged", failing)
    await stand.turn()
    assert stand.closes.begun == [("trade", "stopLoss: -600 has reached -500")]
    for _ in range(3):
        await stand.turn(11)
    assert [described(each) for each in stand.journal.told] == [
        "r0 cannot close yet AAPL; an error of the bridge keeps it from being judged; see its log"
    ]


async def test_a_damaged_row_keeps_no_bridge_from_starting(tmp_path: Path) -> None:
    good, database = remembered(only(stock(5)), NOON), await Database.open(tmp_path)

    def write(connection: sqlite3.Connection) -> None:
        store.remember(connection, "r0", "DU1/1:+1", b'{"first_seen":"2026')
        store.remember(connection, "r1", "DU1/1:+1", msgspec.json.encode(good))
        store.save_close(connection, "d", b"{}", ended=False)

    await database.write(write)
    stand = Stand(rules(STOP), only(stock(100)), 100.0)
    journal = RuleJournal(database=database, clock=stand.clock, soon=lambda: None)
    assert await journal.load() == []
    assert journal.memories == {("r1", "DU1/1:+1"): good}
    stand.journal.damaged = journal.damaged
    await stand.manager.start(Terms(rules=rules(STOP)))
    await settle(stand.manager._task)
    assert [described(each) for each in stand.journal.told] == [
        "r0 has lost what it knew of DU1/1:+1; a row of the journal is damaged, and the rule "
        "begins anew for it; look for open orders of it",
        "a rule has lost what it knew of a close; a row of the journal is damaged, and nobody "
        "goes on with it; look for open orders of it",
    ]
    await database.close()


async def test_the_journal_knows_what_was_told_before_a_restart(tmp_path: Path) -> None:
    database, clock = await Database.open(tmp_path), HandClock()
    journal = RuleJournal(database=database, clock=clock, soon=lambda: None)
    for kind in ("waits", "decided", "waits"):
        clock.passed += 100
        await journal.tell(RuleEvent(at=clock.now(), kind=kind, rule="r0", detail={"why": kind}))
    again = RuleJournal(database=database, clock=clock, soon=lambda: None)
    assert [each.sequence for each in await again.waits_since(1000)] == [1, 3]
    assert [each.sequence for each in await again.waits_since(100)] == [3]
    await database.close()


async def test_what_a_tick_sees_while_a_stop_is_kept_is_not_lost(tmp_path: Path) -> None:
    """A trailing stop would loosen: its best price went back to that of before the write."""
    place, first = ("r0", "DU1/1:+1"), remembered(only(stock(5)), NOON)
    database = await Database.open(tmp_path)
    stand = Stand(rules(STOP), only(stock(100)), 100.0)
    journal = RuleJournal(database=database, clock=stand.clock, soon=lambda: None)
    journal.noted(place, first)
    guard = Guard(number=1, key="k", stop=90.0, units=5.0, at=NOON)
    keeping = asyncio.create_task(journal.keep(place, structs.replace(first, guard=guard)))
    await asyncio.sleep(0)
    journal.note(place, structs.replace(first, best=123.0))
    await keeping
    assert journal.memories[place] == structs.replace(first, best=123.0, guard=guard)
    await journal.keep_changed()
    again = RuleJournal(database=database, clock=stand.clock, soon=lambda: None)
    await again.load()
    assert again.memories == journal.memories
    await database.close()
