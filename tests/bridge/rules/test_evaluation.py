from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from bridge.broker_time import Session, session_of
from bridge.model import Contract, Position
from bridge.rules.evaluation import (
    EXPECTED,
    Guard,
    Judgement,
    Market,
    Memory,
    Price,
    judge,
    remembered,
    stop_beyond_reach,
    stop_price,
)
from bridge.rules.holdings import Holding, Opening, holdings
from bridge.rules.model import Rule, RuleSet
from tests.bridge.rules.made import NEW_YORK, NOON, market, only, option, rule, stock


def first(judged_rule: Rule, holding: Holding, at: Market) -> Judgement:
    return judge(judged_rule, holding, at, remembered(holding, at.now))


def spread_for_credit() -> Holding:
    """Received 2.50 - 1.00 = 1.50 a unit, two units: 300."""
    opening = Opening("DU1", {11: -1.0, 12: 1.0}, 2.0)
    (found,) = holdings([option(-2, 250, 11), option(2, 100, 12, strike=490)], RuleSet(), [opening])
    return found


@dataclass
class Row:
    terms: dict[str, Any]
    position: Position
    price: float
    met: bool


@pytest.mark.parametrize(
    "row",
    [
        Row({"takeProfit": {"percent": 10}}, stock(50), 109.9, False),
        Row({"takeProfit": {"percent": 10}}, stock(50), 110.0, True),
        Row({"takeProfit": {"percent": 10}}, stock(-50), 90.1, False),
        Row({"takeProfit": {"percent": 10}}, stock(-50), 90.0, True),
        Row({"stopLoss": {"percent": 5}}, stock(50), 95.1, False),
        Row({"stopLoss": {"percent": 5}}, stock(50), 95.0, True),
        Row({"stopLoss": {"percent": 5}}, stock(-50), 104.9, False),
        Row({"stopLoss": {"percent": 5}}, stock(-50), 105.0, True),
        Row({"stopLoss": {"amount": 200}}, stock(50), 96.1, False),
        Row({"stopLoss": {"amount": 200}}, stock(50), 96.0, True),
        Row({"stopLoss": {"price": 90}}, stock(50), 90.1, False),
        Row({"stopLoss": {"price": 90}}, stock(50), 89.9, True),
        Row({"stopLoss": {"price": 110}}, stock(-50), 109.9, False),
        Row({"stopLoss": {"price": 110}}, stock(-50), 110.1, True),
        Row({"takeProfit": {"price": 110}}, stock(50), 110.0, True),
        Row({"takeProfit": {"price": 90}}, stock(-50), 90.1, False),
        # 1.25 received: half of it kept at 0.625, twice of it lost at 3.75
        Row({"takeProfit": {"ofCredit": 0.5}}, option(-2, 125, 1), 0.63, False),
        Row({"takeProfit": {"ofCredit": 0.5}}, option(-2, 125, 1), 0.62, True),
        Row({"stopLoss": {"ofCredit": 2}}, option(-2, 125, 1), 3.74, False),
        Row({"stopLoss": {"ofCredit": 2}}, option(-2, 125, 1), 3.75, True),
        Row({"stopLoss": {"ofCredit": 2}}, option(2, 125, 1), 0.01, False),  # no credit
        Row({"trailing": {"percent": 10}}, stock(50), 1.0, False),  # the first price is the best
    ],
)
def test_levels(row: Row) -> None:
    found = first(rule(**row.terms), only(row.position), market((1, row.price, row.price)))
    assert (found.decision is not None) is row.met, found.triggers


@pytest.mark.parametrize(("short", "long", "profit", "met"), [
    (2.0, 0.9, 80.0, False),
    (1.5, 0.7, 140.0, False),
    (1.4, 0.65, 150.0, True),
])  # fmt: skip
def test_a_combination_is_judged_as_one(
    short: float, long: float, profit: float, met: bool
) -> None:
    wanted = rule(match={"symbol": "SPY", "combination": True}, takeProfit={"ofCredit": 0.5})
    found = first(wanted, spread_for_credit(), market((11, short, short), (12, long, long)))
    assert found.profit == pytest.approx(profit)
    assert (found.decision is not None) is met


def test_bid_and_ask_of_a_combination_are_those_of_its_own_direction() -> None:
    wanted = rule(match={"symbol": "SPY", "combination": True}, stopLoss={"price": 2.0})
    found = first(wanted, spread_for_credit(), market((11, 2.9, 3.1), (12, 0.9, 1.1)))
    assert found.price == pytest.approx(2.0)
    assert found.decision is not None


@pytest.mark.parametrize("tag", ["delayed", "frozen", "stale"])
def test_a_quote_that_is_not_live_decides_nothing_unless_allowed(tag: str) -> None:
    bad = Market(
        now=NOON,
        zone=market().zone,
        prices={1: Price(bid=50.0, ask=50.0, tag=tag)},
    )
    terms = {"stopLoss": {"percent": 5}}
    found = first(rule(**terms), only(stock(50)), bad)
    assert found.decision is None
    assert found.triggers[0].unknown == f"the quote is {tag}"
    assert found.memory.best is None
    assert first(rule(**terms, allowQuotes=[tag]), only(stock(50)), bad).decision is not None


@pytest.mark.parametrize(
    "price",
    [
        Price(),
        Price(bid=50.0),
        Price(ask=50.0),
        Price(bid=51.0, ask=50.0),
        Price(bid=20.0, ask=70.0),
        Price(last=50.0),
    ],
)
def test_half_a_quote_decides_nothing(price: Price) -> None:
    at = structs.replace(market(), prices={1: price})
    found = first(rule(stopLoss={"percent": 5}), only(stock(50)), at)
    assert found.decision is None
    assert found.triggers[0].unknown


@pytest.mark.parametrize("cost", [None, 0.0])
def test_no_average_cost_decides_nothing_but_what_needs_none(cost: float | None) -> None:
    """Of what was transferred or given it is zero; the whole price is no profit."""
    holding = only(structs.replace(stock(50), average_cost=cost))
    at = market((1, 80.0, 80.0))
    assert first(rule(takeProfit={"amount": 500}), holding, at).decision is None
    assert first(rule(stopLoss={"percent": 5}), holding, at).triggers[0].unknown
    assert first(rule(stopLoss={"price": 90}), holding, at).decision is not None


def test_outside_the_hours_nothing_is_judged() -> None:
    shut = structs.replace(market((1, 50.0, 50.0)), open=False)
    found = first(rule(stopLoss={"percent": 5}, at="09:00"), only(stock(50)), shut)
    assert (found.decision, found.waits) == (None, "the market is closed")
    assert found.memory.best is None
    outside = rule(stopLoss={"percent": 5}, outsideRth=True)
    assert first(outside, only(stock(50)), shut).decision is not None
    closed = structs.replace(shut, open_outside=False)
    assert first(outside, only(stock(50)), closed).decision is None


def test_what_is_shown_at_a_weekend_is_what_would_happen_then() -> None:
    """A time of day is not reached on a day without a session."""
    saturday = NOON + timedelta(days=5)
    shut = market((1, 100.0, 100.0), now=saturday, open=False, open_outside=False)
    for terms in ({"at": "09:00"}, {"minutesBeforeClose": 15}, {"at": "09:00", "outsideRth": True}):
        found = first(rule(**terms), only(stock(50)), shut)
        (trigger,) = found.triggers
        assert (trigger.met, trigger.unknown) == (False, "no session is running")
        assert found.waits == "the market is closed"


@pytest.mark.parametrize("open_", [True, False])
def test_no_regular_session_is_nothing_to_tell_of_outside_the_hours(open_: bool) -> None:
    """Before it begins it is judged what else the rule says; where it has no end, nothing is."""
    early = structs.replace(market((1, 100.0, 100.0)), open=open_)
    wanted = rule(stopLoss={"percent": 5}, minutesBeforeClose=15, outsideRth=True)
    found = first(wanted, only(stock(50)), early)
    assert found.waits is None
    *_, trigger = found.triggers
    assert (trigger.name, trigger.met) == ("minutesBeforeClose", False)
    assert (trigger.unknown in EXPECTED) is not open_


def test_a_delayed_quote_shows_neither_price_nor_distance() -> None:
    quote = Price(bid=50.0, ask=50.0, tag="delayed")
    late = structs.replace(market(), prices={1: quote})
    found = first(rule(stopLoss={"percent": 5}, trailing={"percent": 5}), only(stock(50)), late)
    assert (found.price, found.profit) == (None, None)
    assert {each.unknown for each in found.triggers} == {"the quote is delayed"}
    allowed = rule(stopLoss={"percent": 5}, allowQuotes=["delayed"])
    assert first(allowed, only(stock(50)), late).decision is not None


def test_what_was_decided_once_is_not_shown_as_if_it_came_again() -> None:
    wanted, holding, low = rule(stopLoss={"percent": 5}), only(stock(50)), market((1, 50.0, 50.0))
    once = first(wanted, holding, low)
    assert once.waits is None
    again = judge(wanted, holding, low, once.memory)
    assert (again.decision, again.triggers[0].met) == (None, True)
    assert again.waits == "it has decided already, and begins anew when you change it"


def test_while_nothing_is_judged_no_price_moves_what_is_shown() -> None:
    wanted, holding = rule(trailing={"percent": 10}), only(stock(50))
    kept = first(wanted, holding, market((1, 100.0, 100.0))).memory
    halted = structs.replace(market((1, 120.0, 120.0)), followed=False)
    found = judge(wanted, holding, halted, kept)
    assert (found.triggers[0].level, found.memory.stop) == (90.0, 90.0)


@pytest.mark.parametrize(
    ("terms", "later", "met"),
    [
        ({"at": "12:00"}, timedelta(), True),
        ({"at": "12:01"}, timedelta(), False),
        ({"minutesBeforeClose": 15}, timedelta(hours=3, minutes=44), False),
        ({"minutesBeforeClose": 15}, timedelta(hours=3, minutes=45), True),
        ({"maxHoldingDays": 2}, timedelta(days=1), False),
        ({"maxHoldingDays": 2}, timedelta(days=2), True),
        ({"maxHoldingDays": 2}, timedelta(days=1, hours=11, minutes=59), False),
        ({"maxHoldingDays": 2}, timedelta(days=1, hours=12), True),  # midnight in New York
    ],
)
def test_times_are_the_exchange_s(terms: dict[str, Any], later: timedelta, met: bool) -> None:
    holding, now = only(stock(50)), NOON + later
    at = market(now=now, session=Session(NOON.replace(hour=13, minute=30), NOON.replace(hour=20)))
    found = judge(rule(**terms), holding, at, remembered(holding, NOON))
    assert (found.decision is not None) is met, found.triggers


@pytest.mark.parametrize(("limit", "met"), [(17, False), (18, True)])
def test_days_to_expiration(limit: int, met: bool) -> None:
    found = first(rule(daysToExpiration=limit), only(option(-1, 125, 1)), market())
    assert (found.decision is not None) is met
    assert found.triggers[0].value == 18


def test_a_day_that_no_calendar_has_is_unknown() -> None:
    position = option(-1, 125, 1)
    odd = structs.replace(position.contract, expiration="20261399")
    found = first(
        rule(daysToExpiration=21), only(structs.replace(position, contract=odd)), market()
    )
    assert found.decision is None
    assert found.triggers[0].unknown == "20261399 is no day"


@pytest.mark.parametrize(("expiration", "expected"), [("", True), ("202606", False)])
def test_a_month_is_no_day_of_expiration(expiration: str, expected: bool) -> None:
    """A share has none, and a rule for all lacks nothing there; of a future it has to be told."""
    contract = Contract(con_id=1, symbol="ES", sec_type="FUT", expiration=expiration)
    future = Position(account="DU1", contract=contract, quantity=1, average_cost=5.0)
    (trigger,) = first(rule(daysToExpiration=3), only(future), market()).triggers
    assert not trigger.met
    assert trigger.unknown is not None
    assert (trigger.unknown in EXPECTED) is expected


@pytest.mark.parametrize(
    ("terms", "met"),
    [
        ({"underlyingBelow": 500}, False),
        ({"underlyingBelow": 501}, True),
        ({"underlyingAbove": 500}, True),
        ({"underlyingAbove": 501}, False),
    ],
)
def test_the_underlying(terms: dict[str, Any], met: bool) -> None:
    at = market(underlying=Price(bid=500.4, ask=500.6))
    found = first(rule(**terms), only(option(-1, 125, 1)), at)
    assert (found.decision is not None) is met
    unknown = first(rule(**terms), only(option(-1, 125, 1)), market())
    assert unknown.decision is None


def follow(wanted: Rule, holding: Holding, *prices: float) -> Judgement:
    memory = remembered(holding, NOON)
    for price in prices:
        found = judge(wanted, holding, market((1, price, price)), memory)
        memory = found.memory
    return found


def test_trailing_follows_the_best_price() -> None:
    wanted = rule(trailing={"percent": 10})
    assert follow(wanted, only(stock(50)), 100, 120, 108.1).decision is None
    assert follow(wanted, only(stock(50)), 100, 120, 108.0).decision is not None
    assert follow(wanted, only(stock(-50)), 100, 80, 87.9).decision is None
    assert follow(wanted, only(stock(-50)), 100, 80, 88.0).decision is not None
    money = rule(trailing={"amount": 500})
    assert follow(money, only(stock(50)), 100, 120, 110.1).decision is None
    assert follow(money, only(stock(50)), 100, 120, 110.0).decision is not None


def test_trailing_is_armed_by_a_profit() -> None:
    wanted = rule(trailing={"percent": 10, "armedAt": 20})
    assert follow(wanted, only(stock(50)), 100, 119, 90).decision is None
    assert follow(wanted, only(stock(50)), 100, 120, 108).decision is not None
    money = rule(trailing={"amount": 100, "armedAt": 1000})
    assert follow(money, only(stock(50)), 100, 119.9, 90).decision is None
    assert follow(money, only(stock(50)), 100, 120, 118).decision is not None


def test_a_smaller_position_does_not_loosen_the_trailing_stop() -> None:
    wanted = rule(trailing={"amount": 500})
    half = only(stock(50))
    memory = follow(wanted, half, 100, 120).memory
    assert memory.stop == 110
    smaller = judge(wanted, only(stock(10)), market((1, 120.0, 120.0)), memory)
    assert smaller.memory.stop == 110


@pytest.mark.parametrize("sign", [1, -1])
def test_what_was_added_has_given_back_nothing_of_before(sign: int) -> None:
    """Of 100 that were worth 1000 more, 1000 are given back, however many are held by now."""
    wanted = rule(trailing={"amount": 2000})
    best, price = 100 + 10 * sign, 100
    memory = follow(wanted, only(stock(100 * sign)), 100, best).memory
    more = only(stock(1000 * sign, cost=100))
    found = judge(wanted, more, market((1, price, price)), memory)
    assert found.decision is None
    assert found.memory.stop == pytest.approx(100 - sign)
    end = 100 - 1.01 * sign
    assert judge(wanted, more, market((1, end, end)), found.memory).decision is not None
    nobody_knows = only(stock(1000 * sign, cost=0))
    assert judge(wanted, nobody_knows, market((1, price, price)), memory).decision is None


@pytest.mark.parametrize("armed", [{"percent": 5, "armedAt": 10}, {"amount": 500, "armedAt": 1000}])
def test_buying_more_at_a_lower_price_arms_no_trailing_stop(armed: dict[str, float]) -> None:
    wanted = rule(trailing=armed)
    memory = follow(wanted, only(stock(100)), 100, 109).memory
    assert memory.stop is None
    found = judge(wanted, only(stock(200, cost=97.5)), market((1, 95.0, 95.0)), memory)
    assert (found.memory.stop, found.decision) == (None, None)


def test_dearer_units_move_the_best_price_by_the_market_alone() -> None:
    wanted = rule(trailing={"percent": 10})
    memory = follow(wanted, only(stock(100)), 100, 110).memory
    corrected = only(stock(101, cost=110))  # the broker may correct a cost as well
    found = judge(wanted, corrected, market((1, 105.0, 105.0)), memory)
    assert (found.memory.best, found.memory.stop) == (110, 99)


def test_a_split_is_no_fall_of_the_price() -> None:
    wanted = rule(trailing={"percent": 10})
    memory = follow(wanted, only(stock(50, cost=100)), 100, 120).memory
    split = only(stock(200, cost=25))
    found = judge(wanted, split, market((1, 29.5, 29.5)), memory)
    assert found.decision is None
    assert found.memory.stop == pytest.approx(27)
    guard = Guard(number=1, key="g", stop=90.0, units=50, at=NOON)
    guarded = structs.replace(memory, guard=guard)
    kept = judge(wanted, split, market((1, 29.5, 29.5)), guarded).memory.guard
    assert kept is not None
    assert kept.stop == 22.5  # as the broker has it by now: it follows the price from there
    bought = judge(wanted, only(stock(100, cost=60)), market((1, 29.5, 29.5)), memory)
    assert bought.decision is not None  # more was bought: the cost of the whole is another


def test_new_terms_of_trailing_begin_anew_from_the_same_best_price() -> None:
    holding = only(stock(50))
    memory = follow(rule(trailing={"percent": 5}), holding, 100, 120).memory
    looser = judge(rule(trailing={"percent": 20}), holding, market((1, 110.0, 110.0)), memory)
    assert looser.memory.stop == 96
    assert looser.decision is None


def test_what_was_decided_is_not_decided_again() -> None:
    holding, wanted = only(stock(50)), rule(stopLoss={"percent": 5})
    found = first(wanted, holding, market((1, 90.0, 90.0)))
    assert found.decision is not None
    again = judge(wanted, holding, market((1, 80.0, 80.0)), found.memory)
    assert again.decision is None
    assert again.triggers[0].met


def test_a_decision_has_one_name_whatever_restarts_and_another_for_another_holding() -> None:
    holding, wanted = only(stock(50)), rule(stopLoss={"percent": 5})
    kept = Memory(first_seen=NOON, units=50, entry=100)

    def name(memory: Memory, later: timedelta = timedelta()) -> str:
        at = market((1, 90.0, 90.0), now=NOON + later)
        decision = judge(wanted, holding, at, memory).decision
        assert decision is not None
        return decision.id

    assert name(kept) == name(kept, timedelta(hours=1))
    reopened = Memory(first_seen=NOON + timedelta(days=3))
    assert len({name(kept), name(reopened), name(structs.replace(kept, round=1))}) == 3


def test_the_reason_names_the_first_trigger_with_its_values() -> None:
    wanted = rule(stopLoss={"percent": 5}, at="09:31")
    found = first(wanted, only(stock(50)), market((1, 90.0, 90.0)))
    assert found.decision is not None
    assert found.decision.reason == "stopLoss: -500 has reached -250"


BOTH = {"trailing": {"percent": 5}, "stopLoss": {"percent": 10}}


@pytest.mark.parametrize(
    ("terms", "position", "memory", "stop"),
    [
        ({"stopLoss": {"percent": 10}}, stock(50), {}, 90.0),
        ({"stopLoss": {"percent": 10}}, stock(-50), {}, 110.0),
        ({"stopLoss": {"amount": 100}}, stock(50), {}, 98.0),
        ({"stopLoss": {"price": 80}}, stock(50), {}, 80.0),
        ({"stopLoss": {"ofCredit": 2}}, option(-2, 125, 1), {}, 3.75),
        ({"stopLoss": {"ofCredit": 2}}, option(2, 125, 1), {}, None),
        ({"trailing": {"percent": 5}}, stock(50), {"stop": 114.0}, 114.0),
        (
            {"trailing": {"percent": 5}, "stopLoss": {"percent": 10}},
            stock(50),
            {"stop": 114.0},
            114,
        ),
        (
            {"trailing": {"percent": 5}, "stopLoss": {"percent": 10}},
            stock(-50),
            {"stop": 114.0},
            110,
        ),
        ({"stopLoss": {"amount": 9000}}, stock(50), {}, None),
    ],
)
def test_the_stop_at_the_broker_stands_where_the_rule_would_stop(
    terms: dict[str, Any], position: Position, memory: dict[str, Any], stop: float | None
) -> None:
    holding = only(position)
    found = stop_price(rule(**terms), holding, Memory(first_seen=NOON, **memory))
    assert found == (stop if stop is None else pytest.approx(stop))


def put_spread(short: float | None, long: float, units: int = 1) -> Holding:
    """With these costs of a unit's legs."""
    positions = [option(-units, short or 0, 11), option(units, long, 12, strike=490)]
    positions[0] = structs.replace(positions[0], average_cost=short)
    opening = Opening("DU1", {11: -1.0, 12: 1.0}, 3.0)
    (found,) = holdings(positions, RuleSet(), [opening])
    return found


@pytest.mark.parametrize("later", [put_spread(100, 102.5, 2), put_spread(None, 100)])
def test_a_combination_keeps_its_direction_when_its_cost_crosses_zero(later: Holding) -> None:
    """It was opened for a credit of 5; a unit was added at a debit, or a cost is not told."""
    wanted = rule(match={"symbol": "SPY", "combination": True}, trailing={"percent": 20})
    quotes, begun = market((11, 1.05, 1.05), (12, 1.0, 1.0)), put_spread(105, 100)
    kept = first(wanted, begun, quotes).memory
    assert (begun.key, begun.direction) == (later.key, -1)
    found = judge(wanted, later, quotes, kept)
    assert found.decision is None
    assert found.price == pytest.approx(0.05)
    assert found.memory.stop == pytest.approx(0.06)
    assert found.memory.direction == -1


def test_a_combination_of_which_no_cost_was_ever_known_has_no_price() -> None:
    """What it costs is not known to be a debit."""
    wanted = rule(match={"symbol": "SPY", "combination": True}, stopLoss={"price": 2.0}, at="09:31")
    unknown, quotes = put_spread(None, 100), market((11, 3.0, 3.0), (12, 1.0, 1.0))
    found = first(wanted, unknown, quotes)
    assert found.triggers[0].unknown == "no average cost"
    assert found.decision is not None
    assert found.decision.trigger == "at"
    known = judge(wanted, put_spread(250, 100), quotes, found.memory)
    assert known.price == 2.0
    assert known.memory.direction == -1


NIGHT = "20260601:1700-20260602:1600;20260602:1700-20260603:1600"
TOKYO = "20260601:0900-20260601:1130;20260601:1230-20260601:1530"
DAY = "20260601:0930-20260601:1600"


@pytest.mark.parametrize(
    ("clock", "day", "hour", "minute", "said"),
    [
        ("15:30", 2, 17, 5, -1),  # of the session of the 3rd
        ("15:30", 3, 15, 29, -1),
        ("15:30", 3, 15, 30, 0),
        ("02:00", 2, 17, 5, -1),
        ("02:00", 3, 2, 0, 0),
        ("17:30", 2, 17, 29, -1),
        ("17:30", 2, 17, 30, 0),
        ("17:30", 3, 9, 0, 0),
        ("16:30", 3, 15, 59, None),  # in the break between the sessions
    ],
)
@pytest.mark.parametrize("outside", [False, True])
def test_a_time_of_day_is_one_of_the_session_that_runs(
    clock: str, day: int, hour: int, minute: int, said: int | None, outside: bool
) -> None:
    zone = ZoneInfo("America/Chicago")
    now = datetime(2026, 6, day, hour, minute, tzinfo=zone)
    running = session_of(NIGHT, zone, now)
    times = {"longer": running, "open": False} if outside else {"session": running}
    at = structs.replace(market(now=now, **times), zone=zone)
    (found,) = first(rule(at=clock, outsideRth=outside), only(stock(1)), at).triggers
    assert found.met is (said == 0)
    assert (found.unknown is None) is (said is not None)


def test_a_time_that_the_session_never_reaches_is_told() -> None:
    now = datetime(2026, 6, 1, 15, 59, tzinfo=NEW_YORK)
    at = market(now=now, session=session_of(DAY, NEW_YORK, now))
    (found,) = first(rule(at="16:00"), only(stock(1)), at).triggers
    assert found.unknown == "the session ends at 16:00, before that"
    (early,) = first(rule(at="09:00"), only(stock(1)), at).triggers
    assert early.met  # before the beginning: from the beginning on


@pytest.mark.parametrize(
    ("hour", "minute", "met"), [(11, 15, False), (15, 9, False), (15, 10, True)]
)
def test_a_lunch_break_is_no_close(hour: int, minute: int, met: bool) -> None:
    zone = ZoneInfo("Asia/Tokyo")
    now = datetime(2026, 6, 1, hour, minute, tzinfo=zone)
    at = structs.replace(market(now=now, session=session_of(TOKYO, zone, now)), zone=zone)
    (found,) = first(rule(minutesBeforeClose=20), only(stock(1)), at).triggers
    assert (found.met, found.level) == (met, "15:10")


def corn(magnifiers: dict[int, int]) -> Holding:
    """One future on 5000 bushels at 4.50, quoted in cents."""
    contract = Contract(con_id=7, symbol="ZC", sec_type="FUT", multiplier="5000")
    held = Position(account="DU1", contract=contract, quantity=1.0, average_cost=22500.0)
    return only(held).magnified(magnifiers)


@pytest.mark.parametrize(
    ("terms", "price", "met", "stop"),
    [
        ({"takeProfit": {"percent": 20}}, 450.0, False, None),
        ({"takeProfit": {"percent": 20}}, 540.0, True, None),
        ({"stopLoss": {"percent": 20}}, 360.5, False, 360.0),
        ({"stopLoss": {"percent": 20}}, 360.0, True, 360.0),
        ({"stopLoss": {"amount": 500}}, 440.0, True, 440.0),
        ({"stopLoss": {"price": 430}}, 430.5, False, 430.0),
        ({"trailing": {"amount": 500}}, 450.0, False, 440.0),
    ],
)
def test_a_price_in_cents_counts_cents(
    terms: dict[str, Any], price: float, met: bool, stop: float | None
) -> None:
    holding = corn({7: 100})
    found = first(rule(**terms), holding, market((7, price, price)))
    assert found.profit == pytest.approx((price - 450) * 50)
    assert (found.decision is not None) is met
    assert stop_price(rule(**terms), holding, found.memory) == stop


def test_no_stop_stands_where_nobody_knows_what_a_price_counts_for() -> None:
    unknown = corn({})
    wanted, memory = rule(stopLoss={"percent": 20}), remembered(unknown, NOON)
    assert not unknown.priced
    assert stop_price(wanted, unknown, memory) is None
    assert stop_beyond_reach(wanted, unknown, memory) is None


NO_BID = Price(ask=0.05, no_bid=True)


def test_a_worthless_leg_without_a_bid_blinds_nobody() -> None:
    wanted = rule(match={"symbol": "SPY", "combination": True}, stopLoss={"ofCredit": 2})
    quotes = {11: Price(bid=20.0, ask=20.2), 12: NO_BID}
    found = first(wanted, spread_for_credit(), structs.replace(market(), prices=quotes))
    assert found.decision is not None
    assert found.price == pytest.approx(20.075)
    unheard = {11: quotes[11], 12: Price(ask=0.05)}  # it may come in a moment
    found = first(wanted, spread_for_credit(), structs.replace(market(), prices=unheard))
    assert found.triggers[0].unknown == "bid and ask are not both there"


@pytest.mark.parametrize(
    ("position", "met"), [(option(-1, 250, 11), True), (option(1, 250, 11), None)]
)
def test_what_nobody_bids_for_can_be_bought_back_and_not_sold(
    position: Position, met: bool | None
) -> None:
    at = structs.replace(market(), prices={11: NO_BID})
    terms = {"takeProfit": {"percent": 90}} if met else {"stopLoss": {"percent": 50}}
    (found,) = first(rule(**terms), only(position), at).triggers
    assert (found.met or None) is met
    assert (found.unknown is None) is bool(met)


def test_a_price_below_zero_is_one_where_such_prices_are_traded() -> None:
    below = Price(bid=-37.1, ask=-37.0, signed=True)
    contract = Contract(con_id=1, symbol="CL", sec_type="FUT", multiplier="1000")
    oil = only(Position(account="DU1", contract=contract, quantity=1.0, average_cost=20000.0))
    at = structs.replace(market(), prices={1: below})
    found = first(rule(stopLoss={"percent": 20}), oil, at)
    assert found.decision is not None
    assert found.profit == pytest.approx(-57050)
    never = structs.replace(market(), prices={1: structs.replace(below, signed=False)})
    assert first(rule(stopLoss={"percent": 20}), oil, never).decision is None
