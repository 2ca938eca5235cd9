"""A combination of several contracts: what fits, what it is, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.model import Contract, ContractDetails
from bridge.orders import combination
from bridge.orders.request import ComboLegRequest, OrderRequest
from bridge.orders.risk_context import PricedLeg, Reference


def details(con_id: int = 1, **changes: Any) -> ContractDetails:
    fields: dict[str, Any] = {
        "con_id": con_id, "symbol": "SPY", "sec_type": "OPT", "exchange": "SMART",
        "currency": "USD", "multiplier": "100", "strike": 100.0, "right": "C",
        "expiration": "20261218",
    }  # fmt: skip
    contract = Contract(**(fields | changes))
    return ContractDetails(
        contract=contract, time_zone="US/Eastern", trading_hours="t", liquid_hours="l"
    )


def request(symbol: str = "SPY", **changes: Any) -> OrderRequest:
    legs = (
        ComboLegRequest(action="BUY", ratio=2, con_id=1),
        ComboLegRequest(action="SELL", con_id=2),
    )
    fields: dict[str, Any] = {
        "symbol": symbol, "action": "BUY", "quantity": 1, "order_type": "LMT",
        "limit_price": 1.0, "sec_type": "BAG", "legs": legs,
    }  # fmt: skip
    return OrderRequest(**(fields | changes))


@pytest.mark.parametrize(
    ("legs", "said"),
    [
        ([details(1), details(2)], []),
        ([details(1), details(1)], ["two legs are the same"]),
        ([details(1), details(2, currency="EUR")], ["legs must have one currency"]),
        (
            [details(1), details(2, symbol="QQQ")],
            ["the legs are of QQQ, SPY: symbol names what all are of"],
        ),
        ([details(1, symbol="spy"), details(2)], []),
        ([details(1), details(2, multiplier="10")], ["legs must have one multiplier"]),
        ([details(1), details(2, sec_type="STK", multiplier="")], []),
    ],
)
def test_legs_that_do_not_fit(legs: list[ContractDetails], said: list[str]) -> None:
    assert [each.message for each in combination.problems(request(" spy"), legs)] == said


def test_the_symbol_names_what_all_legs_are_of() -> None:
    (problem,) = combination.problems(request("QQQ"), [details(1), details(2)])
    assert (problem.field, problem.code) == ("symbol", "invalid-field")


def test_what_a_combination_is() -> None:
    found = combination.details_of(
        request(" spy"), [details(1, sec_type="STK", multiplier=""), details(2)]
    )
    contract = found.contract
    assert (contract.symbol, contract.sec_type, contract.currency) == ("SPY", "BAG", "USD")
    assert (contract.exchange, contract.multiplier) == ("SMART", "100")
    assert [(leg.con_id, leg.ratio, leg.action, leg.exchange) for leg in contract.legs] == [
        (1, 2, "BUY", "SMART"),
        (2, 1, "SELL", "SMART"),
    ]
    assert (found.min_tick, found.size_increment) == (0.01, 1.0)
    assert (found.time_zone, found.trading_hours, found.liquid_hours) == ("US/Eastern", "t", "l")
    same = [details(1, exchange="CBOE"), details(2, exchange="CBOE")]
    assert combination.details_of(request(), same).contract.exchange == "CBOE"
    two = [details(1, exchange="CBOE"), details(2)]
    assert combination.details_of(request(), two).contract.exchange == "SMART"
    named = combination.details_of(request(exchange="cboe"), two)
    assert named.contract.exchange == "CBOE"
    plain = [details(1, multiplier=""), details(2, multiplier="")]
    assert combination.details_of(request(), plain).contract.multiplier == ""


def priced(
    sign: int, bid: float | None, ask: float | None, ratio: int = 1, **changes: Any
) -> PricedLeg:
    quote = Reference(bid=bid, ask=ask, no_line=changes.pop("no_line", False))
    return PricedLeg(details=details(**changes), ratio=ratio, sign=sign, reference=quote)


BAG = Contract(symbol="SPY", sec_type="BAG", multiplier="100")


def test_what_it_costs_is_what_its_legs_cost() -> None:
    legs = [priced(1, 4.0, 4.2), priced(-1, 1.0, 1.1, 2)]
    assert combination.net_price(BAG, legs, "BUY") == 2.2, "4.2, and 1.0 twice back"
    assert combination.net_price(BAG, legs, "SELL") == 1.8, "4.0, and 1.1 twice paid"
    found = combination.net_reference(BAG, legs)
    assert (found.bid, found.ask, found.signed, found.no_line) == (1.8, 2.2, True, False)
    assert found.for_action("BUY") == 2.2
    with_stock = [
        priced(1, 99.0, 100.0, 100, sec_type="STK", multiplier=""),
        priced(-1, 3.0, 3.5),
    ]
    assert combination.net_price(BAG, with_stock, "BUY") == 97.0
    cheap = [priced(1, 0.1, 0.3), priced(-1, 0.1, 0.3), priced(-1, 0.1, 0.3)]
    assert combination.net_price(BAG, cheap, "BUY") == 0.1
    assert combination.net_price(BAG, cheap, "SELL") == -0.5


def test_one_unknown_price_makes_the_whole_unknown() -> None:
    legs = [priced(1, 4.0, 4.2), priced(-1, None, None, no_line=True)]
    assert combination.net_price(BAG, legs, "BUY") is None
    found = combination.net_reference(BAG, legs)
    assert (found.bid, found.ask, found.no_line) == (None, None, True)
    without = [PricedLeg(details=details(), ratio=1, sign=1)]
    assert combination.net_price(BAG, without, "BUY") is None
    assert combination.net_reference(BAG, without).no_line is False


@pytest.mark.parametrize(
    ("action", "price", "said"),
    [
        ("BUY", 1.5, "you pay 1.50 a unit, 300.00 USD in all"),
        ("BUY", -1.5, "you receive 1.50 a unit, 300.00 USD in all"),
        ("SELL", 1.5, "you receive 1.50 a unit, 300.00 USD in all"),
        ("SELL", -1.5, "you pay 1.50 a unit, 300.00 USD in all"),
        ("SELL", 0.0, "even: nothing is paid or received, but for commissions"),
    ],
)
def test_a_price_in_words(action: str, price: float, said: str) -> None:
    assert combination.explained(action, price, 2, 100, "USD") == said
