"""Stops at the broker, over orders that are played: one holding's trouble is its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from bridge.clock import SystemClock
from bridge.orders.errors import (
    ChangeRejectedError,
    OrderPendingError,
    OrderRefusedByRulesError,
    TradingHaltedError,
    Violation,
)
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.closing_steps import Working
from bridge.rules.evaluation import Guard, remembered
from bridge.rules.journal import RuleJournal
from bridge.rules.model import Threshold, Trailing
from bridge.rules.protection import Protection
from bridge.rules.service import described
from bridge.rules.trouble import Troubles
from bridge.rules.watch import HoldingWatch
from tests.bridge.orders.fake_broker import lost
from tests.bridge.rules.made import NOON, only, rules, stock

if TYPE_CHECKING:
    from bridge.errors import BridgeError
    from bridge.orders.request import ChangeRequest, OrderRequest
    from bridge.rules.evaluation import Memory
    from bridge.rules.holdings import Holding
    from bridge.rules.model import Rule
    from bridge.store.rules import RuleEvent

Place = tuple[str, str]
OPEN = Working(state="open")
REFUSED = OrderRefusedByRulesError([Violation("max-notional", "too much money")])
CLOSED = OrderRefusedByRulesError([Violation("market-closed", "the market is closed")])
READ_ONLY = OrderRefusedByRulesError([Violation("read-only", "this bridge is read-only")])


class HandClock(SystemClock):
    passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed)


@dataclass
class PlayedOrders:
    """Stops that are open, and refuse to be changed where `refuses` says so."""

    refuses: dict[str, Exception] = field(default_factory=dict)
    changes: list[tuple[str, float | None]] = field(default_factory=list)
    placed: list[OrderRequest] = field(default_factory=list)
    other: float = 0.0
    state: Working = OPEN
    cancelled: list[str] = field(default_factory=list)
    stops: list[float | None] = field(default_factory=list)

    async def listed(self) -> tuple[()]:
        return ()

    async def working(self, *_: object) -> float:
        return self.other

    async def state_of(self, _: str) -> Working:
        return self.state

    async def place(self, key: str, request: OrderRequest) -> None:
        if key.split("-")[-2] in self.refuses:
            raise self.refuses["stop"]
        self.placed.append(request)

    async def cancel_order(self, key: str) -> None:
        self.cancelled.append(key)
        if "cancel" in self.refuses:
            raise self.refuses["cancel"]
        self.state = Working(state="cancelled")

    async def change_order(self, key: str, change: ChangeRequest) -> None:
        if key in self.refuses:
            raise self.refuses[key]
        self.changes.append((key, change.quantity))
        self.stops.append(change.stop_price)


@dataclass
class PlayedJournal:
    memories: dict[Place, Memory]
    told: list[RuleEvent] = field(default_factory=list)

    def soon(self) -> None:
        pass

    async def keep(self, place: Place, memory: Memory) -> None:
        self.memories[place] = memory

    async def tell(self, event: RuleEvent) -> None:
        self.told.append(event)


class Stand:
    """Two holdings of 600 with stops of 400."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.orders = PlayedOrders()
        pair = rules(*({"match": {"account": "DU1"}, "stopLoss": {"percent": 30},
                        "protect": "broker"} for _ in range(2))).rules  # fmt: skip
        self.wanted: dict[Place, tuple[Rule, Holding]] = {}
        for number, rule in enumerate(pair):
            holding = only(stock(600, con_id=number + 1))
            self.wanted[rule.id, holding.key] = (rule, holding)
        self.journal = PlayedJournal(
            {
                place: structs.replace(
                    remembered(holding, NOON),
                    guard=Guard(number=1, key=place[0], stop=70.0, units=400, at=NOON),
                )
                for place, (_, holding) in self.wanted.items()
            }
        )
        watch = SimpleNamespace(holding=lambda _: None, may_come_yet=lambda _: False)
        self.protection = Protection(
            orders=cast("ClosingOrders", self.orders),
            journal=cast("RuleJournal", self.journal),
            watch=cast("HoldingWatch", watch),
            clock=self.clock,
            halted=lambda: self.halted,
            hurried=lambda: self.hurried,
        )
        self.halted = self.hurried = False

    @classmethod
    def of_one(cls, held: float, **guard: Any) -> Stand:
        """One holding; without members of a stop it has none."""
        stand = cls()
        (place, (rule, _)), _ = stand.wanted.items()
        holding = only(stock(held))
        made = Guard(number=1, key="g", at=NOON, **guard) if guard else None
        stand.wanted = {place: (rule, holding)}
        stand.journal.memories = {place: structs.replace(remembered(holding, NOON), guard=made)}
        return stand

    def says(self, **threshold: float) -> None:
        """The rule's stop-loss is another."""
        ((place, (rule, holding)),) = self.wanted.items()
        rule = structs.replace(rule, stop_loss=Threshold(**threshold))
        self.wanted = {place: (rule, holding)}

    @property
    def guard(self) -> Guard:
        (memory,) = self.journal.memories.values()
        assert memory.guard is not None
        return memory.guard

    async def turn(self, seconds: float = 1.0, *, judging: bool = True) -> list[tuple[str, str]]:
        """What is told in it."""
        self.clock.passed += seconds
        self.journal.told.clear()
        await self.protection.make_way(self.wanted)
        await self.protection.follow(self.wanted, judging=judging)
        return [(each.kind, each.rule) for each in self.journal.told]


async def test_a_stop_that_may_not_follow_is_told_once_and_keeps_nobody_waiting() -> None:
    stand = Stand()
    stand.orders.refuses = {"r0": REFUSED}
    assert await stand.turn() == [("unprotected", "r0"), ("protected", "r1")]
    event = stand.journal.told[0]
    assert (event.detail["covered"], event.detail["held"], event.detail["stop"]) == (400, 600, 70.0)
    assert described(event) == (
        "r0 has a stop at the broker for 400 that cannot follow: held are 600 AAPL; "
        + REFUSED.detail
    )
    assert stand.orders.changes == [("r1", 600)]
    for _ in range(30):
        assert await stand.turn() == []
    stand.orders.refuses.clear()
    await stand.turn(10)
    assert stand.orders.changes == [("r1", 600), ("r0", 600)]
    assert await stand.turn() == []
    stand.orders.refuses = {"r0": REFUSED}
    stand.wanted = {
        place: (rule, structs.replace(holding, units=700.0))
        for place, (rule, holding) in stand.wanted.items()
    }
    assert ("unprotected", "r0") in await stand.turn()  # well in between: it is news again


async def test_what_may_pass_by_itself_is_told_when_it_stays() -> None:
    stand = Stand()
    stand.orders.refuses = {"r0": OrderPendingError("no answer yet")}
    assert await stand.turn() == [("protected", "r1")]
    assert await stand.turn(5) == []
    assert await stand.turn(6) == [("unprotected", "r0")]
    assert await stand.turn() == []


async def test_a_stop_that_the_broker_holds_back_protects_nothing_and_that_is_told() -> None:
    stand = Stand.of_one(100.0, stop=70.0, units=100)
    stand.orders.state = structs.replace(OPEN, idle=True, reason="399: not in this session")
    assert await stand.turn() == []
    assert await stand.turn(11) == [("unprotected", "r0")]
    said = "r0 has NO stop at the broker for AAPL; the broker holds the order back (Inactive): 399"
    assert described(stand.journal.told[0]).startswith(said)
    stand.says(percent=20)
    assert await stand.turn(11) == []  # it follows, for when the broker lets it work
    assert (stand.orders.stops, stand.guard.stop) == ([80.0], 80.0)
    stand.orders.state = OPEN
    assert await stand.turn(11) == [("protected", "r0")]


async def test_an_error_of_the_bridge_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand = Stand()
    stand.orders.refuses = {"r0": ZeroDivisionError()}
    assert await stand.turn() == [("unprotected", "r0"), ("protected", "r1")]
    place = next(iter(stand.wanted))
    del stand.wanted[place]

    async def withdraw(*_: object) -> Any:
        raise REFUSED

    monkeypatch.setattr(stand.protection, "withdraw", withdraw)
    assert await stand.turn() == []
    assert stand.journal.memories[place].guard is not None


async def test_a_stop_that_is_as_large_as_it_should_be_again_is_told() -> None:
    stand = Stand()
    stand.orders.refuses = {"r0": REFUSED}
    await stand.turn()
    stand.orders.other = 200.0  # a person's order closes the rest: now the stop covers enough
    told = await stand.turn(11)
    assert ("protected", "r0") in told


async def test_a_stop_has_no_residue_of_subtracting() -> None:
    """Neither a new one nor one that follows: an order for it would be refused."""
    stand = Stand()
    stand.orders.other = 5000.0
    for place, (rule, holding) in stand.wanted.items():
        stand.wanted[place] = (rule, structs.replace(holding, units=7250.77))
    fresh = next(iter(stand.wanted))
    stand.journal.memories[fresh] = structs.replace(stand.journal.memories[fresh], guard=None)
    await stand.turn()
    assert [each.quantity for each in stand.orders.placed] == [2250.77]
    assert stand.orders.changes == [("r1", 2250.77)]


async def test_a_stop_that_no_price_reaches_is_told_once() -> None:
    """100 shares of 100 each cannot lose 20,000."""
    stand = Stand()
    for place, (rule, holding) in stand.wanted.items():
        amount = Threshold(amount=200.0 * holding.units)
        stand.wanted[place] = (structs.replace(rule, stop_loss=amount), holding)
        memory = stand.journal.memories[place]
        stand.journal.memories[place] = structs.replace(memory, guard=None)
    assert await stand.turn() == [("unprotected", "r0"), ("unprotected", "r1")]
    why = stand.journal.told[0].detail["why"]
    assert why == "its stop would stand at -100: no price gets there"
    for _ in range(20):
        assert await stand.turn() == []
    assert stand.orders.placed == []
    for place, (rule, holding) in stand.wanted.items():
        stand.wanted[place] = (structs.replace(rule, stop_loss=Threshold(percent=30)), holding)
    assert await stand.turn(11) == [("protected", "r0"), ("protected", "r1")]
    assert len(stand.orders.placed) == 2


def test_trouble_is_told_once_until_it_is_over() -> None:
    clock = HandClock()
    troubles = Troubles(clock=clock)
    assert troubles.add("a", lasting=True)
    assert troubles.add("a", lasting=True)  # nobody could be told yet
    troubles.told("a")
    assert not troubles.add("a", lasting=True)
    assert troubles.rests("a")
    assert not troubles.rests("b")
    assert troubles.over("a")
    assert not troubles.over("a")
    assert not troubles.rests("a")
    assert not troubles.add("a", lasting=False)
    assert troubles.of() == ("a",)


async def test_a_stop_that_has_begun_to_fill_only_gets_smaller() -> None:
    """Of 100, 40 are filled; the position that was looked at is of before that."""
    stand = Stand.of_one(100, stop=70.0, units=100)
    stand.orders.state = Working(state="open", quantity=100, filled=40)
    assert await stand.turn() == []
    assert stand.orders.changes == []
    stand.orders.other = 70  # a person sells more
    assert await stand.turn() == [("protected", "r0")]
    assert stand.orders.changes == [("g", 70)]


async def test_a_stop_is_as_large_as_the_broker_has_it() -> None:
    """Its change went out, and the process died before it was kept."""
    stand = Stand.of_one(100, stop=70.0, units=100)
    stand.orders.state = Working(state="open", quantity=200)
    assert await stand.turn() == [("protected", "r0")]
    assert stand.orders.changes == [("g", 100)]


async def test_what_is_held_after_a_stop_has_filled_gets_another_one() -> None:
    stand = Stand.of_one(540, stop=70.0, units=60)
    now = stand.clock.now()
    stand.orders.state = Working(state="filled", quantity=60, filled=60, ended_at=now)
    assert await stand.turn() == []  # the position may be of before the fill
    assert await stand.turn(2) == [("closed", "r0")]
    assert described(stand.journal.told[0]) == "r0 has closed 60 AAPL; 540 are held still"
    assert await stand.turn() == [("protected", "r0")]
    assert [each.quantity for each in stand.orders.placed] == [540]
    assert stand.guard.number == 2


async def test_a_rule_that_is_written_anew_moves_its_stop_also_away_from_the_price() -> None:
    stand = Stand.of_one(600)
    stand.says(percent=5)
    assert await stand.turn() == [("protected", "r0")]
    stand.orders.state = Working(state="open", quantity=600)
    assert await stand.turn(60) == []
    stand.says(percent=30)
    assert await stand.turn() == [("protected", "r0")]
    assert (stand.orders.stops, stand.guard.stop) == ([70.0], 70.0)
    assert await stand.turn() == []
    ((place, (rule, holding)),) = stand.wanted.items()
    trails = structs.replace(rule, stop_loss=None, trailing=Trailing(percent=5))
    stand.wanted = {place: (trails, holding)}
    await stand.turn()  # it is not armed: there is nowhere for a stop to stand
    assert len(stand.orders.cancelled) == 1
    assert stand.guard.anew


async def test_a_price_moves_a_stop_only_nearer() -> None:
    """More was bought at a lower cost: the level of the same rule is further away."""
    stand = Stand.of_one(600)
    await stand.turn()
    stand.orders.state = Working(state="open", quantity=600)
    ((place, (rule, _)),) = stand.wanted.items()
    for cost, stop in ((90.0, 70.0), (110.0, 77.0)):
        stand.wanted = {place: (rule, only(stock(600, cost=cost)))}
        await stand.turn(60)
        assert stand.guard.stop == pytest.approx(stop)


@pytest.mark.parametrize("sign", [1, -1])
async def test_a_stop_that_a_person_has_moved_nearer_is_not_moved_back(sign: int) -> None:
    stand = Stand.of_one(100.0 * sign, stop=100 - 30.0 * sign, units=100)
    stand.says(percent=30)
    await stand.turn()  # the rule is as it was when the stop was sent
    stand.orders.stops.clear()
    ((place, (rule, holding)),) = stand.wanted.items()
    trails = structs.replace(rule, trailing=Trailing(percent=5))
    stand.wanted = {place: (trails, holding)}

    async def follow(level: float) -> None:
        kept = stand.journal.memories[place]
        stand.journal.memories[place] = structs.replace(kept, stop=level)
        await stand.turn(11)

    await follow(100 - 25.0 * sign)
    assert stand.orders.stops == [100 - 25.0 * sign]
    stand.orders.state = structs.replace(OPEN, stop=100 - 10.0 * sign)  # in TWS
    await follow(100 - 20.0 * sign)
    assert stand.orders.stops == [100 - 25.0 * sign]
    await follow(100 - 5.0 * sign)
    assert stand.orders.stops == [100 - 25.0 * sign, 100 - 5.0 * sign]


async def test_a_clock_that_is_set_back_does_not_hold_a_stop_back() -> None:
    stand = Stand.of_one(600)
    await stand.turn(3600)
    stand.orders.state = Working(state="open", quantity=600)
    ((place, (rule, _)),) = stand.wanted.items()
    stand.wanted = {place: (rule, only(stock(600, cost=110.0)))}
    await stand.turn(-1800)
    assert stand.guard.stop == pytest.approx(77.0)


async def test_two_rules_of_one_position_have_one_stop_at_the_nearer_level() -> None:
    stand = Stand()
    (far, (rule, holding)), (other, (nearer, _)) = stand.wanted.items()
    near = (other[0], far[1])
    nearer = structs.replace(nearer, stop_loss=Threshold(percent=3))
    stand.wanted = {far: (rule, holding), near: (nearer, holding)}
    fresh = remembered(holding, NOON)
    stand.journal.memories = {far: fresh, near: fresh}
    assert await stand.turn() == [("protected", "r0")]
    assert [(each.quantity, each.stop_price) for each in stand.orders.placed] == [(600, 97.0)]
    stand.orders.state = Working(state="open", quantity=600)
    assert await stand.turn(60) == []
    del stand.wanted[near]
    assert await stand.turn(1) == [("protected", "r0")]
    assert stand.orders.stops == [70.0]


async def test_of_two_stops_that_an_earlier_release_left_the_nearer_stays() -> None:
    stand = Stand()
    (far, (rule, holding)), (other, _) = stand.wanted.items()
    near = (other[0], far[1])
    stand.wanted = {far: (rule, holding), near: (rule, holding)}
    memory = stand.journal.memories[far]
    guard = Guard(number=1, key="near", stop=97.0, units=200, at=NOON)
    stand.journal.memories = {far: memory, near: structs.replace(memory, guard=guard)}
    stand.orders.state = Working(state="open", quantity=400)
    await stand.protection.make_way(stand.wanted)
    assert stand.orders.cancelled == ["r0"]


async def test_where_own_orders_close_all_there_is_no_stop_and_that_is_told() -> None:
    stand = Stand.of_one(600)
    stand.orders.other = 600
    assert await stand.turn() == []
    assert await stand.turn(11) == [("unprotected", "r0")]
    assert described(stand.journal.told[0]) == (
        "r0 has NO stop at the broker for AAPL; orders that work already close all that is held"
    )
    assert await stand.turn(60) == []
    stand.orders.other = 0
    assert await stand.turn() == [("protected", "r0")]


async def test_a_stop_beside_orders_that_close_all_is_taken_away() -> None:
    stand = Stand.of_one(600, stop=70.0, units=600)
    stand.orders.other = 600
    assert await stand.turn() == []
    assert stand.orders.cancelled == ["g"]
    assert stand.guard.anew  # our own cancel is nobody else's word
    assert await stand.turn(11) == [("unprotected", "r0")]


async def test_a_stop_that_does_not_get_out_is_tried_again() -> None:
    stand = Stand.of_one(600)
    stand.orders.refuses = {"stop": lost()}
    stand.orders.state = Working(state="unsent")
    for _ in range(5):
        assert await stand.turn() == []
    assert stand.guard.number == 1  # not at every turn
    assert await stand.turn(11) == [("unprotected", "r0")]
    assert "covered" not in stand.journal.told[0].detail
    stand.orders.refuses.clear()
    assert await stand.turn(11) == [("protected", "r0")]
    assert not stand.guard.ended


async def test_a_stop_that_filled_after_all_names_what_it_closed() -> None:
    stand = Stand.of_one(600)
    await stand.turn()
    stand.orders.state = Working(state="filled", quantity=600, filled=600)
    (place,) = stand.wanted
    stand.journal.told.clear()
    await stand.protection.take_away(place)
    assert described(stand.journal.told[0]) == "r0 has closed 600 AAPL"
    assert stand.journal.told[0].detail["account"] == "DU1"


async def test_a_stop_that_somebody_cancelled_is_replaced_when_the_rules_are_others() -> None:
    stand = Stand.of_one(600)
    await stand.turn()
    stand.orders.state = Working(state="cancelled")
    assert await stand.turn() == [("unprotected", "r0")]
    for _ in range(3):
        assert await stand.turn(60) == []
    stand.says(percent=20)
    assert await stand.turn() == [("protected", "r0")]
    assert [each.stop_price for each in stand.orders.placed] == [70.0, 80.0]


async def test_a_cancel_that_the_broker_refuses_is_not_sent_at_every_turn() -> None:
    """Its refusal wakes the next turn at once."""
    stand = Stand.of_one(600, stop=70.0, units=600)
    stand.wanted.clear()
    stand.orders.refuses = {"cancel": REFUSED}
    for _ in range(11):
        await stand.turn()
    assert stand.orders.cancelled == ["g"] * 3
    stand.orders.refuses.clear()
    await stand.turn(5)
    assert stand.guard.anew


async def test_a_cancel_that_comes_to_nothing_is_told() -> None:
    """The position is gone: when its stop is reached it opens one."""
    stand = Stand.of_one(600, stop=70.0, units=600)
    stand.wanted.clear()
    stand.orders.refuses = {"cancel": REFUSED}
    assert await stand.turn() == []
    assert await stand.turn(11) == [("waits", "r0")]
    assert described(stand.journal.told[0]) == (
        "r0 cannot take away its stop at the broker for 600 DU1/1:+1; it stands at 70 and may open"
        " a position: cancel it in TWS"
    )
    for _ in range(3):
        assert await stand.turn(60) == []
    stand.orders.refuses.clear()
    await stand.turn(6)
    assert stand.guard.anew


@pytest.mark.parametrize("judging", [False, True])
async def test_while_halted_a_stop_that_is_too_large_is_cancelled(judging: bool) -> None:
    """No change is sent then, a cancel is: people close by hand. With or without `allowClosing`."""
    stand = Stand.of_one(100, stop=70.0, units=100)
    stand.halted = True
    stand.orders.refuses = {"g": TradingHaltedError("trading is halted")}
    assert await stand.turn(judging=judging) == []
    assert stand.orders.cancelled == []
    ((place, (rule, _)),) = stand.wanted.items()
    stand.wanted = {place: (rule, only(stock(30)))}
    assert await stand.turn(judging=judging) == [("unprotected", "r0")]
    assert stand.orders.cancelled == ["g"]
    assert stand.journal.told[0].detail["held"] == 30
    assert "covered" not in stand.journal.told[0].detail
    stand.halted = False
    assert await stand.turn(11) == [("protected", "r0")]
    assert [each.quantity for each in stand.orders.placed] == [30]


async def test_what_is_paused_but_not_halted_stays_as_it_is() -> None:
    """As shortly before a restart of the gateway."""
    stand = Stand.of_one(30, stop=70.0, units=100)
    assert await stand.turn(judging=False) == []
    assert stand.orders.cancelled == []


async def test_a_stop_that_the_market_s_hours_keep_back_goes_out_in_the_morning() -> None:
    stand = Stand.of_one(600)
    stand.orders.refuses = {"stop": CLOSED}
    stand.orders.state = Working(state="unsent")
    assert await stand.turn() == []
    assert await stand.turn(61) == [("unprotected", "r0")]
    number = stand.guard.number
    for _ in range(5):
        assert await stand.turn(10) == []
    assert stand.guard.number == number
    stand.orders.refuses.clear()
    assert await stand.turn(61) == [("protected", "r0")]
    assert not stand.guard.ended


async def test_what_was_decided_does_not_wait_for_stops_that_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one is the first in the next turn: none is left out for long."""
    stand = Stand()
    looked: list[str] = []
    change = stand.orders.change_order

    async def decided(key: str, wanted: ChangeRequest) -> None:
        looked.append(key)
        stand.hurried = True  # a tick has decided something meanwhile
        await change(key, wanted)

    monkeypatch.setattr(stand.orders, "change_order", decided)
    await stand.turn()
    assert looked == ["r0"]
    await stand.turn()
    assert looked == ["r0", "r1"]


@pytest.mark.parametrize("error", [REFUSED, ChangeRejectedError("the broker refused the change")])
async def test_a_stop_that_is_too_large_and_cannot_get_smaller_is_cancelled(
    error: BridgeError,
) -> None:
    """Of 100 held 70 are sold: when its price is reached it turns the position round."""
    stand = Stand.of_one(30, stop=70.0, units=100)
    stand.orders.refuses = {"g": error}
    assert await stand.turn() == [("unprotected", "r0")]
    assert stand.orders.cancelled == ["g"]
    assert error.detail in stand.journal.told[0].detail["why"]
    stand.orders.refuses.clear()
    assert await stand.turn(11) == [("protected", "r0")]
    assert [each.quantity for each in stand.orders.placed] == [30]


async def test_a_stop_that_settings_forbid_comes_when_they_allow_it() -> None:
    """It was too large, and the next one could not be sent either: nobody writes the rule anew."""
    stand = Stand.of_one(30, stop=70.0, units=100)
    stand.orders.refuses = {"g": READ_ONLY, "stop": READ_ONLY}
    assert await stand.turn() == [("unprotected", "r0")]
    assert stand.orders.cancelled == ["g"]
    stand.orders.state = Working(state="unsent")
    assert await stand.turn(11) == []
    number = stand.guard.number
    for _ in range(5):
        assert await stand.turn(11) == []
    assert stand.guard.number == number  # that is tried once in a minute
    stand.orders.refuses.clear()
    assert await stand.turn(11) == [("protected", "r0")]
    assert [each.quantity for each in stand.orders.placed] == [30]
    assert not stand.guard.ended


async def test_a_first_stop_that_settings_forbid_is_told_once() -> None:
    stand = Stand.of_one(30)
    stand.orders.refuses = {"stop": READ_ONLY}
    stand.orders.state = Working(state="unsent")
    assert await stand.turn() == [("unprotected", "r0")]
    assert described(stand.journal.told[0]) == (
        "r0 has NO stop at the broker for AAPL; this bridge is read-only"
    )
    for _ in range(20):
        assert await stand.turn(11) == []
    assert not stand.guard.ended


@pytest.mark.parametrize(
    "meanwhile",
    [Working(state="open", quantity=100, filled=70), Working(state="cancelled", quantity=100)],
)
async def test_a_change_that_came_too_late_is_no_reason_to_cancel(
    meanwhile: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop fills, and what is left of it is what is held; or somebody has cancelled it."""
    stand = Stand.of_one(30, stop=70.0, units=100)

    async def late(*_: object) -> None:
        stand.orders.state = meanwhile
        raise REFUSED

    monkeypatch.setattr(stand.orders, "change_order", late)
    await stand.turn()
    assert stand.orders.cancelled == []
    assert not stand.guard.withdrawn


async def test_a_stop_is_for_whole_shares() -> None:
    stand = Stand.of_one(10.4)
    ((place, (rule, holding)),) = stand.wanted.items()
    stand.wanted = {place: (rule, structs.replace(holding, step=1.0))}
    stand.orders.state = Working(state="unsent")
    await stand.turn()
    assert [each.quantity for each in stand.orders.placed] == [10.0]
    stand.orders.state = Working(state="open", quantity=10.0)
    await stand.turn()
    assert stand.orders.changes == []


@pytest.mark.parametrize(
    ("held", "step", "other", "units"),
    [(10.5, 1.0, 0.5, 10.0), (10.5, 1.0, 1.0, 9.0), (200.0, 100.0, 30.0, 100.0)],
)
async def test_what_works_besides_leaves_no_fraction_to_a_stop(
    held: float, step: float, other: float, units: float
) -> None:
    stand = Stand.of_one(held)
    ((place, (rule, holding)),) = stand.wanted.items()
    stand.wanted = {place: (rule, structs.replace(holding, step=step))}
    stand.orders.state, stand.orders.other = Working(state="unsent"), other
    await stand.turn()
    assert [each.quantity for each in stand.orders.placed] == [units]
    stand.orders.state = Working(state="open", quantity=held)
    await stand.turn()
    assert [size for _, size in stand.orders.changes] == [units]
    stand.orders.state = Working(state="open", quantity=units)
    await stand.turn()
    assert len(stand.orders.changes) == 1


async def test_a_stop_that_has_begun_to_fill_stays_a_multiple_of_the_step() -> None:
    stand = Stand.of_one(220, stop=70.0, units=300)
    ((place, (rule, holding)),) = stand.wanted.items()
    stand.wanted = {place: (rule, structs.replace(holding, step=100.0))}
    stand.orders.state = Working(state="open", quantity=300, filled=30)
    stand.orders.other = 5
    await stand.turn()
    assert stand.orders.changes == [("g", 200)]


async def test_a_stop_only_gets_smaller_before_its_contract_is_known() -> None:
    """After a restart: neither its step nor what a price counts for is known yet."""
    stand = Stand.of_one(200, stop=70.0, units=200)
    stand.orders.state = Working(state="open", quantity=200)
    assert await stand.turn() == []
    ((place, (rule, _)),) = stand.wanted.items()
    holding = only(stock(250))
    stand.wanted = {place: (rule, structs.replace(holding, priced=False))}
    assert await stand.turn() == []
    stand.says(percent=25)
    assert await stand.turn() == []
    assert (stand.orders.changes, stand.orders.cancelled) == ([], [])
    stand.orders.other = 100
    assert await stand.turn() == [("protected", "r0")]
    assert stand.orders.changes == [("g", 150)]
    stand.orders.state, stand.orders.other = Working(state="open", quantity=150), 0
    stand.says(percent=20)
    ((_, (rule, _)),) = stand.wanted.items()
    stand.wanted = {place: (rule, holding)}
    assert await stand.turn() == [("protected", "r0")]
    assert (stand.orders.changes[1:], stand.guard.stop) == ([("g", 250)], 80.0)


async def test_a_stop_that_was_refused_for_its_fraction_is_followed_by_one_without() -> None:
    """By an earlier release, which never tried again."""
    stand = Stand.of_one(10.4, stop=70.0, units=10.4, ended=True)
    stand.orders.state = Working(state="refused")
    assert await stand.turn() == []
    ((place, (rule, holding)),) = stand.wanted.items()
    stand.wanted = {place: (rule, structs.replace(holding, step=1.0))}
    assert await stand.turn() == [("protected", "r0")]
    assert [each.quantity for each in stand.orders.placed] == [10.0]
    assert [kind for kind, _ in await stand.turn()] == ["unprotected"]
    assert await stand.turn(60) == []
    assert len(stand.orders.placed) == 1  # a word of a person, or of the broker
