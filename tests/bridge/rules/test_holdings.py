from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from bridge.model import Position
from bridge.orders.close import closing_order
from bridge.rules import holdings as holdings_module
from bridge.rules.holdings import (
    Fill,
    Opened,
    Opening,
    fits,
    holdings,
    opened_by,
    opened_together,
)
from bridge.rules.model import RuleSet
from tests.bridge.rules.made import only, option, rules, stock

MORNING = datetime(2026, 6, 1, 14, tzinfo=UTC)


def spread(units: float = 1.0, account: str = "DU1") -> Opening:
    return Opening(account, {11: -1.0, 12: 1.0}, units, frozenset({"spread"}), MORNING)


def test_a_combination_is_one_holding_and_the_rest_of_its_legs_another() -> None:
    found = holdings([option(-3, 250, 11), option(2, 100, 12, strike=490)], RuleSet(), [spread(2)])
    assert [(each.key, each.units, each.direction) for each in found] == [
        ("DU1/11:-1", 1, -1),
        ("DU1/11:-1/12:+1", 2, -1),
    ]
    assert found[1].entry == -250 + 100
    assert found[1].labels == {"spread"}


def test_a_combination_whose_leg_is_gone_is_no_combination() -> None:
    found = holdings([option(-1, 250, 11)], RuleSet(), [spread()])
    assert [each.key for each in found] == ["DU1/11:-1"]
    other_side = holdings([option(-1, 250, 11), option(-1, 100, 12)], RuleSet(), [spread()])
    assert [each.combination for each in other_side] == [False, False]


def test_orders_that_opened_the_same_add_up_and_never_beyond_the_position() -> None:
    positions = [option(-3, 250, 11), option(3, 100, 12, strike=490)]
    (found,) = holdings(positions, RuleSet(), [spread(1), spread(1), spread(5)])
    assert found.units == 3


def test_a_rule_for_single_positions_never_sees_a_leg() -> None:
    single, combination = rules(
        {"match": {"symbol": "SPY"}, "at": "15:00"},
        {"match": {"symbol": "SPY", "combination": True}, "at": "15:00"},
    ).rules
    (found,) = holdings([option(-1, 250, 11), option(1, 100, 12)], RuleSet(), [spread()])
    assert not fits(single.match, found)
    assert fits(combination.match, found)


def test_a_rule_names_the_legs_of_what_was_opened_leg_by_leg() -> None:
    ruleset = rules(
        {
            "match": {
                "symbol": "SPY",
                "combination": [
                    {"side": "short", "right": "P", "strike": 500},
                    {"side": "long", "right": "P", "strike": 490},
                ],
            },
            "takeProfit": {"ofCredit": 0.5},
        }
    )
    positions = [option(-2, 250, 11), option(2, 100, 12, strike=490), stock(100)]
    named, single = sorted(holdings(positions, ruleset), key=lambda each: not each.combination)
    assert (named.units, named.entry) == (2, -150)
    assert fits(ruleset.rules[0].match, named)
    assert not fits(ruleset.rules[0].match, single)


def test_everything_that_is_said_has_to_fit() -> None:
    (long,) = holdings([stock(100)], RuleSet(), labels={("DU1", 1): frozenset({"swing-7"})})
    for match, wanted in (
        ({"symbol": "aapl", "side": "long"}, True),
        ({"symbol": ["MSFT", "AAPL"]}, True),
        ({"symbol": "AAPL", "side": "short"}, False),
        ({"account": "DU2"}, False),
        ({"orderRef": "swing-*"}, True),
        ({"orderRef": "other"}, False),
        ({"secType": "OPT"}, False),
        ({"conId": 1}, True),
    ):
        rule = rules({"match": match, "at": "15:00"}).rules[0]
        assert fits(rule.match, long) is wanted, match


def test_fills_of_one_order_of_several_contracts_were_opened_together() -> None:
    def fill(order: str, con_id: int, quantity: float, minute: int = 0) -> Fill:
        return Fill("DU1", order, con_id, quantity, MORNING + timedelta(minutes=minute))

    found = opened_together(
        [
            fill("7", 11, -2), fill("7", 11, -2), fill("7", 12, 4),
            fill("8", 1, 100),
            fill("9", 12, 3, minute=5), fill("9", 11, -6, minute=4),
        ]
    )  # fmt: skip
    assert [(each.ratios, each.units) for each in found] == [
        ({12: 1.0, 11: -2.0}, 3.0),
        ({11: -1.0, 12: 1.0}, 4.0),
    ]
    assert found[0].at == MORNING + timedelta(minutes=4)


def test_a_position_that_was_closed_has_no_past_until_it_is_opened_again() -> None:
    def fill(quantity: float, minute: int, label: str) -> Fill:
        at = MORNING + timedelta(minutes=minute)
        return Fill("DU1", label, 1, quantity, at, frozenset({label}))

    place, long, short = ("DU1", 1), [stock(7)], [stock(-2)]
    found = opened_by([fill(5, 0, "first"), fill(5, 1, "more"), fill(-3, 2, "part")], long)
    assert (found.labels[place], found.since[place]) == (frozenset({"first", "more"}), MORNING)
    assert found.certain == found.since
    closed = [fill(5, 0, "first"), fill(-5, 1, "out")]
    assert opened_by(closed, long) == Opened()
    for fills, label, minute in (
        ([*closed, fill(-2, 9, "short")], "short", 9),
        ([fill(5, 0, "first"), fill(-8, 4, "flip")], "flip", 4),
    ):
        found = opened_by(fills, short)
        assert found.labels[place] == {label}
        assert found.since[place] == MORNING + timedelta(minutes=minute)


def test_fills_that_lead_to_the_other_side_say_nothing_of_who_opened_it() -> None:
    """The journal begins after the position: it knows of the part that was sold, and no more."""
    sold = [Fill("DU1", "7", 1, -30, MORNING, frozenset({"part"}))]
    assert opened_by(sold, [stock(70)]) == Opened()
    bought = [*sold, Fill("DU1", "8", 1, 50, MORNING, frozenset({"more"}))]
    found = opened_by(bought, [stock(120)])
    assert found.labels == {("DU1", 1): frozenset({"more"})}
    assert found.certain == {}  # it was held before


def test_what_is_left_beside_a_combination_has_not_its_label() -> None:
    def fill(order: str, con_id: int, quantity: float) -> Fill:
        return Fill("DU1", order, con_id, quantity, MORNING, frozenset({order}))

    fills = [fill("condor", 11, -1), fill("condor", 12, 1), fill("naked", 11, -1)]
    positions = [option(-2, 250, 11), option(1, 100, 12, strike=490)]
    opened = opened_by(fills, positions)
    together = opened_together(fills)
    found = holdings(positions, RuleSet(), together, opened.labels, opened.since)
    assert [(each.key, each.labels) for each in found] == [
        ("DU1/11:-1", frozenset({"naked"})),
        ("DU1/11:-1/12:+1", frozenset({"condor"})),
    ]


def test_an_order_follows_the_direction_that_a_combination_was_first_seen_with() -> None:
    debit = [option(-1, 100, 11), option(1, 102.5, 12, strike=490)]
    (found,) = holdings(debit, RuleSet(), [spread()])
    credit = found.facing(-1)
    assert (found.direction, credit.direction, credit.facing(1).direction) == (1, -1, -1)
    assert closing_order(credit, 1, 0.05).action == "BUY"
    assert only(stock(5)).facing(-1).direction == 1
    short = rules({"match": {"symbol": "SPY", "combination": True, "side": "short"}, "at": "15:00"})
    assert fits(short.rules[0].match, credit)
    assert not fits(short.rules[0].match, found)


def fill_of(order: str, con_id: int, quantity: float, day: int) -> Fill:
    at = MORNING + timedelta(days=day)
    return Fill("DU1", order, con_id, quantity, at, frozenset({order}))


CONDOR = [fill_of("condor", 11, -1, 0), fill_of("condor", 12, 1, 0)]
OUT = [fill_of("out", 11, 1, 3), fill_of("out", 12, -1, 3)]
LEGS = [option(-1, 250, 11), option(1, 100, 12, strike=490)]


@pytest.mark.parametrize(
    ("fills", "positions", "found"),
    [
        (CONDOR, LEGS, {"condor": 1}),
        # closed, and the same contracts opened singly later
        ([*CONDOR, *OUT, fill_of("put", 11, -1, 30), fill_of("hedge", 12, 1, 31)], LEGS, {}),
        # one leg was closed: the other is held singly from then on
        ([*CONDOR, fill_of("leg", 11, 1, 3), fill_of("put", 11, -1, 30)], LEGS, {}),
        # closed and opened again as one
        ([*CONDOR, *OUT, fill_of("new", 11, -1, 9), fill_of("new", 12, 1, 9)], LEGS, {"new": 1}),
        # an order that closes one of two
        (
            [*CONDOR, fill_of("two", 11, -1, 1), fill_of("two", 12, 1, 1), *OUT],
            LEGS,
            {"two": 1},
        ),
        # what is held singly is closed first
        (
            [*CONDOR, fill_of("put", 11, -2, 1), fill_of("back", 11, 2, 2)],
            LEGS,
            {"condor": 1},
        ),
        # held singly since before the journal begins
        (
            [*CONDOR, fill_of("back", 11, 3, 2)],
            [option(-2, 250, 11), LEGS[1]],
            {"condor": 1},
        ),
        # executions that the list of positions does not have yet
        ([*CONDOR, fill_of("put", 11, -1, 1)], LEGS, {"condor": 1}),
        # a roll: the legs that it closes were opened by another
        ([*CONDOR, fill_of("roll", 11, 1, 5), fill_of("roll", 13, -1, 5)], LEGS[1:], {}),
    ],
)
def test_what_was_closed_since_was_not_opened_together(
    fills: list[Fill], positions: list[Position], found: dict[str, float]
) -> None:
    openings = opened_together(fills, positions)
    assert {label: each.units for each in openings for label in each.labels} == found


NAMING: dict[str, Any] = {
    "match": {
        "symbol": "SPY",
        "combination": [
            {"side": "short", "right": "P", "strike": 500},
            {"side": "long", "right": "P", "strike": 490},
        ],
    },
    "at": "15:00",
}
SINGLE = {"match": {"symbol": "SPY", "secType": "OPT"}, "at": "15:00"}
LATER = [
    structs.replace(
        each,
        contract=structs.replace(
            each.contract, con_id=each.contract.con_id + 10, expiration="20260717"
        ),
    )
    for each in LEGS
]


@pytest.mark.parametrize("enabled", [True, False])
def test_what_was_opened_as_one_keeps_its_label_whoever_names_its_legs(enabled: bool) -> None:
    (found,) = holdings(LEGS, rules(NAMING | {"enabled": enabled}), [spread()])
    assert (found.labels, found.opened_at) == (frozenset({"spread"}), MORNING)
    singly = holdings(LEGS, rules(NAMING | {"enabled": enabled}))
    assert [each.combination for each in singly] == [True] if enabled else [False, False]


def test_legs_that_several_positions_fit_are_nobody_s() -> None:
    """Else a rule for single positions would close the legs of two spreads one by one."""
    ruleset = rules(NAMING, SINGLE)
    found = holdings([*LEGS, *LATER], ruleset)
    assert [each.unclear for each in found] == ["r0"] * 4
    assert not any(fits(each.match, holding) for each in ruleset.rules for holding in found)
    opened = [structs.replace(spread(), ratios={21: -1.0, 22: 1.0}), spread()]
    assert all(each.combination for each in holdings([*LEGS, *LATER], ruleset, opened))
    one = holdings([*LEGS, *LATER], ruleset, opened[:1])
    assert [fits(ruleset.rules[0].match, each) for each in one] == [True, True]
    beside = holdings([*LEGS, LATER[0], stock(5)], ruleset)
    assert [each.unclear for each in beside] == ["r0", "r0", "", "r0"]


def test_a_rule_may_name_the_legs_of_two_orders_as_one() -> None:
    calls = [option(-1, 200, 13, "C", 520), option(1, 90, 14, "C", 530)]
    four = [*NAMING["match"]["combination"], {"side": "short", "right": "C"},
            {"side": "long", "right": "C"}]  # fmt: skip
    whole = rules({"match": {"symbol": "SPY", "combination": four}, "at": "15:00"})
    openings = [spread(), Opening("DU1", {13: -1.0, 14: 1.0}, 1.0)]
    (condor,) = holdings([*LEGS, *calls], whole, openings)
    assert len(condor.legs) == 4
    assert len(holdings([*LEGS, *calls], RuleSet(), openings)) == 2


def split_legs(short: float, long: float, costs: tuple[float, float]) -> list[Position]:
    return [option(-short, costs[0], 11), option(long, costs[1], 12, strike=490)]


@pytest.mark.parametrize(
    ("positions", "units"),
    [
        (split_legs(1, 1, (251, 101)), 1),
        (split_legs(2, 2, (125.5, 50.5)), 2),
        (split_legs(3, 3, (83.7, 33.7)), 3),
        # held twice since before the journal begins, or bought elsewhere
        (split_legs(2, 2, (251, 101)), 1),
        (split_legs(2, 2, (151, 76)), 1),
        # one leg alone has grown
        (split_legs(2, 1, (125.5, 101)), 1),
    ],
)
def test_a_split_leaves_a_combination_whole(positions: list[Position], units: float) -> None:
    fills = [
        structs.replace(each, price=price) for each, price in zip(CONDOR, (2.5, 1.0), strict=True)
    ]
    (found,) = opened_together(fills, positions)
    assert found.units == units


def test_a_combination_is_certainly_held_when_all_its_legs_are() -> None:
    """A leg whose fills are late for a moment does not make it older, nor younger afterwards."""
    begun = {("DU1", 11): MORNING, ("DU1", 12): MORNING + timedelta(days=2)}
    (whole,) = holdings(LEGS, RuleSet(), [spread()], begun=begun)
    assert whole.begun_at == MORNING + timedelta(days=2)
    for place, at in begun.items():
        (found,) = holdings(LEGS, RuleSet(), [spread()], begun={place: at})
        assert found.begun_at is None


def test_what_was_closed_long_ago_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair that is opened and closed many times a day, for months, in the same contracts."""
    looked: list[int] = []
    release = holdings_module._release

    def counted(lots: Any, *given: Any) -> None:
        looked.append(len(found := list(lots)))
        release(found, *given)

    monkeypatch.setattr(holdings_module, "_release", counted)
    fills = [
        fill_of(f"{way}-{day}", con_id, sign * (1 if way == "in" else -1), day)
        for day in range(100)
        for way in ("in", "out")
        for con_id, sign in ((11, -1), (12, 1))
    ]
    assert opened_together(fills) == []
    assert max(looked) <= 2
