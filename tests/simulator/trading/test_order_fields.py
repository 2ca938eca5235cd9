"""The tables of order fields: what is written can be read again, at every version."""

from __future__ import annotations

import pytest

from simulator.trading.terms import Values
from simulator.tws.order_fields import (
    COMPLETED_ORDER,
    OPEN_ORDER,
    PLACE_ORDER,
    Step,
    given,
    read,
    write,
)
from simulator.tws.wire import MalformedError, Reader

RICH: Values = {
    "orderId": "7",
    "symbol": "AAPL",
    "secType": "BAG",
    "exchange": "IBKRATS",
    "orderType": "PEG BEST",
    "competeAgainstBestOffset": "Infinity",
    "midOffsetAtWhole": "0.5",
    "minTradeQty": "3",
    "comboLegs": [("1", "1", "BUY", "SMART", "0", "0", "", "-1")],
    "orderComboLegs": [("1.5",)],
    "smartComboRoutingParams": [("NonGuaranteed", "1")],
    "deltaNeutralOrderType": "MKT",
    "deltaNeutralConId": "9",
    "scalePriceIncrement": "0.5",
    "scaleRandomPercent": "1",
    "hedgeType": "D",
    "hedgeParam": "x",
    "deltaNeutralContract": "1",
    "deltaNeutralContractConId": "8",
    "algoStrategy": "Adaptive",
    "algoParams": [("adaptivePriority", "Normal")],
    "conditions": [("1", "a", "1", "100", "265598", "SMART", "0"), ("3", "o", "1", "20261123")],
    "conditionsIgnoreRth": "1",
    "conditionsCancelOrder": "0",
    "tif": "GTC",
}


@pytest.mark.parametrize("version", range(100, 179))
@pytest.mark.parametrize("table", [PLACE_ORDER, OPEN_ORDER, COMPLETED_ORDER])
def test_what_is_written_is_read_again(table: tuple[Step, ...], version: int) -> None:
    if version < 102:
        rich = {name: value for name, value in RICH.items() if "onditions" not in name}
    else:
        rich = dict(RICH)
    fields = write(table, rich, version)
    reader = Reader(fields, version)
    values = read(table, reader.text, version)
    assert not reader.more
    assert {name: values[name] for name in rich if name in values} == {
        name: value for name, value in rich.items() if name in values
    }
    assert write(table, values, version) == fields


def test_only_what_was_set_is_kept() -> None:
    sent: Values = {
        "tif": "DAY",
        "lmtPrice": "10.5",
        "auxPrice": "",
        "triggerPrice": "1.7976931348623157e+308",
        "duration": "2147483647",
        "whatIf": "0",
        "transmit": "1",
        "comboLegs": [],
    }
    assert given(sent) == {"tif": "DAY", "lmtPrice": "10.5", "transmit": "1"}


def test_nothing_but_malformed_comes_of_an_absurd_count() -> None:
    fields = write(PLACE_ORDER, {**RICH, "secType": "STK", "algoStrategy": "Adaptive"}, 178)
    outcomes = set()
    for index in range(len(fields)):
        broken = [*fields[:index], "999999999", *fields[index + 1 :]]
        try:
            read(PLACE_ORDER, Reader(broken, 178).text, 178)
        except MalformedError as error:
            outcomes.add(str(error))
    assert "999999999 rows are too many" in outcomes
    assert "unknown condition type 999999999" in outcomes
