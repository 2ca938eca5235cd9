"""Kinds of orders beyond the plain ones: combinations, conditions, pegs, algorithms, money."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulator.contracts.contract import Combination, Contract
from simulator.contracts.details import ORDER_TYPES
from simulator.trading import timing
from simulator.trading.combination import combine
from simulator.trading.exercise import Instruction
from simulator.trading.order import Order, Status
from simulator.trading.terms import RefusedError
from tests.simulator.trading.broker import APPLE, EURO, FUTURE, OPTION, Broker, eastern, terms

SHORT = replace(OPTION, con_id=700000002, strike=210.0)
LISTED = {each.con_id: each for each in (APPLE, FUTURE, OPTION, SHORT, EURO)}


@pytest.fixture
def broker() -> Broker:
    found = Broker()
    found.price(5.0, 5.2, OPTION)
    found.price(2.0, 2.1, SHORT)
    return found


def numbered(con_id: int, exchange: str) -> Any:
    if con_id not in LISTED:
        raise LookupError("No security definition has been found for the request")
    return LISTED[con_id]


def spread(*rows: tuple[object, ...]) -> Combination:
    legs = rows or ((OPTION.con_id, 1, "BUY", "SMART"), (SHORT.con_id, 1, "SELL", "SMART"))
    return combine("AAPL", "SMART", "USD", [tuple(map(str, row)) for row in legs], numbered)


def place(broker: Broker, rows: list[tuple[str, ...]] | None = None, **sent: Any) -> Order | None:
    words = terms(**sent)
    if rows is not None:
        words = replace(words, conditions=timing.read_conditions(rows, numbered))
    return broker.engine.place(1, 1, APPLE, words, broker.at)


# combinations


def test_a_combination_costs_what_its_legs_cost(broker: Broker) -> None:
    quote = broker.market.quote(spread(), broker.at)
    assert [quote.bid, quote.ask] == pytest.approx([2.9, 3.2])
    credit = spread((OPTION.con_id, 1, "SELL", ""), (SHORT.con_id, 2, "BUY", ""))
    quote = broker.market.quote(credit, broker.at)
    assert [quote.bid, quote.ask] == pytest.approx([-1.2, -0.8])


def test_a_combination_is_told_as_a_whole_and_by_leg_and_paid_for_by_leg(broker: Broker) -> None:
    broker.place(1, spread(), totalQuantity=3, orderType="LMT", lmtPrice=3.25)
    said = broker.go()
    whole, bought, sold = broker.diary.executions
    assert [each.contract.sec_type for each in broker.diary.executions] == ["BAG", "OPT", "OPT"]
    assert (whole.side, bought.side, sold.side) == ("BOT", "BOT", "SLD")
    assert (whole.quantity, bought.quantity, sold.quantity) == (3, 3, 3)
    assert whole.price == pytest.approx(bought.price - sold.price)
    assert [each.exec_id.split(".")[2] for each in broker.diary.executions] == ["01", "02", "03"]
    assert said[-3:] == ["1 Filled 3", "1 fee 1.95", "1 fee 1.95"]
    held = broker.ledger.accounts["DU1"]
    assert (held.held(OPTION.con_id), held.held(SHORT.con_id)) == (3, -3)


def test_a_combination_rests_at_its_net_price_and_fills_there(broker: Broker) -> None:
    broker.place(1, spread(), totalQuantity=1, orderType="LMT", lmtPrice=2.5)
    assert broker.go()[-1] == "1 Submitted 0"
    broker.price(2.8, 2.9, SHORT)
    assert "1 BOT 1 @ 2.5" in broker.go()
    _, bought, sold = broker.diary.executions
    assert bought.price - sold.price == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        (321, [(OPTION.con_id, 1, "BUY", "")]),
        (321, [(OPTION.con_id, 0, "BUY", ""), (SHORT.con_id, 1, "SELL", "")]),
        (321, [(OPTION.con_id, 1, "HOLD", ""), (SHORT.con_id, 1, "SELL", "")]),
        (321, [(OPTION.con_id, 1, "BUY", ""), (OPTION.con_id, 1, "SELL", "")]),
        (200, [(OPTION.con_id, 1, "BUY", ""), (999, 1, "SELL", "")]),
    ],
)
def test_a_combination_that_cannot_be_is_refused(code: int, rows: list[Any]) -> None:
    with pytest.raises(RefusedError) as refused:
        spread(*rows)
    assert refused.value.code == code


# conditions


def test_a_price_condition_holds_an_order_back_until_it_is_met(broker: Broker) -> None:
    order = place(broker, [("1", "a", "1", "101.0", str(APPLE.con_id), "SMART", "0")])
    assert order
    broker.go()
    assert order.status is Status.PRE_SUBMITTED
    broker.price(101.2, 101.4)
    assert "1 BOT 100 @ 101.4" in broker.go()


def test_a_time_condition_is_a_moment_at_which_something_happens(broker: Broker) -> None:
    order = place(broker, [("3", "a", "1", "20261123 11:00:00 US/Eastern")])
    assert order
    assert broker.go()[-1] == "1 PreSubmitted 0"
    moment = eastern("2026-11-23 11:00")
    assert moment in broker.engine.deadlines(order, broker.at)
    broker.go(moment - broker.at)
    assert order.status is Status.FILLED


@pytest.mark.parametrize(("joining", "filled"), [("o", True), ("a", False)])
def test_conditions_are_joined(broker: Broker, joining: str, filled: bool) -> None:
    met = ("1", joining, "1", "99.0", str(APPLE.con_id), "SMART", "0")
    order = place(broker, [met, ("3", "a", "1", "20261124 11:00:00 US/Eastern")])
    assert order
    broker.go()
    assert (order.status is Status.FILLED) == filled


def test_a_condition_can_cancel(broker: Broker) -> None:
    order = place(
        broker,
        [("3", "a", "1", "20261123 11:00:00 US/Eastern")],
        orderType="LMT",
        lmtPrice=90,
        conditionsCancelOrder=1,
    )
    assert order
    assert broker.go()[-1] == "1 Submitted 0"
    broker.go(3600)
    assert order.status is Status.CANCELLED


@pytest.mark.parametrize(
    ("code", "row"),
    [
        (321, ("4", "a", "1", "30")),
        (321, ("1", "a", "1", "much", "265598", "SMART", "0")),
        (200, ("1", "a", "1", "100", "999", "SMART", "0")),
        (391, ("3", "a", "1", "soon")),
    ],
)
def test_a_condition_that_cannot_be_is_refused(code: int, row: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError) as refused:
        timing.read_conditions([row], numbered)
    assert refused.value.code == code


# pegs and market-to-limit


def test_midprice_trades_at_the_middle_within_its_cap(broker: Broker) -> None:
    broker.place(1, orderType="MIDPRICE", lmtPrice=99.5)
    assert broker.go()[-1] == "1 Submitted 0"
    broker.price(99.2, 99.6)
    assert "1 BOT 100 @ 99.4" in broker.go()


def test_pegged_to_the_middle_trades_there(broker: Broker) -> None:
    broker.place(1, action="SELL", orderType="PEG MID")
    assert "1 SLD 100 @ 100" in broker.go()


def test_relative_stays_beside_its_own_side_and_never_steps_back(broker: Broker) -> None:
    order = broker.place(1, orderType="REL", auxPrice=0.01, lmtPrice=101)
    assert order
    broker.go()
    assert order.peg == pytest.approx(100.0)
    broker.price(100.2, 100.3)
    broker.go()
    assert order.peg == pytest.approx(100.21)
    broker.price(99.9, 100.1)
    assert "1 BOT 100 @ 100.21" in broker.go()


def test_market_to_limit_rests_at_the_price_it_found(broker: Broker) -> None:
    broker.price(99.99, 100.01, size=40)
    order = broker.place(1, orderType="MTL")
    assert order
    broker.go()
    assert (order.filled, order.limit) == (40, 100.01)
    broker.price(100.5, 100.6)
    broker.go()
    assert (order.filled, order.remaining) == (40, 60)


# algorithms, money, sizes, attributes


def adaptive(priority: str, *more: tuple[str, str]) -> dict[str, Any]:
    return {"algoStrategy": "Adaptive", "algoParams": [("adaptivePriority", priority), *more]}


def refused(broker: Broker, contract: Contract = APPLE, **sent: Any) -> str:
    words = terms(**{name: value for name, value in sent.items() if name != "algoParams"})
    rows = {"algoParams": sent["algoParams"]} if "algoParams" in sent else {}
    words = replace(words, sent={**words.sent, **rows})
    broker.engine.place(1, 1, contract, words, broker.at)
    return broker.go()[0]


@pytest.mark.parametrize("priority", ["Urgent", "Normal", "Patient"])
def test_adaptive_is_taken_with_its_priority(broker: Broker, priority: str) -> None:
    assert refused(broker, **adaptive(priority)) == "1 PendingSubmit 0"


@pytest.mark.parametrize(
    ("code", "contract", "sent"),
    [
        (321, APPLE, adaptive("Soon")),
        (321, APPLE, adaptive("Normal", ("speed", "1"))),
        (321, APPLE, {"algoStrategy": "Adaptive"}),
        (321, APPLE, {"algoStrategy": "Twap"}),
        (321, APPLE, adaptive("Normal") | {"orderType": "STP", "auxPrice": 90}),
        (321, EURO, adaptive("Normal")),
        (321, APPLE, {"totalQuantity": 0.00005}),
        (321, APPLE, {"totalQuantity": 1.00005}),
        (321, APPLE, {"faGroup": "all"}),
        (321, APPLE, {"scalePriceIncrement": 0.1}),
        (321, APPLE, {"hedgeType": "D"}),
        (10244, APPLE, {"totalQuantity": 0, "cashQty": 1000}),
        (434, EURO, {"totalQuantity": 0}),
        (387, FUTURE, {"orderType": "MIDPRICE"}),
        (387, EURO, {"orderType": "MOC"}),
        (10052, OPTION, {"tif": "OPG"}),
    ],
)
def test_what_is_refused(
    broker: Broker, code: int, contract: Contract, sent: dict[str, Any]
) -> None:
    assert refused(broker, contract, **sent) == f"1 error {code}"


def test_money_buys_currency_at_the_price_of_the_moment(broker: Broker) -> None:
    broker.price(1.0999, 1.1, EURO)
    order = broker.place(1, EURO, totalQuantity=0, cashQty=11_000)
    assert order
    assert order.quantity == 10_000
    while not order.done:
        broker.go()
    assert order.filled == 10_000


def test_a_fraction_on_the_size_rule_is_taken(broker: Broker) -> None:
    assert refused(broker, totalQuantity=0.5) == "1 PendingSubmit 0"


def needed(kind: str) -> dict[str, Any]:
    """The fields that an order type cannot do without."""
    fields: dict[str, Any] = {"lmtPrice": 100} if "LMT" in kind or kind in {"LIT", "LOC"} else {}
    if kind.startswith(("STP", "TRAIL")) or kind in {"MIT", "LIT"}:
        fields["auxPrice"] = 1
    return fields


@pytest.mark.parametrize(
    ("contract", "kind"),
    [
        (contract, kind)
        for contract in (APPLE, OPTION, FUTURE, EURO)
        for kind in sorted({each for kinds in ORDER_TYPES.values() for each in kinds})
    ],
    ids=lambda value: value if isinstance(value, str) else value.sec_type,
)
def test_exactly_the_announced_order_types_are_taken(contract: Contract, kind: str) -> None:
    broker = Broker()
    said = refused(broker, contract, orderType=kind, totalQuantity=1, **needed(kind))
    taken = kind in ORDER_TYPES[contract.sec_type]
    assert said == ("1 PendingSubmit 0" if taken else "1 error 387")


# exercise and lapse


def instruct(
    broker: Broker, action: int, quantity: int = 1, *, override: bool = False
) -> list[str]:
    words = Instruction(action, quantity, "", override)
    broker.engine.exercise((1, 50), OPTION, APPLE, words, broker.at)
    return broker.diary.take()


@pytest.fixture
def holder(broker: Broker) -> Broker:
    broker.ledger.trade("DU1", OPTION, 2, 5.0, 0.0, broker.at)
    return broker


def test_exercise_delivers_at_the_strike_at_the_close(holder: Broker) -> None:
    holder.price(209.9, 210.1)
    assert instruct(holder, 1) == ["50 PendingSubmit 0", "50 PreSubmitted 0"]
    holder.go(3600)
    assert holder.ledger.accounts["DU1"].held(APPLE.con_id) == 0
    assert holder.go(6 * 3600) == ["50 Filled 1", "account DU1"]
    account = holder.ledger.accounts["DU1"]
    assert (account.held(OPTION.con_id), account.held(APPLE.con_id)) == (1, 100)
    assert account.positions[APPLE.con_id].average_cost == 200


def test_exercise_can_be_taken_back(holder: Broker) -> None:
    holder.price(209.9, 210.1)
    instruct(holder, 1)
    holder.engine.cancel(1, 50, holder.at)
    holder.go(7 * 3600)
    assert holder.ledger.accounts["DU1"].held(OPTION.con_id) == 2


def test_a_lapsed_option_is_gone_at_its_end(holder: Broker) -> None:
    instruct(holder, 2, 2)
    holder.go(86_400)
    assert holder.ledger.accounts["DU1"].held(OPTION.con_id) == 2
    holder.go(25 * 86_400)
    assert holder.ledger.accounts["DU1"].held(OPTION.con_id) == 0


@pytest.mark.parametrize(
    ("code", "action", "quantity", "override"),
    [
        (322, 1, 1, False),
        (322, 2, 3, False),
        (321, 3, 1, True),
        (321, 2, 0, True),
    ],
)
def test_an_instruction_that_cannot_be_is_refused(
    holder: Broker, code: int, action: int, quantity: int, override: bool
) -> None:
    assert instruct(holder, action, quantity, override=override) == [f"50 error {code}"]
