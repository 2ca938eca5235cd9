from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from bridge.broker_time import Session
from bridge.rules.evaluation import judge, remembered
from bridge.rules.model import RuleSet, RulesInvalidError, read, together, wording
from tests.bridge.rules.made import NOON, market, only, stock

GOOD = {"id": "stop", "match": {"symbol": "AAPL"}, "stopLoss": {"percent": 5}}


def test_the_names_of_the_api_and_of_stack_yaml_mean_the_same() -> None:
    api = {
        "id": "a",
        "match": {"symbol": "SPY", "secType": "OPT", "orderRef": "wheel-*"},
        "takeProfit": {"ofCredit": 0.5},
        "trailing": {"percent": 10, "armedAt": 20},
        "daysToExpiration": 21,
        "close": {"stepSeconds": 3, "boundPercent": 5},
        "outsideRth": True,
    }
    stack = {
        "id": "a",
        "match": {"symbol": "SPY", "sec_type": "OPT", "order_ref": "wheel-*"},
        "take_profit": {"of_credit": 0.5},
        "trailing": {"percent": 10, "armed_at": 20},
        "days_to_expiration": 21,
        "close": {"step_seconds": 3, "bound_percent": 5},
        "outside_rth": True,
    }
    assert read({"rules": [api]}) == read([stack])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"match": {}}, "match names nothing"),
        ({"at": "15:30\n"}, "at is no time such as 15:30"),
        ({"at": "15:3\u0660"}, "at"),
        ({"id": "stop\n"}, "its id ends with a line break"),
        ({"stopLoss": None}, "no trigger"),
        ({"stopLoss": {}}, "stopLoss takes one of"),
        ({"stopLoss": {"percent": 5, "price": 3}}, "stopLoss takes one of"),
        ({"stopLoss": {"percent": -5}}, "rule stop: stopLoss.percent: "),
        ({"stopLos": {"percent": 5}}, "rule stop: Object contains unknown field `stopLos`"),
        ({"trailing": {"armedAt": 5}}, "trailing takes one of"),
        ({"at": "25:00"}, "rule stop: at: "),
        ({"mode": "live"}, "rule stop: mode: "),
        ({"close": {"steps": 0}}, "rule stop: close.steps: "),
        ({"protect": "broker", "stopLoss": None, "at": "15:45"}, "needs stopLoss or trailing"),
        ({"protect": "broker", "match": {"combination": True}}, "no stop on a combination"),
        ({"match": {"symbol": []}}, "match.symbol is empty"),
        ({"match": {"account": ""}}, "match.account is empty"),
        ({"match": {"symbol": "AAPL", "secType": "stk"}}, "in capitals: STK"),
        (
            {"match": {"combination": [{"side": "long", "secType": "opt"}, {"side": "short"}]}},
            "in capitals: OPT",
        ),
        (
            {
                "match": {
                    "combination": [{"side": "long", "expiration": "2026-06-19"}, {"side": "short"}]
                }
            },
            "is no day such as",
        ),
        ({"stopLoss": {"price": float("nan")}}, "price is no finite number"),
        ({"stopLoss": {"amount": float("inf")}}, "amount is no finite number"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RulesInvalidError) as caught:
        read({"rules": [GOOD | changes]})
    assert said in caught.value.detail


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(RulesInvalidError, match="two rules are named stop"):
        read([GOOD, GOOD])


@pytest.mark.parametrize(
    ("own", "for_all", "mode"),
    [
        (None, None, "simulate"),
        ("trade", None, "trade"),
        ("trade", "simulate", "simulate"),
        (None, "trade", "trade"),
        ("simulate", "trade", "simulate"),
    ],
)
def test_nothing_trades_unless_somebody_says_so(
    own: str | None, for_all: str | None, mode: str
) -> None:
    found = read({"rules": [GOOD | {"mode": own}], "mode": for_all})
    assert found.mode_of(found.rules[0]) == mode


@pytest.mark.parametrize(
    ("mode", "modes"),
    [
        ((None, None), ("simulate", "simulate", "trade")),
        ((None, "trade"), ("simulate", "trade", "trade")),
        (("trade", None), ("trade", "simulate", "trade")),
        (("trade", "simulate"), ("simulate", "simulate", "simulate")),
        (("simulate", "trade"), ("simulate", "simulate", "simulate")),
    ],
)
def test_a_set_makes_no_rule_of_another_set_trade(
    mode: tuple[str | None, str | None], modes: tuple[str, ...]
) -> None:
    filed = read({"rules": [GOOD | {"id": "filed"}], "mode": mode[0]})
    trading = GOOD | {"id": "trading", "mode": "trade"}
    own = read({"rules": [GOOD | {"id": "own"}, trading], "mode": mode[1]})
    found = together(filed, own)
    assert tuple(found.mode_of(each) for each in found.rules) == modes


def test_the_wording_of_a_rule_is_what_is_said_and_done() -> None:
    legs = [{"side": "short", "strike": 500}, {"side": "long", "strike": 490}]
    plain = read([GOOD | {"match": {"symbol": "SPY", "combination": legs}}]).rules[0]
    spelled = read([{"id": "stop", "match": {"symbol": "SPY", "combination": legs},
                     "stop_loss": {"percent": 5.0}, "enabled": True}]).rules[0]  # fmt: skip
    kept = "b7fe4e4a81c4bc49"  # journals have it: were it another, all rules would begin anew
    assert wording(plain, "trade") == wording(spelled, "trade") == kept
    others = [structs.replace(plain, outside_rth=True), read([GOOD]).rules[0]]
    found = {wording(each, "trade") for each in others} | {wording(plain, "simulate")}
    assert len(found - {wording(plain, "trade")}) == 3


def test_nothing_is_nothing() -> None:
    assert read([]) == RuleSet()


@pytest.mark.parametrize("at", ["15:30\n", "15:3\u0660"])
def test_what_an_earlier_release_has_kept_is_read(at: str) -> None:
    """It is refused where it is written, and unknown where it is judged; the bridge starts."""
    kept = msgspec.json.encode({"rules": [GOOD | {"at": at}]})
    (found,) = msgspec.json.decode(kept, type=RuleSet).rules
    position = only(stock(100))
    session = Session(NOON.replace(hour=13), NOON.replace(hour=20))
    judged = judge(
        found, position, market((1, 100.0, 100.0), session=session), remembered(position, NOON)
    )
    unknown = {each.name: each.unknown for each in judged.triggers}
    assert unknown == {"stopLoss": None, "at": "it is no time such as 15:30"}
