"""What an order's fields may not be together: exactly this is said of each, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.market.contracts import contract_of
from bridge.orders.contradictions import contradictions, number_problem, text_problem
from bridge.orders.request import (
    Algo,
    Bracket,
    ComboLegRequest,
    Condition,
    OrderRequest,
    StopLoss,
    TakeProfit,
)


def _request(**changes: Any) -> OrderRequest:
    fields: dict[str, Any] = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "order_type": "MKT"}
    return OrderRequest(**(fields | changes))


def said(**changes: Any) -> list[str]:
    """Each violation as `code field`."""
    return [f"{each.code} {each.field}" for each in contradictions(_request(**changes))]


def limit(price: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"order_type": "LMT", "limit_price": price, **more}


def invalid(*fields: str) -> list[str]:
    return [f"invalid-field {field}" for field in fields]


def missing(*fields: str) -> list[str]:
    return [f"missing-field {field}" for field in fields]


def unexpected(*fields: str) -> list[str]:
    return [f"unexpected-field {field}" for field in fields]


TRAIL: dict[str, Any] = {"order_type": "TRAIL", "trail_amount": 1.0}
CASH: dict[str, Any] = {
    "symbol": "EUR",
    "sec_type": "CASH",
    "quantity": None,
    "cash_quantity": 500.0,
}
PUT: dict[str, Any] = {
    "sec_type": "OPT",
    "strike": 200.0,
    "right": "P",
    "expiration": "20260619",
}
CALL = {
    "sec_type": "OPT",
    "symbol": "AAPL",
    "strike": 1.0,
    "right": "C",
    "expiration": "20260619",
}


def combo(*legs: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = tuple(ComboLegRequest(**{"action": "BUY", **CALL, **each}) for each in legs)
    return {**limit(), "sec_type": "BAG", "legs": found, **more}


@pytest.mark.parametrize(
    ("value", "positive", "problem"),
    [
        (1e12, True, None),
        (1.1e12, True, "must be at most 1e+12"),
        (-1e12, False, None),
        (-1.1e12, False, "must be at most 1e+12"),
        (0.0, True, "must be more than 0"),
        (0.0, False, None),
        (-0.5, True, "must be more than 0"),
        (0.5, True, None),
        (float("nan"), False, "must be a finite number"),
        (float("-inf"), True, "must be a finite number"),
    ],
)
def test_numbers(value: float, positive: bool, problem: str | None) -> None:
    assert number_problem(value, positive=positive) == problem


def test_multipliers_are_written_without_an_exponent() -> None:
    for named, text in ((1e6, "1000000"), (2_500_000, "2500000"), (0.1, "0.1"), ("1E2", "1E2")):
        assert contract_of(_request(multiplier=named)).multiplier == text
    assert said(multiplier=10**400) == invalid("multiplier")


def test_texts() -> None:
    assert text_problem("x" * 64) is None
    assert text_problem("x" * 65) == "must have at most 64 characters"
    assert text_problem("a\tb") == "must have printable characters only"
    for name, field in (("primary_exchange", "primaryExchange"), ("trading_class", "tradingClass")):
        assert said(**{name: "a\0b"}) == invalid(field)
    assert said(label="spx\n") == invalid("label")
    assert said(label="s" * 64) == []
    assert said(symbol="x" * 32) == []
    assert said(symbol="x" * 33) == invalid("symbol")
    assert said(good_till_date="x\n", tif="GTD") == invalid("goodTillDate")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"quantity": None}, missing("quantity")),
        ({"con_id": 2**31 - 1}, []),
        ({"con_id": 2**31}, invalid("conId")),
        # prices of the type
        (limit(stop_price=2.0), unexpected("stopPrice")),
        ({"order_type": "STP", "stop_price": 2.0}, []),
        ({"order_type": "STP"}, missing("stopPrice")),
        ({"order_type": "STP", "stop_price": 0.0}, invalid("stopPrice")),
        ({"order_type": "REL"}, []),
        ({"order_type": "REL", "limit_price": 5.0, "limit_offset": 0.1}, []),
        ({"order_type": "MIDPRICE", "limit_offset": 0.1}, unexpected("limitOffset")),
        ({"trail_amount": 1.0}, unexpected("trailAmount")),
        ({"trail_percent": 1.0}, unexpected("trailPercent")),
        ({"trail_stop_price": 1.0}, unexpected("trailStopPrice")),
        (TRAIL, []),
        ({**TRAIL, "trail_stop_price": 9.0}, []),
        ({"order_type": "TRAIL"}, missing("trailAmount")),
        ({**TRAIL, "trail_percent": 2.0}, unexpected("trailPercent")),
        ({"order_type": "TRAIL", "trail_percent": 99.9}, []),
        ({"order_type": "TRAIL", "trail_percent": 100.0}, invalid("trailPercent")),
        ({"order_type": "TRAIL", "trail_amount": 100.0}, []),
        ({"order_type": "TRAIL", "trail_amount": 0.0}, invalid("trailAmount")),
        ({**TRAIL, "order_type": "TRAIL_LMT"}, missing("limitOffset")),
        ({**TRAIL, "order_type": "TRAIL_LMT", "limit_offset": 0.0}, []),
        ({**TRAIL, "order_type": "TRAIL_LMT", "limit_offset": 0.5}, []),
        ({**TRAIL, "order_type": "TRAIL_LMT", "limit_offset": -0.5}, invalid("limitOffset")),
        # negative prices
        (limit(-1.0), invalid("limitPrice")),
        (limit(-1.0, con_id=7), []),
        (limit(-1.0, sec_type="FUT", con_id=7), []),
        (limit(-1.0, sec_type="CASH"), invalid("limitPrice")),
        (limit(1.0, sec_type="FUT", con_id=7, quantity=-1), invalid("quantity")),
        (limit(1.0, con_id=7, strike=-5.0), invalid("strike")),
        # an amount of money
        (CASH, []),
        ({**CASH, "quantity": 5.0}, unexpected("quantity")),
        ({**CASH, "cash_quantity": 0.0}, invalid("cashQuantity")),
        ({**CASH, **limit()}, []),
        ({**CASH, "order_type": "STP", "stop_price": 1.0}, invalid("orderType")),
        ({**CASH, "sec_type": None}, ["cash-quantity-not-supported cashQuantity"]),
        ({**CASH, "sec_type": None, "con_id": 7}, []),
        (
            {**CASH, "bracket": Bracket(stop_loss=StopLoss(stop_price=1.0))},
            unexpected("bracket"),
        ),
        # options and futures
        (PUT, []),
        ({**PUT, "sec_type": "FOP"}, []),
        ({**PUT, "strike": None}, missing("strike")),
        ({**PUT, "right": None}, missing("right")),
        ({**PUT, "expiration": ""}, missing("expiration")),
        ({"right": "C"}, unexpected("right")),
        ({"expiration": "20260619"}, unexpected("expiration")),
        ({"sec_type": "FUT", "expiration": "202606"}, []),
        ({"sec_type": "FUT", "expiration": "20260619"}, []),
        ({"sec_type": "FUT"}, missing("expiration")),
        ({**PUT, "expiration": "202606"}, invalid("expiration")),
        ({**PUT, "expiration": "20261301"}, invalid("expiration")),
        ({**PUT, "expiration": "20260230"}, invalid("expiration")),
        ({**PUT, "expiration": "20280229"}, []),
        ({**PUT, "expiration": "\u0662\u0660" * 4}, invalid("expiration")),
        ({"sec_type": "FUT", "expiration": "\u0662" * 6}, invalid("expiration")),
        ({**PUT, "expiration": "202606190"}, invalid("expiration")),
        ({"con_id": 7, "sec_type": "OPT"}, []),
        # how long
        ({"good_till_date": "20260619 16:00:00"}, unexpected("goodTillDate")),
        ({"good_after_time": "20260619 16:00:00"}, []),
        ({"good_after_time": "20260619-16:00:00"}, []),
        ({"good_after_time": "20260619 16:00:00 US/Eastern"}, []),
        ({"good_after_time": "16:00"}, invalid("goodAfterTime")),
        ({"good_after_time": "99999999 99:99:99"}, invalid("goodAfterTime")),
        ({"good_after_time": "20260619 24:00:00"}, invalid("goodAfterTime")),
        ({"good_after_time": "20260619 16:00:00 a\0b"}, invalid("goodAfterTime")),
        ({"good_after_time": "\u0662" * 8 + " 16:00:00"}, invalid("goodAfterTime")),
        ({"tif": "GTD", "good_till_date": "20260619 16:00:00 US/Eastern"}, []),
        ({"tif": "GTD", "good_till_date": "20260619-16:00:00"}, []),
        ({"tif": "GTD", "good_till_date": "20260619"}, []),
        ({"tif": "GTD", "good_till_date": "20260631"}, invalid("goodTillDate")),
        ({"tif": "GTD", "good_till_date": "tomorrow"}, invalid("goodTillDate")),
        ({"tif": "GTD", "good_till_date": "20260619 25:00:00"}, invalid("goodTillDate")),
        ({"order_type": "MOC"}, []),
        ({"order_type": "MOC", "tif": "GTC"}, invalid("tif")),
        (limit(order_type="LOC", tif="IOC"), invalid("tif")),
        ({"tif": "OPG"}, []),
        (limit(tif="OPG"), []),
        ({"order_type": "STP", "stop_price": 1.0, "tif": "OPG"}, invalid("tif")),
        # the night
        (limit(exchange="overnight "), []),
        ({"exchange": "OVERNIGHT"}, invalid("orderType")),
        (limit(exchange="OVERNIGHT", tif="GTC"), invalid("tif")),
        (limit(exchange="OVERNIGHT", sec_type="CASH"), invalid("secType")),
        (limit(exchange="OVERNIGHT", con_id=7), []),
        (limit(exchange="OVERNIGHT", sec_type="STK"), []),
        # the algorithm
        ({"algo": Algo(strategy="Adaptive")}, []),
        (limit(algo=Algo(strategy="Adaptive")), []),
        ({"algo": Algo(strategy="Twap")}, ["algo-not-supported algo.strategy"]),
        ({"algo": Algo(strategy="Zeta")}, ["algo-not-supported algo.strategy"]),
        ({"algo": Algo(strategy="Adaptive"), **TRAIL}, invalid("orderType")),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], found: list[str]) -> None:
    assert said(**changes) == found


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ({"symbol": "SPY", "above": 5.0}, ""),
        ({"con_id": 7, "below": -5.0}, ""),
        ({"con_id": 2**31 - 1, "above": 0.0}, ""),
        ({"con_id": 2**31, "above": 5.0}, "needs the instrument"),
        ({"con_id": -1, "above": 5.0}, "needs the instrument"),
        ({"above": 5.0}, "needs the instrument"),
        ({"symbol": " ", "above": 5.0}, "needs the instrument"),
        ({"symbol": "SPY"}, "needs exactly one"),
        ({"symbol": "SPY", "above": 5.0, "below": 6.0}, "needs exactly one"),
        ({"symbol": "SPY", "above": 5.0, "after": "20260619 16:00:00"}, "needs exactly one"),
        ({"symbol": "SPY", "above": float("nan")}, "must be a finite number"),
        ({"symbol": "SPY", "below": 1e13}, "must be at most"),
        ({"symbol": "S\0", "above": 5.0}, "must have printable characters"),
        ({"symbol": "S", "exchange": "x\0", "above": 5.0}, "must have printable characters"),
        ({"symbol": "S", "currency": "x" * 65, "above": 5.0}, "must have at most 64"),
        ({"after": "20260619 16:00:00"}, ""),
        ({"before": "20260619-16:00:00"}, ""),
        ({"after": "16:00"}, "must be a time as"),
        ({"before": "16:00"}, "must be a time as"),
        ({"after": "20260619 16:00:00", "symbol": "SPY"}, "is about the time"),
        ({"after": "20260619 16:00:00", "con_id": 7}, "is about the time"),
    ],
)
def test_a_condition(condition: dict[str, Any], problem: str) -> None:
    conditions = (Condition(symbol="SPY", above=1.0), Condition(**condition))
    found = contradictions(_request(conditions=conditions))
    assert [each.field for each in found] == (["conditions[1]"] if problem else [])
    assert all(each.message.startswith(f"conditions[1] {problem}") for each in found)


@pytest.mark.parametrize("count", [10, 11])
def test_how_many_conditions(count: int) -> None:
    many = (Condition(symbol="SPY", above=1.0),) * count
    assert said(conditions=many) == ([] if count == 10 else invalid("conditions"))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (combo({}, {"strike": 2.0}), []),
        (combo({}, {}, {}, {}), []),
        (combo({}), invalid("legs")),
        (combo({}, {}, {}, {}, {}), invalid("legs")),
        (combo({}, {}, limit_price=-1.0), []),
        (combo({}, {}, con_id=7), unexpected("conId")),
        (combo({}, {}, order_type="MKT", limit_price=None), []),
        (combo({}, {}, order_type="STP", limit_price=None, stop_price=1.0), invalid("orderType")),
        (
            combo({}, {}, bracket=Bracket(take_profit=TakeProfit(limit_price=2.0))),
            unexpected("bracket"),
        ),
        (combo({}, {}, sec_type="STK"), unexpected("legs")),
        (combo({}, {}, sec_type=None, con_id=7), unexpected("legs")),
        (combo(sec_type="STK", non_guaranteed=True), unexpected("nonGuaranteed")),
        (combo({}, {}, non_guaranteed=True), []),
        (combo({}, {"symbol": ""}), invalid("legs[1]")),
        (combo({}, {"symbol": "", "con_id": 7}), []),
        (combo({}, {"symbol": " ", "con_id": 2**31 - 1}), []),
        (combo({}, {"symbol": "", "con_id": 2**31}), invalid("legs[1]")),
        (combo({}, {"symbol": "", "con_id": -1}), invalid("legs[1]")),
        (combo({"strike": None}, {}), invalid("legs[0]")),
        (combo({"right": None}, {}), invalid("legs[0]")),
        (combo({"strike": None, "right": None, "con_id": 7}, {}), []),
        (combo({"sec_type": "FOP", "strike": None}, {}), invalid("legs[0]")),
        (combo({"expiration": ""}, {}), invalid("legs[0]")),
        (combo({"expiration": "", "con_id": 7}, {}), []),
        (combo({"sec_type": "FUT", "expiration": ""}, {}), invalid("legs[0]")),
        (combo({"sec_type": "STK", "expiration": "", "strike": None, "right": None}, {}), []),
        (combo({"strike": 0.0}, {}), invalid("legs[0]")),
        (combo({"trading_class": "x\0"}, {"exchange": "y\0"}), invalid("legs[0]", "legs[1]")),
        (combo({"multiplier": 10**400}, {"multiplier": "1\0"}), invalid("legs[0]", "legs[1]")),
        (combo({"multiplier": 100}, {"multiplier": "100"}), []),
        (combo({"symbol": "S\0"}, {"currency": "y\0"}), invalid("legs[0]", "legs[1]")),
    ],
)
def test_a_combination(changes: dict[str, Any], found: list[str]) -> None:
    assert said(**changes) == found


def bracket(
    gain: float | None = None, price: float | None = 90.0, **stop: Any
) -> dict[str, Bracket]:
    profit = None if gain is None else TakeProfit(limit_price=gain)
    has_stop = price is not None or stop
    loss = StopLoss(stop_price=price, **stop) if has_stop else None
    return {"bracket": Bracket(take_profit=profit, stop_loss=loss)}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({**limit(100.0), **bracket()}, []),
        ({**limit(100.0), **bracket(110.0, None)}, []),
        ({**limit(100.0), **bracket(100.0, None)}, invalid("bracket.takeProfit")),
        ({**limit(100.0), **bracket(110.0, 100.0)}, invalid("bracket.stopLoss")),
        (
            {"order_type": "STP", "stop_price": 100.0, **bracket(99.0)},
            invalid("bracket.takeProfit"),
        ),
        (
            {**limit(100.0, order_type="STP_LMT", stop_price=120.0), **bracket(110.0)},
            [],
        ),
        (
            {**limit(105.0, order_type="STP_LMT", stop_price=100.0), **bracket(110.0, 100.0)},
            invalid("bracket.stopLoss"),
        ),
        (
            {**limit(105.0, order_type="LIT", stop_price=100.0), **bracket(110.0, 103.0)},
            invalid("bracket.stopLoss"),
        ),
        (
            {**limit(105.0, order_type="STP_LMT", stop_price=100.0), **bracket(110.0, 99.0)},
            [],
        ),
        (bracket(95.0), []),
        (bracket(90.0), invalid("bracket.takeProfit")),
        ({"action": "SELL", **bracket(80.0)}, []),
        ({"action": "SELL", **bracket(95.0)}, invalid("bracket.takeProfit")),
        (bracket(-5.0), invalid("bracket.takeProfit.limitPrice")),
        (
            {"con_id": 7, **bracket(-5.0, -8.0)},
            [],
        ),
        (bracket(95.0, float("nan")), invalid("bracket.stopLoss.stopPrice")),
        (bracket(95.0, limit_price=0.0), invalid("bracket.stopLoss.limitPrice")),
        (bracket(95.0, limit_price=89.0), []),
        (bracket(None, None, limit_price=89.0), missing("bracket.stopLoss.stopPrice")),
        (bracket(None, limit_offset=1.0), unexpected("bracket.stopLoss.limitOffset")),
        (bracket(None, None, trail_amount=1.0), []),
        (bracket(None, None, trail_percent=1.0, limit_offset=0.0), []),
        (
            bracket(None, None, trail_percent=1.0, trail_amount=1.0),
            unexpected("trailPercent"),
        ),
        (
            bracket(None, None, trail_percent=1.0, limit_price=1.0),
            unexpected("bracket.stopLoss.limitPrice"),
        ),
        (bracket(None, None, trail_percent=100.0), invalid("bracket.stopLoss.trailPercent")),
        (bracket(None, None, trail_amount=0.0), invalid("bracket.stopLoss.trailAmount")),
        (
            bracket(None, None, trail_amount=1.0, limit_offset=-1.0),
            invalid("bracket.stopLoss.limitOffset"),
        ),
        ({"tif": "OPG", **bracket()}, invalid("tif")),
        ({"tif": "IOC", **bracket()}, invalid("tif")),
        ({"tif": "FOK", **bracket()}, invalid("tif")),
        ({"tif": "GTC", **bracket()}, []),
        ({"oca_group": "mine", **bracket()}, unexpected("ocaGroup")),
    ],
)
def test_a_bracket(changes: dict[str, Any], found: list[str]) -> None:
    assert said(**changes) == found


def test_the_words_say_what_is_so() -> None:
    def words(**changes: Any) -> list[str]:
        return [each.message for each in contradictions(_request(**changes))]

    assert words(order_type="LMT") == ["orderType LMT needs limitPrice"]
    assert words(limit_price=1.0) == ["orderType MKT takes no limitPrice"]
    assert words(strike=1.0) == ["secType STK takes no strike"]
    assert words(tif="GTD") == ["tif GTD needs goodTillDate"]
    assert words(con_id=7, non_guaranteed=False) == ["secType by conId takes no nonGuaranteed"]
    assert words(**limit(100.0), **bracket(90.0)) == [
        "bracket.takeProfit must be above the entry price 100"
    ]
    assert words(action="SELL", **limit(100.0), **bracket(None, 90.0)) == [
        "bracket.stopLoss must be above the entry price 100"
    ]
    assert words(action="SELL", **bracket(95.0)) == ["bracket.takeProfit must be below the stop 90"]
    assert words(algo=Algo(strategy="x" * 99))[0] == (
        f"the algorithm '{'x' * 64}' is not supported: Adaptive is"
    )
