"""A message of an order or a fill that says what an earlier one said is not read again."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bridge.model import Execution, OpenOrder
from bridge.tws.client import EXECUTION, OPEN_ORDER, Codec, Readings
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

    def __init__(self, readings: Readings | None = None) -> None:
        session = TwsSession(Target(), WoundClock())
        self.told: list[OpenOrder] = []
        self.fills: list[Execution] = []
        session.events.open_order.listen(self.told.append)
        session.events.execution.listen(self.fills.append)
        callbacks = session._callbacks(cast("Any", None))
        self.codec = Codec(
            lambda data: None, callbacks, version=VERSION, client_id=17, readings=readings
        )

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
            fresh.codec._readings = Readings()
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
    assert len(listening.codec._readings.orders._kept) == 512
    listening = Listening()
    listening.hear(payload(whatIf="1"), payload(whatIf="1"))
    assert not listening.codec._readings.orders._kept


# fills --------------------------------------------------------------------------------------------
FILL = (
    b"11|-1|11|265598|AAPL|STK||0.0|||NASDAQ|USD|AAPL|NMS|0000e0d5.1|20260302-14:30:00|DU1234567"
    b"|NASDAQ|BOT|1|180.5|900|17|0|1|180.5|gw-1||||1|"
).replace(b"|", b"\0")


def asked_for(fill: bytes, request: int) -> bytes:
    """The same in the answer to a request."""
    return fill.replace(b"11\x00-1\x00", b"11\x00%d\x00" % request, 1)


def heard(listening: Listening, *messages: bytes) -> list[Execution]:
    listening.fills.clear()
    for message in messages:
        listening.codec.receive(message)
    return list(listening.fills)


def unread(listening: Listening) -> None:
    """From here on nothing may be read."""

    def read_again(fields: list[str]) -> None:
        raise AssertionError(fields)

    for number in (OPEN_ORDER, EXECUTION):
        listening.codec._decoder.handlers[number] = read_again


def test_a_fill_of_before_is_not_read_again_and_answers_the_request() -> None:
    listening = Listening()
    (fill,) = heard(listening, FILL)
    assert (fill.exec_id, fill.price, fill.time_known) == ("0000e0d5.1", 180.5, True)
    unread(listening)
    asked: list[tuple[int, object]] = []
    requests = listening.codec._callbacks._requests
    requests.add = lambda number, one: asked.append((number, one))
    assert heard(listening, asked_for(FILL, 9), FILL) == [fill, fill]
    assert asked == [(9, fill), (-1, fill)]


def test_what_was_read_outlives_the_connection_to_a_gateway_of_one_version() -> None:
    readings = Readings()
    readings.begin(VERSION, Target())
    first = Listening(readings)
    (fill,), (order,) = heard(first, FILL), first.hear(payload())
    readings.begin(VERSION, Target())
    second = Listening(readings)
    unread(second)
    assert heard(second, asked_for(FILL, 3)) == [fill]
    assert second.hear(payload()) == [order]
    readings.begin(VERSION + 1, Target())
    assert not readings.fills._kept
    assert not readings.orders._kept


def test_a_change_of_any_field_of_a_fill_is_heard() -> None:
    fields = FILL.split(b"\0")
    warm, fresh = Listening(), Listening()
    for place in range(1, len(fields) - 1):
        for value in (b"7", b"", b"-1", b"x", b"7.5"):
            changed = b"\0".join([*fields[:place], value, *fields[place + 1 :]])
            fresh.codec._readings = Readings()
            heard(warm, FILL)
            there, expected = heard(warm, changed), heard(fresh, changed)
            assert repr(there) == repr(expected), (place, value)


def test_a_fill_that_is_not_taken_is_not_kept_and_what_is_kept_stays_small() -> None:
    listening = Listening()
    assert not heard(listening, FILL.replace(b"180.5", b"nan"))
    assert not listening.codec._readings.fills._kept
    for number in range(3000):
        heard(listening, FILL.replace(b"d5.1", b"%d" % number))
    assert len(listening.codec._readings.fills._kept) == 2048
    assert heard(listening, b"11\0", b"11", b"11\0x\0") == []
