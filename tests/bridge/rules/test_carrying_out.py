"""The acts of a close, over orders that are played: what is lost, repeated, and told."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import MagicMock

import pytest
from msgspec import structs

from bridge.clock import SystemClock
from bridge.orders.errors import (
    ChangeRejectedError,
    OrderPendingError,
    OrderRefusedByRulesError,
    PositionsMovingError,
    Violation,
)
from bridge.orders.exposure import NOT_CLOSING
from bridge.rules.closing import Closes
from bridge.rules.closing_steps import Attempt, Change, Close, ClosedLeg, Working
from bridge.rules.service import described, level_of
from bridge.rules.unjudged import NO_DETAILS
from bridge.side_by_side import AT_ONCE
from tests.bridge.orders.fake_broker import lost
from tests.bridge.rules.made import NOON, market, only, rules, stock

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.errors import BridgeError
    from bridge.orders.halt import HaltSwitch
    from bridge.rules.closing_orders import ClosingOrders
    from bridge.rules.closing_steps import Send
    from bridge.rules.evaluation import Market
    from bridge.rules.holdings import Holding
    from bridge.rules.journal import RuleJournal
    from bridge.rules.watch import HoldingWatch
    from bridge.store.rules import RuleEvent

RULES = rules({"match": {"symbol": "AAPL"}, "stopLoss": {"percent": 5}, "mode": "trade"})
OPEN = Working(state="open", quantity=100, limit=99.0)
LATE = OrderPendingError("sent, and not answered")


class HandClock(SystemClock):
    passed = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


class PlayedOrders:
    """One order as the broker has it; `fails` is what the bridge hears of each act."""

    def __init__(self) -> None:
        self.state_now: Working | None = OPEN
        self.fails: Exception | None = None
        self.acts: list[Any] = []
        self.other = 0.0

    async def others(self, *_: object) -> float:
        return self.other

    async def state(self, close: Close) -> Working | None:
        return None if close.attempt is None else self.state_now

    async def send(self, _: object, __: Close, step: Send, *, outside: bool) -> None:
        self._do(step)

    async def change(self, _: Close, step: Change) -> None:
        self._do(step)

    async def cancel(self, _: Close) -> None:
        self._do("cancel")

    def _do(self, act: object) -> None:
        self.acts.append(act)
        if self.fails is not None:
            raise self.fails


class PlayedDatabase:
    """Keeps nothing."""

    async def write(self, write: Callable[[Any], Any], **_: object) -> Any:
        return write(MagicMock())


class PlayedJournal:
    def __init__(self) -> None:
        self.memories: dict[tuple[str, str], Any] = {}
        self.database = PlayedDatabase()
        self.told: list[RuleEvent] = []
        self.happened = self
        self.kept: list[RuleEvent] = []
        """Events of ends, which are kept with them."""

    def emit(self, event: RuleEvent) -> None:
        self.kept.append(event)

    async def tell(self, event: RuleEvent) -> None:
        self.told.append(event)

    def forgotten(self, _: object) -> None:
        pass


class PlayedWatch:
    def __init__(self, held: Holding | None) -> None:
        self.held = held
        self.prices: tuple[int, float, float] = (1, 99.0, 101.0)
        self.sizes: dict[int, float] = {}
        self.just_logged_in = False

    def may_come_yet(self, _: str) -> bool:
        return self.just_logged_in

    def holding(self, _: str) -> Holding | None:
        return self.held

    def market(self, _: Holding) -> Market:
        return market(self.prices)

    def day_end(self, _: Holding, *, outside: bool) -> datetime:
        return NOON + timedelta(hours=9 if outside else 4)

    def size(self, _: str, con_id: int) -> float:
        return self.sizes.get(con_id, 0.0)

    def tick(self, _: Holding) -> float:
        return 0.01


class PlayedHalt:
    halt = None


class Stand:
    """A close of 100 AAPL with one order for all of it, at the end of its walk."""

    def __init__(self, held: float = 100, **changes: Any) -> None:
        self.clock, self.orders, self.journal = HandClock(), PlayedOrders(), PlayedJournal()
        self.watch = PlayedWatch(only(stock(held)) if held else None)
        attempt = Attempt(number=1, units=100.0, limit=99.0, at=NOON)
        close = Close(
            id="d", rule="r0", holding="DU1/1:+1", trigger="stopLoss", reason="", began_at=NOON,
            units=100.0, direction=1, anchor=100.0, attempts=1, step=5, stepped_at=NOON,
            attempt=attempt,
        )  # fmt: skip
        self.close = structs.replace(close, **changes)
        self.rules = RULES
        self.closes = Closes(
            journal=cast("RuleJournal", self.journal),
            orders=cast("ClosingOrders", self.orders),
            watch=cast("HoldingWatch", self.watch),
            halt=cast("HaltSwitch", PlayedHalt()),
            clock=self.clock,
            pause=lambda: None,
            ended=lambda: None,
        )
        self.closes.running["d"] = self.close

    async def turns(self, count: int, seconds: float, between: Callable[[], object] = int) -> None:
        """So many, and what happens after each."""
        for _ in range(count):
            self.clock.passed += seconds
            await self.closes.advance(self.closes.running.get("d", self.close), self.rules)
            between()

    def told(self) -> list[tuple[str, Any]]:
        return [(each.kind, each.detail.get("why")) for each in self.journal.told]


async def test_a_size_that_the_broker_never_took_is_asked_for_again_and_told() -> None:
    stand = Stand(held=30)
    stand.orders.fails = LATE
    await stand.turns(14, 1)
    assert [each.units for each in stand.orders.acts] == [30] * 14
    assert stand.told() == [("waits", LATE.detail)]


async def test_a_cancel_that_came_to_nothing_is_repeated_and_told() -> None:
    stand = Stand(held=0)
    stand.orders.fails = LATE
    await stand.turns(20, 1)
    assert stand.orders.acts == ["cancel"] * 4
    assert [kind for kind, _ in stand.told()] == ["waits"]


async def test_what_may_not_be_listed_yet_ends_no_close() -> None:
    stand = Stand(held=0)
    stand.watch.just_logged_in = True
    await stand.turns(5, 1)
    assert (stand.orders.acts, stand.told()) == ([], [])
    assert stand.closes.running["d"] == stand.close


READ_ONLY = Violation("read-only", "this bridge only reads", field="action")


@pytest.mark.parametrize(
    "error",
    [OrderRefusedByRulesError([NOT_CLOSING]), OrderRefusedByRulesError([READ_ONLY]), lost()],
)
async def test_trouble_that_passes_gives_no_close_up(error: BridgeError) -> None:
    stand = Stand(attempt=None, attempts=0, step=0, stepped_at=None)
    stand.orders.fails, stand.orders.state_now = error, Working(state="unsent")
    await stand.turns(300, 1)
    assert stand.told() == [("waits", f"no order could be sent: {error.detail}")]
    assert 10 < len(stand.orders.acts) < 20
    stand.orders.fails = None
    await stand.turns(40, 1, lambda: setattr(stand.orders, "state_now", OPEN))
    assert stand.told()[1:] == [("order", None)]


async def test_a_close_of_what_nobody_knows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(attempt=None, attempts=0, step=0, stepped_at=None)
    monkeypatch.setattr(stand.watch, "market", lambda _: None)
    await stand.turns(30, 1)
    assert (stand.orders.acts, stand.told()) == ([], [("waits", NO_DETAILS)])


@pytest.mark.parametrize(("limit", "told"), [(99.0, [("waits", NO_DETAILS)]), (None, [])])
async def test_an_order_that_needs_no_price_works_without_details(
    limit: float | None, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit does not follow the market then, and that is told; all else goes on."""
    stand = Stand(attempt=Attempt(number=1, units=100.0, limit=limit, at=NOON))
    monkeypatch.setattr(stand.watch, "market", lambda _: None)
    await stand.turns(30, 1)
    assert (stand.orders.acts, stand.told()) == ([], told)


@pytest.mark.parametrize("ends", [NOON + timedelta(hours=4), None])
async def test_what_a_person_cancels_while_its_contract_is_unknown_is_not_sent_again(
    ends: datetime | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart; where nothing says when it would have ended itself, that is awaited."""
    attempt = Attempt(number=1, units=100.0, limit=99.0, at=NOON, ends_at=ends)
    stand = Stand(attempt=attempt)
    stand.orders.state_now = Working(
        state="cancelled", quantity=100, filled=40, ended_at=NOON + timedelta(seconds=1)
    )
    with monkeypatch.context() as unknown:
        unknown.setattr(stand.watch, "market", lambda _: None)
        await stand.turns(1 if ends else 20, 1)
    assert stand.told() == ([] if ends else [("waits", NO_DETAILS)])
    await stand.turns(0 if ends else 1, 1)
    (end,) = stand.journal.kept
    assert (end.kind, end.detail["quantity"], stand.orders.acts) == ("cancelled", 40, [])


async def test_another_rule_of_the_same_name_does_not_go_on_with_a_close() -> None:
    stand = Stand()
    stand.rules = rules({"match": {"symbol": "MSFT"}, "stopLoss": {"percent": 5}, "mode": "trade"})
    await stand.turns(1, 1)
    assert stand.orders.acts == ["cancel"]
    stand.orders.state_now = Working(state="cancelled")
    await stand.turns(1, 1)
    assert stand.closes.running == {}


async def test_what_has_closed_is_named_when_the_position_is_gone() -> None:
    labelled = {"holding": "DU1/1:+1", "name": "AAPL", "account": "DU1", "labels": ["swing"]}
    stand = Stand(held=0, named=labelled)
    stand.orders.state_now = Working(state="filled", quantity=100, filled=100)
    await stand.turns(1, 1)
    (event,) = stand.journal.kept
    assert event.kind == "closed"
    assert labelled.items() <= event.detail.items()
    assert described(event) == "r0 has closed 100 AAPL"


COMBINED = {
    "holding": "DU1/11:-1/12:+1",
    "units": 2.0,
    "attempt": None,
    "named": {"name": "SPY (-1, +1)", "account": "DU1"},
    "legs": (
        ClosedLeg(con_id=11, name="SPY 500 P", ratio=-1, beside=0),
        ClosedLeg(con_id=12, name="SPY 490 P", ratio=1, beside=3),
    ),
}


async def test_legs_that_are_left_of_a_combination_are_told() -> None:
    stand = Stand(held=0, **COMBINED)
    stand.watch.sizes = {11: -2, 12: 3}  # of the long ones only those that were held beside it
    await stand.turns(10, 1)
    assert stand.journal.kept == []  # the other leg may be told of in a moment
    await stand.turns(1, 1)
    (event,) = stand.journal.kept
    assert level_of(event) == "failure"
    assert described(event) == (
        "r0 ends, somebody else has closed SPY (-1, +1); STILL HELD are -2 SPY 500 P,"
        " which no rule for combinations sees now"
    )


async def test_legs_that_go_one_after_the_other_are_closed_as_one() -> None:
    stand = Stand(held=0, **COMBINED)
    stand.watch.sizes = {11: -2, 12: 3}
    await stand.turns(3, 1)
    stand.watch.sizes = {12: 3}
    await stand.turns(1, 1)
    assert [each.detail.get("left") for each in stand.journal.kept] == [None]


async def test_a_price_that_the_broker_refuses_is_asked_for_step_by_step() -> None:
    """Not at every turn, which comes each second."""
    stand = Stand(step=0)
    stand.orders.state_now = structs.replace(OPEN, limit=100.0)
    stand.orders.fails = ChangeRejectedError("the broker refused the change")
    await stand.turns(20, 1)
    assert len(stand.orders.acts) == 4
    stand.orders.fails = None
    await stand.turns(5, 1)
    assert stand.orders.acts[-1] == stand.orders.acts[0]


@pytest.mark.parametrize(
    "error", [OrderRefusedByRulesError([NOT_CLOSING]), PositionsMovingError("it fills"), lost()]
)
async def test_a_price_that_did_not_get_there_is_asked_for_at_the_next_turn(
    error: BridgeError,
) -> None:
    """What fills at this moment, or an answer that is late, makes no step longer."""
    stand = Stand(step=0)
    stand.orders.state_now = structs.replace(OPEN, limit=100.0)
    stand.orders.fails = error
    await stand.turns(20, 1)
    assert len(stand.orders.acts) == 16
    assert {each.limit for each in stand.orders.acts} == {stand.orders.acts[0].limit}


async def test_an_order_that_is_too_large_and_cannot_get_smaller_is_cancelled() -> None:
    """A person has closed a part by hand, and the broker, or a limit, refuses the change."""
    stand = Stand(held=30)
    stand.orders.fails = ChangeRejectedError("the broker refused the change")
    await stand.turns(3, 1)
    assert [each.units for each in stand.orders.acts] == [30] * 3
    stand.orders.fails = None
    await stand.turns(1, 1)
    assert stand.orders.acts[3:] == ["cancel"]
    stand.orders.state_now = Working(state="cancelled")
    await stand.turns(1, 1)
    assert [each.units for each in stand.orders.acts[4:]] == [30]
    assert stand.closes.running["d"].outcome is None


async def test_a_limit_at_its_bound_is_told_once() -> None:
    stand = Stand()
    stand.watch.prices = (1, 79.0, 79.1)
    stand.orders.state_now = Working(state="open", quantity=100, limit=90.0)
    await stand.turns(300, 1)
    assert [kind for kind, _ in stand.told()] == ["waits"]


async def test_an_order_of_unknown_fate_is_told() -> None:
    stand = Stand()
    stand.orders.state_now = Working(state="unknown")
    await stand.turns(9, 1)
    assert stand.told() == []
    await stand.turns(600, 1)
    assert stand.told() == [("waits", "what became of the order is not known yet")]


@pytest.mark.parametrize("opened", [None, NOON - timedelta(hours=1)])
@pytest.mark.parametrize(("later", "ends"), [(120, True), (-7200, False), (None, False)])
async def test_a_close_does_not_go_on_against_a_position_that_was_opened_since(
    opened: datetime | None, later: int | None, ends: bool
) -> None:
    """Somebody has closed it and opened another one, which nobody has decided about."""
    stand = Stand(opened=opened)
    begun = None if later is None else NOON + timedelta(seconds=later)
    stand.watch.held = structs.replace(only(stock(100)), begun_at=begun)
    await stand.turns(1, 1)
    assert (stand.orders.acts == ["cancel"]) is ends
    stand.orders.state_now = Working(state="cancelled")
    await stand.turns(1, 1)
    assert [each.kind for each in stand.journal.kept] == (["gone"] if ends else ["cancelled"])


async def test_no_close_waits_for_the_answers_that_all_others_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the market falls, and the broker is slow: ten rules decide at once."""
    stand = Stand()
    stand.closes.running = {
        str(number): structs.replace(stand.close, id=str(number), attempt=None)
        for number in range(10)
    }
    out: list[str] = []
    answers = asyncio.Event()

    async def sent(_: object, close: Close, *__: object, **___: object) -> None:
        out.append(close.id)
        await answers.wait()

    monkeypatch.setattr(stand.orders, "send", sent)
    advancing = asyncio.create_task(stand.closes.advance_all(stand.rules))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(out) == AT_ONCE
    answers.set()
    await advancing
    assert sorted(out) == sorted(stand.closes.running)


@pytest.mark.parametrize(
    ("held", "step", "other", "units"),
    [(10.5, 1.0, 0.5, 10.0), (10.5, 1.0, 1.0, 9.0), (200.0, 100.0, 30.0, 100.0)],
)
async def test_what_works_besides_leaves_no_fraction_to_be_closed(
    held: float, step: float, other: float, units: float
) -> None:
    stand = Stand(attempt=None, attempts=0, step=0, stepped_at=None, units=held)
    stand.watch.held = structs.replace(only(stock(held)), step=step)
    stand.orders.other = other
    stand.orders.state_now = Working(state="open", quantity=units, limit=100.0)
    await stand.turns(3, 1)
    assert [each.units for each in stand.orders.acts] == [units]
    stand.orders.other += 1.6 * step  # more of them
    await stand.turns(1, 1)
    *_, change = stand.orders.acts
    assert change == ("cancel" if units == step else Change(units=units - 2 * step))


async def test_of_shares_the_whole_ones_are_closed() -> None:
    """The broker takes no order for a fraction; what is left of one is no part of the close."""
    stand = Stand(attempt=None, attempts=0, step=0, stepped_at=None, units=10.4)
    stand.watch.held = structs.replace(only(stock(10.4)), step=1.0)
    await stand.turns(1, 1)
    (sent,) = stand.orders.acts
    assert sent.units == 10.0
    stand.orders.state_now = Working(state="filled", quantity=10.0, filled=10.0)
    stand.watch.held = structs.replace(only(stock(0.4)), step=1.0)
    await stand.turns(1, 1)
    (end,) = stand.journal.kept
    assert (end.kind, end.detail["quantity"]) == ("closed", 10.0)
