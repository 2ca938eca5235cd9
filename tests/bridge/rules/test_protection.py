"""Stops at the broker, over orders that are played: one holding's trouble is its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from bridge.clock import SystemClock
from bridge.orders.errors import OrderPendingError, OrderRefusedByRulesError, Violation
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.closing_steps import Working
from bridge.rules.evaluation import Guard, remembered
from bridge.rules.journal import RuleJournal
from bridge.rules.model import Threshold
from bridge.rules.protection import Protection
from bridge.rules.service import described
from bridge.rules.trouble import Troubles
from bridge.rules.watch import HoldingWatch
from tests.bridge.rules.made import NOON, only, rules, stock

if TYPE_CHECKING:
    from bridge.orders.request import ChangeRequest, OrderRequest
    from bridge.rules.evaluation import Memory
    from bridge.rules.holdings import Holding
    from bridge.rules.model import Rule
    from bridge.store.rules import RuleEvent

Place = tuple[str, str]
REFUSED = OrderRefusedByRulesError([Violation("max-notional", "too much money")])


class HandClock(SystemClock):
    passed = 0.0

    def monotonic(self) -> float:
        return self.passed


@dataclass
class PlayedOrders:
    """Stops that are open, and refuse to be changed where `refuses` says so."""

    refuses: dict[str, Exception] = field(default_factory=dict)
    changes: list[tuple[str, float | None]] = field(default_factory=list)
    placed: list[OrderRequest] = field(default_factory=list)
    other: float = 0.0

    async def listed(self) -> tuple[()]:
        return ()

    async def working(self, *_: object) -> float:
        return self.other

    async def state_of(self, _: str) -> Working:
        return Working(state="open")

    async def place(self, _: str, request: OrderRequest) -> None:
        self.placed.append(request)

    async def change_order(self, key: str, change: ChangeRequest) -> None:
        if key in self.refuses:
            raise self.refuses[key]
        self.changes.append((key, change.quantity))


@dataclass
class PlayedJournal:
    memories: dict[Place, Memory]
    told: list[RuleEvent] = field(default_factory=list)

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
        self.protection = Protection(
            orders=cast("ClosingOrders", self.orders),
            journal=cast("RuleJournal", self.journal),
            watch=cast("HoldingWatch", None),
            clock=self.clock,
        )

    async def turn(self, seconds: float = 1.0) -> list[tuple[str, str]]:
        """What is told in it."""
        self.clock.passed += seconds
        self.journal.told.clear()
        await self.protection.follow(self.wanted, judging=True)
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
