"""Limits on money are in the account's own currency, at the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.orders import risk
from bridge.orders.risk_context import Exchange
from tests.bridge.orders.test_order_types import codes
from tests.bridge.orders.test_over_http import Body, SimulatedBridge, soon
from tests.bridge.orders.test_risk import context
from tests.bridge.rig import SimulatorProcess

MOST = 1040
EUROS: Body = {"symbol": "SAP", "exchange": "IBIS", "currency": "EUR", "action": "BUY"}


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedBridge]:
    folder = tmp_path_factory.mktemp("currency")
    simulator = SimulatorProcess(folder / "simulator.log")
    made = SimulatedBridge(folder / "bridge", simulator, max_notional=MOST, price_band_percent=None)
    soon(lambda: made.bridge.get("/account").json()["accounts"])
    yield made
    made.bridge.stop()
    simulator.stop()


def preview(bridge: SimulatedBridge, **more: Any) -> Body:
    body = EUROS | {"quantity": 1, "orderType": "LMT", "limitPrice": 210.0} | more
    answer = bridge.client.post("/order/preview", json=body)
    assert answer.status_code == 200, answer.text
    found: Body = answer.json()
    return found


def test_an_order_counts_in_the_currency_of_the_account(bridge: SimulatedBridge) -> None:
    shown = preview(bridge)
    rate = shown["baseNotional"] / shown["notional"]  # no euros are held: the pair's quote
    assert (shown["currency"], shown["baseCurrency"]) == ("EUR", "USD")
    assert 1.0 < rate < 1.2
    order = EUROS | {"quantity": 4, "orderType": "LMT"}
    most = MOST / rate / 4  # below MOST as it stands, and above it in dollars
    assert bridge.place(**order, limitPrice=round(most * 0.98, 1)).status_code == 201
    assert codes(bridge.place(**order, limitPrice=round(most * 1.02, 1))) == {"max-notional"}
    bridge.placed(**EUROS, quantity=1, orderType="MKT")
    soon(lambda: any(each["symbol"] == "SAP" for each in _positions(bridge)))
    own = preview(bridge)
    assert own["baseNotional"] / own["notional"] == pytest.approx(rate, rel=0.01)


def _positions(bridge: SimulatedBridge) -> list[Body]:
    found: list[Body] = bridge.bridge.get("/positions").json()["positions"]
    return found


def test_what_nobody_can_convert_is_refused() -> None:
    unknown = context(exchange=Exchange(base="USD"))
    assert [each.code for each in risk.exchange_rate(unknown)] == ["no-exchange-rate"]
    assert not list(risk.exchange_rate(context(exchange=Exchange(base="USD", rate=1.1))))
    assert not list(risk.exchange_rate(context(exchange=None)))  # nobody keeps account values
    [unnamed] = risk.exchange_rate(context(exchange=Exchange(base="")))
    assert "have not come" in unnamed.message
    assert not list(risk.exchange_rate(context(exchange=Exchange(base="USD"), closing=True)))
