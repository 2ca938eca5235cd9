"""What an entry of the audit log says of a request."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from bridge.api.dispatch import recorded_detail
from bridge.api.orders import HaltBody
from bridge.auditing import _said, left_at_nothing
from bridge.orders.close import CloseRequest
from bridge.orders.request import ChangeRequest
from bridge.orders.target import TargetRequest


@pytest.mark.parametrize(
    ("said", "members"),
    [
        (TargetRequest(symbol="AAPL", target_quantity=0), {"symbol", "targetQuantity"}),
        (ChangeRequest(limit_price=0.0), {"limitPrice"}),
        (ChangeRequest(outside_rth=False), {"outsideRth"}),
        (CloseRequest(con_id=7), {"conId"}),
        (HaltBody(cancel_open_orders=False), {"cancelOpenOrders"}),
        (HaltBody(), set()),
    ],
)
def test_a_nought_that_was_said_is_written_down(said: Struct, members: set[str]) -> None:
    always = {"orderType", "tif"}
    assert set(_said(said)) - always == members
    assert set(recorded_detail(tuple(members | always), said)) - always == members


def test_what_is_no_request_is_told_without_noughts() -> None:
    detail: dict[str, Any] = {"reason": "", "cancel": "none", "allowClosing": False, "count": 0}
    assert _said(detail) == {"cancel": "none"}
    assert _said(None) == {}


def test_names_are_those_of_the_outside() -> None:
    unsaid = left_at_nothing(TargetRequest(symbol="AAPL", target_quantity=0))
    assert {"cancelOrders", "limitPrice", "conId", "label"} <= unsaid
    assert not {"symbol", "targetQuantity", "orderType"} & unsaid
