"""Closing against a broker that is played: fills, cancels, refusals, restarts, other people."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from bridge.rules.closing_steps import (
    Attempt,
    Cancel,
    Change,
    Close,
    Scene,
    Send,
    Step,
    Wait,
    Working,
    following,
    key_of,
    limit_at,
)
from bridge.rules.evaluation import Price, judge, remembered
from bridge.rules.model import Closing
from tests.bridge.rules.made import NOON, market, only, rule, stock

TERMS = Closing(steps=4, step_seconds=5, bound_percent=10)


def begun(units: float = 100, direction: int = 1) -> Close:
    return Close(
        id="d", rule="r", holding="h", trigger="stopLoss", reason="", began_at=NOON,
        units=units, direction=direction,
    )  # fmt: skip


@dataclass
class Broker:
    """Orders by key: the same key is the same order, as the bridge's journal keeps it."""

    position: float
    direction: int = 1
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    sold: float = 0.0

    def send(self, key: str, step: Send) -> None:
        assert not [each for each in self.orders.values() if each["state"] == "open"], "two at once"
        assert key not in self.orders, "sent twice"
        self.orders[key] = {
            "state": "open", "units": step.units, "limit": step.limit, "filled": 0.0,
        }  # fmt: skip

    def seen(self, key: str | None) -> Working | None:
        order = self.orders.get(key or "")
        if key is None:
            return None
        if order is None:
            return Working(state="unsent")
        return Working(
            state=order["state"], quantity=order["units"], filled=order["filled"],
            limit=order["limit"],
        )  # fmt: skip

    def fill(self, share: float) -> None:
        for order in self.orders.values():
            if order["state"] == "open":
                quantity = float(round((order["units"] - order["filled"]) * share))
                order["filled"] += quantity
                self.sold += quantity
                self.position -= quantity
                if order["filled"] >= order["units"]:
                    order["state"] = "filled"

    def end(self, state: str) -> None:
        for order in self.orders.values():
            if order["state"] == "open":
                order["state"] = state


@dataclass
class Manager:
    """What the bridge does with the steps; `lose` is a kill between any two of its acts."""

    broker: Broker
    close: Close
    terms: Closing = TERMS
    now: datetime = NOON
    limits: list[float] = field(default_factory=list)

    def turn(self, price: Price, *, lose: str = "", **members: Any) -> Step:
        attempt = self.close.attempt
        scene = Scene(
            now=self.now,
            price=price,
            price_bad=None,
            held=self.broker.position,
            order=self.broker.seen(key_of(self.close, attempt) if attempt else None),
            **members,
        )
        after, step = following(self.close, self.terms, scene)
        if lose == "before-journal":
            return Wait("killed")
        self.close = msgspec.json.decode(msgspec.json.encode(after), type=Close)
        if lose == "before-wire":
            return Wait("killed")
        self.act(step)
        return step

    def act(self, step: Step) -> None:
        order = next((o for o in self.broker.orders.values() if o["state"] == "open"), None)
        if isinstance(step, Send) and self.close.attempt is not None:
            self.broker.send(key_of(self.close, self.close.attempt), step)
            self.limits = [] if step.limit is None else [step.limit]
        elif isinstance(step, Change) and order is not None:
            if step.limit is not None:
                order["limit"] = step.limit
                self.limits.append(step.limit)
            if step.units is not None:
                order["units"] = step.units
                if order["filled"] >= step.units:
                    order["state"] = "filled"
        elif isinstance(step, Cancel):
            self.broker.end("cancelled")


QUOTE = Price(bid=99.0, ask=101.0)


def test_the_limit_begins_at_the_middle_and_goes_to_the_other_side() -> None:
    manager = Manager(Broker(100), begun())
    assert manager.turn(QUOTE) == Send(100, 100.0)
    seen = []
    for _ in range(8):
        manager.now += timedelta(seconds=5)
        step = manager.turn(QUOTE)
        if isinstance(step, Change):
            seen.append(step.limit)
    assert seen == [99.75, 99.5, 99.25, 99.0]
    manager.broker.fill(1)
    manager.turn(QUOTE)
    assert manager.close.outcome == "closed"
    assert len(manager.broker.orders) == 1


def test_buying_back_goes_up() -> None:
    manager = Manager(Broker(100, -1), begun(direction=-1))
    assert manager.turn(QUOTE) == Send(100, 100.0)
    manager.now += timedelta(seconds=5)
    assert manager.turn(QUOTE) == Change(limit=100.25)


def test_a_limit_stops_at_the_bound_and_never_goes_back() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    for bid in (95, 80, 60, 99, 120):
        manager.now += timedelta(seconds=5)
        manager.turn(Price(bid=bid, ask=bid + 2))
    assert manager.limits == sorted(manager.limits, reverse=True)
    assert manager.limits[-1] == 90.0


@pytest.mark.parametrize("direction", [1, -1])
def test_a_limit_that_the_market_has_left_behind_says_so(direction: int) -> None:
    """After a night the market is a fifth away; the bound is a tenth, and stays the person's."""
    manager = Manager(Broker(100, direction), begun(direction=direction))
    manager.turn(QUOTE)
    away = 100 - 21 * direction
    gap = Price(bid=away - 0.1, ask=away + 0.1)
    manager.now += timedelta(hours=17)
    assert manager.turn(gap) == Change(limit=100 - 10 * direction)
    for _ in range(3):
        manager.now += timedelta(seconds=2)
        rests = manager.turn(gap)
        assert rests == Wait(
            f"the limit rests at {100 - 10 * direction}: boundPercent 10 from 100 lets it go no"
            " further, and the market's other side is beyond", stuck=True,
        )  # fmt: skip
    back = manager.turn(Price(bid=99 - 10 * direction, ask=101 - 10 * direction))
    assert isinstance(back, Wait)
    assert back.stuck  # it rests on the other side of the market still
    assert manager.turn(QUOTE) == Wait("the order is working")
    manager.terms = structs.replace(TERMS, bound_percent=30)
    manager.now += timedelta(seconds=5)
    assert isinstance(manager.turn(gap), Change)


def test_limits_are_on_ticks_and_reach_the_other_side_of_a_narrow_market_at_once() -> None:
    close = structs.replace(begun(), anchor=259.71)
    narrow = Price(bid=259.70, ask=259.72)
    assert limit_at(close, TERMS, narrow, 0.01) == 259.71
    assert limit_at(structs.replace(close, step=1), TERMS, narrow, 0.01) == 259.70
    short = structs.replace(begun(direction=-1), anchor=259.71, step=1)
    assert limit_at(short, TERMS, narrow, 0.01) == 259.72
    tight = Closing(bound_percent=0.001)
    assert limit_at(structs.replace(close, step=5), tight, narrow, 0.01) == 259.71


def test_a_market_order_is_sent_when_asked_for_even_without_a_quote() -> None:
    manager = Manager(Broker(100), begun(), Closing(order="market"))
    scene = Scene(now=NOON, price=Price(), price_bad="no quote", held=100)
    assert following(manager.close, manager.terms, scene)[1] == Send(100, None)
    assert isinstance(following(manager.close, TERMS, scene)[1], Wait)


def test_what_somebody_else_sells_is_not_sold_again() -> None:
    manager = Manager(Broker(100), begun())
    assert isinstance(manager.turn(QUOTE, others=100), Wait)
    assert manager.turn(QUOTE, others=60) == Send(40, 100.0)


def test_a_person_s_fill_makes_the_order_smaller_and_then_takes_it_away() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    manager.broker.position = 30
    assert manager.turn(QUOTE) == Change(units=30)
    manager.broker.position = 0
    assert isinstance(manager.turn(QUOTE), Cancel)
    manager.turn(QUOTE)
    assert manager.close.outcome == "gone"


def test_while_halted_an_order_that_is_too_large_is_cancelled() -> None:
    """No change is sent then, a cancel is: people close by hand."""
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    halted: dict[str, Any] = {"may_begin": False, "may_change": False}
    assert isinstance(manager.turn(QUOTE, **halted), Wait)
    for position, seconds in ((30, 2), (100, 2), (30, 2), (30, 2)):  # legs are told one by one
        manager.broker.position = position
        assert isinstance(manager.turn(QUOTE, **halted), Wait)
        manager.now += timedelta(seconds=seconds)
    assert isinstance(manager.turn(QUOTE, **halted), Cancel)
    assert isinstance(manager.turn(QUOTE, **halted), Wait)
    assert manager.close.outcome is None
    assert manager.turn(QUOTE, may_change=False) == Send(30, 100.0)  # the halt lets closing pass


def test_a_smaller_size_that_did_not_arrive_is_asked_for_until_it_has() -> None:
    """Lost between journal and wire, or not answered: the order is what the broker says."""
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    manager.broker.position = 30
    for _ in range(3):
        manager.now += timedelta(seconds=1)
        manager.turn(QUOTE, lose="before-wire")
        assert manager.broker.orders["rule-d-1"]["units"] == 100
    assert manager.turn(QUOTE) == Change(units=30)
    manager.now += timedelta(seconds=1)
    assert isinstance(manager.turn(QUOTE), Wait)
    manager.broker.orders["rule-d-1"]["units"] = 80  # a person has made it larger than is held
    assert manager.turn(QUOTE) == Change(units=30)


def test_a_cancel_that_did_not_arrive_is_sent_again() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    manager.broker.position = 0
    manager.turn(QUOTE, lose="before-wire")
    waits = manager.turn(QUOTE)
    assert isinstance(waits, Wait)
    assert waits.stuck
    manager.now += timedelta(seconds=5)
    assert isinstance(manager.turn(QUOTE), Cancel)
    manager.turn(QUOTE)
    assert manager.close.outcome == "gone"


def test_an_older_journal_s_cancel_is_sent_again() -> None:
    text = msgspec.json.encode(begun()).replace(
        b'"attempt":null',
        b'"attempt":{"number":1,"units":100.0,"limit":100.0,"at":"2026-06-01T15:00:00Z",'
        b'"order_id":"","withdrawn":true,"refused":""}',
    )
    close = msgspec.json.decode(text, type=Close)
    scene = Scene(
        now=NOON, price=QUOTE, price_bad=None, held=0, order=Working(state="open", limit=100.0)
    )
    assert isinstance(following(close, TERMS, scene)[1], Cancel)


def test_a_clock_that_is_set_back_does_not_stop_the_walk() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    manager.now -= timedelta(hours=1)
    assert manager.turn(QUOTE) == Change(limit=99.75)
    assert isinstance(manager.turn(QUOTE), Wait)
    manager.now += timedelta(seconds=5)
    assert manager.turn(QUOTE) == Change(limit=99.5)


def test_an_order_that_somebody_cancels_is_not_sent_again() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    manager.broker.end("cancelled")
    manager.turn(QUOTE)
    assert manager.close.outcome == "cancelled"


def test_an_order_that_ended_with_the_session_is_sent_again_for_the_rest() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    manager.broker.fill(0.4)
    manager.broker.end("cancelled")
    assert isinstance(manager.turn(QUOTE, expires=True, may_begin=False), Wait)
    assert manager.turn(QUOTE) == Send(60, 100.0)
    assert manager.close.filled == 40
    assert len(manager.broker.orders) == 2


def test_an_order_that_ended_with_a_session_nobody_saw_the_end_of_is_sent_again() -> None:
    """The bridge was away from 15:58 to the next morning; the broker says "cancelled"."""
    manager = Manager(Broker(100), begun())
    end = NOON + timedelta(minutes=2)
    manager.turn(QUOTE, ends_at=end)
    manager.broker.end("cancelled")
    manager.now += timedelta(hours=17)
    assert manager.turn(QUOTE, ends_at=end + timedelta(days=1)) == Send(100, 100.0)
    manager.broker.end("cancelled")  # in the middle of the session: by a person
    manager.turn(QUOTE)
    assert manager.close.outcome == "cancelled"


def test_what_a_person_cancelled_before_the_session_ended_stays_so() -> None:
    """Heard of in time, and looked at the next morning."""
    end = NOON + timedelta(minutes=2)
    attempt = Attempt(number=1, units=100, limit=100.0, at=NOON, ends_at=end)
    close = structs.replace(begun(), attempt=attempt, attempts=1)
    over = Working(state="cancelled", ended_at=NOON + timedelta(minutes=1))
    scene = Scene(now=NOON + timedelta(hours=17), price=QUOTE, price_bad=None, held=100, order=over)
    assert following(close, TERMS, scene)[0].outcome == "cancelled"


def test_a_refusal_is_tried_again_later_and_not_for_ever() -> None:
    manager = Manager(Broker(100), begun())
    times = []
    for second in range(400):
        manager.now = NOON + timedelta(seconds=second)
        if isinstance(manager.turn(QUOTE), Send):
            times.append(second)
            manager.broker.end("refused")
    assert times == [0, 6, 37]
    assert manager.close.outcome == "refused"


def test_an_order_that_cannot_get_out_is_tried_for_as_long_as_it_takes() -> None:
    """Passing trouble gives no close up: a stop-loss of an hour later is better than none."""
    manager = Manager(Broker(100), begun())
    times = []
    for second in range(3600):
        manager.now = NOON + timedelta(seconds=second)
        if isinstance(manager.turn(QUOTE, lose=""), Send):
            times.append(second)
            manager.broker.orders.clear()
    assert times[:7] == [0, 1, 3, 8, 18, 48, 78]
    assert manager.close.outcome is None
    manager.now += timedelta(seconds=30)
    assert manager.turn(QUOTE) == Send(100, 100.0)
    manager.turn(QUOTE)
    assert (manager.close.unsent_in_a_row, manager.close.unsent) == (0, len(times))
    manager.broker.fill(1)
    manager.turn(QUOTE)
    assert manager.close.outcome == "closed"


def test_twenty_orders_that_went_out_and_came_to_nothing_are_enough() -> None:
    manager = Manager(Broker(100), begun())
    for _ in range(60):
        manager.turn(QUOTE)
        manager.broker.end("cancelled")
        manager.turn(QUOTE, expires=True, may_begin=False)
    assert manager.close.outcome == "gave-up"
    assert len(manager.broker.orders) == 20


@pytest.mark.parametrize("order", ["market", "limit"])
def test_an_order_that_the_broker_holds_back_is_told_and_still_follows_the_position(
    order: Any,
) -> None:
    terms = Closing(order=order)
    scene = Scene(now=NOON, price=QUOTE, price_bad=None, held=100)
    close, _ = following(begun(), terms, scene)
    idle = Working(state="open", quantity=100, idle=True, reason="399: no market")
    scene = structs.replace(scene, order=idle)
    _, step = following(close, terms, scene)
    assert step == Wait("the broker holds the order back (Inactive): 399: no market", stuck=True)
    assert following(close, terms, structs.replace(scene, held=40))[1] == Change(units=40)


def test_what_is_not_known_sends_nothing() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE)
    manager.broker.orders["rule-d-1"]["state"] = "unknown"
    for _ in range(50):
        manager.now += timedelta(minutes=1)
        assert isinstance(manager.turn(QUOTE), Wait)
    scene = Scene(now=NOON, price=QUOTE, price_bad=None, held=None)
    assert isinstance(following(begun(), TERMS, scene)[1], Wait)


def test_a_kill_between_journal_and_wire_leads_to_one_order() -> None:
    manager = Manager(Broker(100), begun())
    manager.turn(QUOTE, lose="before-wire")
    assert manager.broker.orders == {}
    assert manager.turn(QUOTE) == Send(100, 100.0)
    assert list(manager.broker.orders) == ["rule-d-2"]


EVENTS = st.one_of(
    st.tuples(st.just("market"), st.floats(50, 150)),
    st.tuples(st.just("fill"), st.floats(0, 1)),
    st.tuples(st.just("person"), st.floats(0, 1)),
    st.tuples(st.just("person-enlarges"), st.floats(0, 1)),
    st.tuples(st.just("end"), st.sampled_from(["cancelled", "refused", "unknown"])),
    st.tuples(st.just("known"), st.sampled_from(["open", "cancelled"])),
    st.tuples(st.just("wait"), st.floats(1, 200)),
    st.tuples(st.just("kill"), st.sampled_from(["before-journal", "before-wire"])),
    st.tuples(st.just("work-of-others"), st.floats(0, 1)),
    st.tuples(st.just("hours"), st.booleans()),
)


@dataclass
class World:
    """What happens around a close."""

    manager: Manager
    units: int
    price: Price = QUOTE
    others: float = 0.0
    session: bool = True
    lose: str = ""

    def happen(self, kind: str, value: Any) -> None:
        self.lose = ""
        getattr(self, kind.replace("-", "_"))(value)

    def market(self, value: float) -> None:
        self.price = Price(bid=value - 1, ask=value + 1)

    def fill(self, share: float) -> None:
        self.manager.broker.fill(share)

    def person(self, share: float) -> None:
        """Closes what no order of ours is out for."""
        broker = self.manager.broker
        working = sum(
            each["units"] - each["filled"]
            for each in broker.orders.values()
            if each["state"] in {"open", "unknown"}
        )
        broker.position -= float(int(max(0.0, broker.position - working) * share))

    def person_enlarges(self, share: float) -> None:
        self.manager.broker.position += float(int(self.units * share))

    def end(self, state: str) -> None:
        self.manager.broker.end(state)

    def known(self, state: str) -> None:
        for order in self.manager.broker.orders.values():
            if order["state"] == "unknown":
                order["state"] = state

    def wait(self, seconds: float) -> None:
        self.manager.now += timedelta(seconds=seconds)

    def kill(self, point: str) -> None:
        self.lose = point

    def work_of_others(self, share: float) -> None:
        self.others = float(int(self.manager.broker.position * share))

    def hours(self, running: bool) -> None:
        self.session = running


@settings(max_examples=500)
@given(
    units=st.integers(1, 500),
    direction=st.sampled_from([1, -1]),
    market_order=st.booleans(),
    events=st.lists(EVENTS, max_size=60),
)
def test_whatever_happens_the_position_is_never_crossed(
    units: int, direction: int, market_order: bool, events: list[tuple[str, Any]]
) -> None:
    terms = structs.replace(TERMS, order="market" if market_order else "limit")
    manager = Manager(Broker(float(units), direction), begun(units, direction), terms)
    world, broker = World(manager, units), manager.broker
    for kind, value in events:
        world.happen(kind, value)
        before, over = len(broker.orders), manager.close.outcome is not None
        manager.turn(
            world.price,
            lose=world.lose,
            others=world.others,
            may_begin=world.session,
            expires=not world.session,
        )
        assert len(broker.orders) - before <= (0 if over else 1)
        assert broker.position >= 0
        assert broker.sold <= units
        check_limits(manager)


def check_limits(manager: Manager) -> None:
    """They go on to the other side, and no further than the bound."""
    direction, anchor = manager.close.direction, manager.close.anchor
    assert manager.limits == sorted(manager.limits, reverse=direction > 0)
    if anchor is not None:
        edge = anchor - direction * abs(anchor) * 0.1
        assert all((each - edge) * direction >= -1e-9 for each in manager.limits)


@settings(max_examples=300)
@given(
    path=st.lists(st.floats(1, 1000), min_size=1, max_size=80),
    quantity=st.integers(1, 400).map(lambda n: n - 200).filter(bool),
    sizes=st.lists(st.integers(1, 200), min_size=80, max_size=80),
    trailing=st.one_of(
        st.fixed_dictionaries({"percent": st.floats(0.1, 99)}),
        st.fixed_dictionaries({"amount": st.floats(1, 5000)}),
        st.fixed_dictionaries({"percent": st.floats(0.1, 99), "armedAt": st.floats(0.1, 300)}),
        st.fixed_dictionaries({"amount": st.floats(1, 5000), "armedAt": st.floats(1, 5000)}),
    ),
)
def test_trailing_never_loosens_and_a_rule_decides_at_most_once(
    path: list[float], quantity: int, sizes: list[int], trailing: dict[str, float]
) -> None:
    wanted = rule(trailing=trailing, takeProfit={"percent": 50}, stopLoss={"percent": 50})
    sign = 1 if quantity > 0 else -1
    memory = remembered(only(stock(quantity)), NOON)
    stops, decisions = [], 0
    for price, size in zip(path, sizes, strict=False):
        holding = only(stock(sign * size))
        found = judge(wanted, holding, market((1, price, price)), memory)
        memory = msgspec.json.decode(msgspec.json.encode(found.memory), type=type(memory))
        decisions += found.decision is not None
        if memory.stop is not None:
            stops.append(memory.stop)
    assert stops == sorted(stops, reverse=sign < 0)
    assert decisions <= 1


@pytest.mark.parametrize("direction", [1, -1])
def test_limits_of_a_combination_below_zero_keep_their_bound(direction: int) -> None:
    close = structs.replace(begun(direction=direction), anchor=-2.0, step=4)
    limit = limit_at(close, TERMS, Price(bid=-5.0, ask=1.0))
    assert limit == pytest.approx(-2.2 if direction > 0 else -1.8)


def test_quantities_have_no_residue_of_subtracting() -> None:
    """7250.77 - 5000 is 2250.7700000000004 to a computer, and no multiple of any step."""
    manager = Manager(Broker(7250.77), begun(7250.77))
    assert manager.turn(QUOTE, others=5000.0) == Send(2250.77, 100.0)
    order = manager.broker.orders["rule-d-1"]
    order["filled"], manager.broker.position = 0.67, 7250.10
    assert manager.turn(QUOTE, others=5000.33) == Change(units=2250.44)
    order["state"], order["filled"], manager.broker.position = "filled", 2250.44, 5000.33
    assert manager.turn(QUOTE) == Send(5000.33, 100.0)
    assert manager.close.filled == 2250.44


def test_a_clock_that_is_set_back_does_not_hold_up_what_was_refused() -> None:
    close = structs.replace(begun(), refusals=1, stepped_at=NOON + timedelta(hours=1))
    now = Scene(now=NOON, price=Price(bid=99.0, ask=101.0), price_bad=None, held=100.0)
    assert isinstance(following(close, TERMS, now)[1], Send)
