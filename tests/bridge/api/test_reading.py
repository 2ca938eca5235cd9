"""A wrong value is told its place, the right values, and a guess."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from bridge.api.orders import OrderParams
from bridge.api.page import AssetParams
from bridge.api.problems import BodyTooSlowError, response
from bridge.api.reading import MOST_UNKNOWN, ParamsReader, _all_problems, guess, read_body
from bridge.errors import InvalidRequestError
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


def test_an_answer_names_a_few_of_many_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no key may send thousands to the open routes: each name costs a guess."""
    guessed: list[str] = []

    def counted(given: str, words: Iterable[str]) -> str:
        guessed.append(given)
        return guess(given, words)

    monkeypatch.setattr("bridge.api.reading.guess", counted)
    query = "&".join(f"x{number}=" for number in range(200)).encode()
    scope = {"type": "http", "query_string": query, "headers": [], "path_params": {"name": "page"}}
    with pytest.raises(InvalidRequestError) as refused:
        ParamsReader(AssetParams, {}).read(Request(scope))
    assert len(refused.value.extra["errors"]) == len(guessed) == MOST_UNKNOWN
    more = {**scope, "query_string": query * 30}
    with pytest.raises(InvalidRequestError, match="query: has more than 250 parameters"):
        ParamsReader(AssetParams, {}).read(Request(more))
    found = problems(OrderRequest, {**GOOD, **{f"x{number}": 1 for number in range(5000)}})
    assert len(found) == MOST_UNKNOWN


def test_what_the_path_says_is_not_said_again() -> None:
    """Of two orders one would be cancelled, and nobody could say which was meant."""
    path = {"id": "o1"}
    scope = {"type": "http", "query_string": b"id=o2", "headers": [], "path_params": path}
    with pytest.raises(InvalidRequestError, match="is in the path already"):
        ParamsReader(OrderParams, {}).read(Request(scope))
    assert ParamsReader(OrderParams, {}).read(Request(scope | {"query_string": b""})).id == "o1"


def test_a_near_word_is_looked_for_only_where_there_may_be_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("difflib.get_close_matches", lambda *_: pytest.fail("it was looked for"))
    assert guess("x" * 100_000, ["quantity"]) == ""


async def test_a_body_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place among the pending requests is another's then, and its connection is closed."""
    monkeypatch.setattr("bridge.api.reading.BODY_SECONDS", 0.0)
    parts = [{"type": "http.request", "body": b'{"symbol"', "more_body": True}]

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.Event().wait()

    scope = {"type": "http", "headers": [], "method": "POST", "path": "/order"}
    with pytest.raises(BodyTooSlowError) as caught:
        await read_body(Request(scope, receive), OrderRequest)
    answer = response(caught.value, "request-1")
    assert (answer.status_code, answer.headers["Connection"]) == (422, "close")
