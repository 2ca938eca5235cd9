from typing import Any

import pytest

from bridge.orders.contradictions import contradictions
from bridge.orders.request import Bracket, OrderRequest, StopLoss, TakeProfit


def _request(**changes: Any) -> OrderRequest:
    fields: dict[str, Any] = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "order_type": "MKT"}
    return OrderRequest(**(fields | changes))


OPTION = {"sec_type": "OPT", "strike": 200.0, "right": "C", "expiration": "20260619"}


@pytest.mark.parametrize(
    "request_",
    [
        _request(),
        _request(order_type="LMT", limit_price=1.0),
        _request(order_type="STP_LMT", limit_price=1.0, stop_price=2.0),
        _request(order_type="LMT", limit_price=1.0, **OPTION),
        _request(order_type="LMT", limit_price=-37.5, sec_type="FUT", expiration="202606"),
        _request(order_type="LMT", limit_price=1.0, sec_type="OPT", con_id=12345),
        _request(tif="GTD", good_till_date="20260619 16:00:00"),
    ],
)
def test_sound_requests(request_: OrderRequest) -> None:
    assert contradictions(request_) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"quantity": 0}, {("invalid-field", "quantity")}),
        ({"quantity": float("nan")}, {("invalid-field", "quantity")}),
        ({"quantity": float("inf")}, {("invalid-field", "quantity")}),
        ({"symbol": " "}, {("invalid-field", "symbol")}),
        ({"order_type": "LMT"}, {("missing-field", "limitPrice")}),
        ({"limit_price": 5.0}, {("unexpected-field", "limitPrice")}),
        ({"order_type": "LMT", "limit_price": -1.0}, {("invalid-field", "limitPrice")}),
        (
            {"order_type": "STP_LMT"},
            {("missing-field", "limitPrice"), ("missing-field", "stopPrice")},
        ),
        (
            {"sec_type": "OPT"},
            {
                ("missing-field", "strike"),
                ("missing-field", "right"),
                ("missing-field", "expiration"),
            },
        ),
        ({"strike": 5.0}, {("unexpected-field", "strike")}),
        (OPTION | {"expiration": "20260231"}, {("invalid-field", "expiration")}),
        (OPTION | {"expiration": "2026-06-19"}, {("invalid-field", "expiration")}),
        ({"tif": "GTD"}, {("missing-field", "goodTillDate")}),
        ({"bracket": Bracket()}, {("invalid-field", "bracket")}),
        (
            {"oca_group": "mine", "bracket": Bracket(stop_loss=StopLoss(stop_price=9.0))},
            {("unexpected-field", "ocaGroup")},
        ),
        ({"quantity": 1e30}, {("invalid-field", "quantity")}),
        ({"order_type": "LMT", "limit_price": 1e308}, {("invalid-field", "limitPrice")}),
        ({"con_id": -1}, {("invalid-field", "conId")}),
        ({"con_id": 2**63}, {("invalid-field", "conId")}),
        ({"symbol": "AA\0PL"}, {("invalid-field", "symbol")}),
        ({"oca_group": "mine\0U999"}, {("invalid-field", "ocaGroup")}),
        ({"account": "x" * 65}, {("invalid-field", "account")}),
        ({"exchange": "SMART\n"}, {("invalid-field", "exchange")}),
        ({"multiplier": "100\0"}, {("invalid-field", "multiplier")}),
        (
            {"bracket": Bracket(stop_loss=StopLoss(stop_price=9.0, limit_price=-1.0))},
            {("invalid-field", "bracket.stopLoss.limitPrice")},
        ),
        (
            {
                "bracket": Bracket(
                    take_profit=TakeProfit(limit_price=9.0), stop_loss=StopLoss(stop_price=10.0)
                )
            },
            {("invalid-field", "bracket.takeProfit")},
        ),
    ],
)
def test_contradictions(changes: dict[str, Any], found: set[tuple[str, str]]) -> None:
    assert {(each.code, each.field) for each in contradictions(_request(**changes))} >= found


def test_everything_wrong_is_said_at_once() -> None:
    found = contradictions(_request(symbol="", quantity=-1, order_type="LMT", sec_type="OPT"))
    assert {each.field for each in found} == {
        "symbol",
        "quantity",
        "limitPrice",
        "strike",
        "right",
        "expiration",
    }


@pytest.mark.parametrize(
    ("action", "gain", "loss", "wrong"),
    [
        ("BUY", 110.0, 90.0, set()),
        ("SELL", 90.0, 110.0, set()),
        ("BUY", 95.0, 90.0, {"bracket.takeProfit"}),
        ("SELL", 110.0, 90.0, {"bracket.takeProfit", "bracket.stopLoss"}),
    ],
)
def test_a_bracket_lies_around_its_entry(
    action: str, gain: float, loss: float, wrong: set[str]
) -> None:
    bracket = Bracket(take_profit=TakeProfit(limit_price=gain), stop_loss=StopLoss(stop_price=loss))
    found = contradictions(
        _request(action=action, order_type="LMT", limit_price=100.0, bracket=bracket)
    )
    assert {each.field for each in found} == wrong
