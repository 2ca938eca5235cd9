"""A wrong value is told its place, the right values, and a guess."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridge.api.reading import _all_problems
from bridge.orders.request import OcaRequest, OrderRequest

GOOD: dict[str, Any] = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}


def problems(kind: type[msgspec.Struct], body: dict[str, Any]) -> list[tuple[str, str]]:
    found = _all_problems(msgspec.json.encode(body), kind)
    return [(each["field"], each["message"]) for each in found]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"action": "buy"}, "action", "'buy' is none of BUY, SELL; did you mean BUY?"),
        (
            {"orderType": "STP LMT"},
            "orderType",
            "'STP LMT' is none of {orderTypes}; did you mean STP_LMT?",
        ),
        ({"right": "call"}, "right", "'call' is none of C, P"),
        ({"limitprice": 3}, "limitprice", "is not a member of this body; did you mean limitPrice?"),
        ({"qqqq": 3}, "qqqq", "is not a member of this body"),
        (
            {"bracket": {"stopLos": {"stopPrice": 3}}},
            "bracket",
            "has no member 'stopLos'; did you mean stopLoss?",
        ),
        (
            {"bracket": {"stopLoss": {"stopPrice": "3"}}},
            "bracket.stopLoss.stopPrice",
            "Expected `float | null`, got `str`",
        ),
    ],
)
def test_one_order(change: dict[str, Any], field: str, message: str) -> None:
    words = ", ".join(sorted(OrderRequest.__annotations__ and _order_types()))
    expected = message.replace("{orderTypes}", words)
    assert problems(OrderRequest, {**GOOD, **change}) == [(field, expected)]


def _order_types() -> list[str]:
    from typing import get_args

    from bridge.orders.order_types import OrderType

    return list(get_args(OrderType))


def test_inside_a_list() -> None:
    body = {"orders": [GOOD, {**GOOD, "action": "SEL"}]}
    [(field, message)] = problems(OcaRequest, body)
    assert field == "orders[1].action"
    assert message == "'SEL' is none of BUY, SELL; did you mean SELL?"
