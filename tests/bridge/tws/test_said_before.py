"""An openOrder message that says what an earlier one said is not read again, and means the same."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bridge.model import OpenOrder
from bridge.tws.client import OPEN_ORDER, Codec, SaidBefore
from bridge.tws.connection_context import Target
from bridge.tws.session import TwsSession
from simulator.tws import order_fields
from tests.bridge.wound import WoundClock

VERSION = 176
VALUES = {
    "orderId": "11",
    "conId": "265598",
    "symbol": "AAPL",
    "secType": "STK",
    "exchange": "SMART",
    "currency": "USD",
    "localSymbol": "AAPL",
    "action": "BUY",
    "totalQuantity": "1",
    "orderType": "LMT",
    "lmtPrice": "180.5",
    "tif": "DAY",
    "account": "DU1234567",
    "orderRef": "gw-1",
    "clientId": "17",
    "permId": "900",
    "status": "PreSubmitted",
}


def payload(**values: str) -> bytes:
    fields = order_fields.write(order_fields.OPEN_ORDER, {**VALUES, **values}, VERSION)
    return b"5\0" + "\0".join(fields).encode() + b"\0"


class Listening:
    """A connection's codec, and what it told of orders."""

    def __init__(self) -> None:
        session = TwsSession(Target(), WoundClock())
        self.told: list[OpenOrder] = []
        session.events.open_order.listen(self.told.append)
        callbacks = session._callbacks(cast("Any", None))
        self.codec = Codec(lambda data: None, callbacks, version=VERSION, client_id=17)

    def hear(self, *messages: bytes) -> list[OpenOrder]:
        self.told.clear()
        for message in messages:
            self.codec.receive(message)
        return list(self.told)


def test_what_was_said_before_is_not_read_again() -> None:
    listening = Listening()
    first = listening.hear(payload())[0]
    assert (first.order_id, first.order.limit_price) == (11, 180.5)

    def read_again(fields: list[str]) -> None:
        raise AssertionError(fields)

    listening.codec._decoder.handlers[OPEN_ORDER] = read_again
    assert listening.hear(payload()) == [first]
    assert [each.state.status for each in listening.hear(payload(status="Submitted"))] == [
        "Submitted"
    ]
    assert listening.hear(payload()) == [first]


@pytest.mark.parametrize("ref", ["gw-1", "Submitted", "PreSubmitted"])
def test_a_change_of_any_field_is_heard_as_by_who_heard_nothing_before(ref: str) -> None:
    before = payload(orderRef=ref, status="Submitted")
    fields = before.split(b"\0")
    warm, fresh = Listening(), Listening()
    heard = 0
    for place in range(1, len(fields) - 1):
        for value in (b"7", b"0", b"", b"Filled", b"Submitted", b"Pre-9"):
            changed = b"\0".join([*fields[:place], value, *fields[place + 1 :]])
            fresh.codec._said_before = SaidBefore()
            warm.hear(before)
            there, expected = warm.hear(changed), fresh.hear(changed)
            assert repr(there) == repr(expected), (place, value)
            heard += len(there)
    assert heard > len(fields)


def test_orders_keep_to_themselves() -> None:
    listening = Listening()
    one, other = payload(), payload(orderId="12", lmtPrice="99.0")
    heard = listening.hear(one, other, one, other)
    assert [(each.order_id, each.order.limit_price) for each in heard] == [
        (11, 180.5),
        (12, 99.0),
    ] * 2


def test_what_is_kept_stays_small_and_a_question_is_not_kept() -> None:
    listening = Listening()
    for number in range(1000):
        listening.hear(payload(orderId=str(number)))
    assert len(listening.codec._said_before._kept) == 64
    listening = Listening()
    listening.hear(payload(whatIf="1"), payload(whatIf="1"))
    assert not listening.codec._said_before._kept
