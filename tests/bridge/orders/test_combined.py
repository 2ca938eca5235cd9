"""A combination of several contracts: what fits, what it is, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.callers import BRIDGE
from bridge.market.errors import InvalidFieldError
from bridge.market.quote_values import QuoteValue, Tag
from bridge.market.views import FailedQuote, Quote
from bridge.model import Contract, ContractDetails, OptionTick, PriceTick
from bridge.orders import combination, combination_quote
from bridge.orders.combination_quote import CombinationQuotes, legs_of
from bridge.orders.request import ComboLegRequest, OrderRequest
from bridge.orders.risk_context import PricedLeg, Reference
from tests.bridge.market.fake_gateway import FakeLine
from tests.bridge.orders.fake_broker import FakeBroker, option
from tests.bridge.orders.order_rig import opened
from tests.bridge.orders.samples import NOON


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


@pytest.mark.parametrize(("parts", "whole"), [((100, 100), 100), ((0, 1), 1), ((100, 1), 1)])
def test_a_combination_is_priced_in_what_all_its_legs_are(
    parts: tuple[int, int], whole: int
) -> None:
    legs = [
        structs.replace(details(number), price_magnifier=part)
        for number, part in enumerate(parts, 1)
    ]
    assert combination.details_of(request(), legs).price_magnifier == whole


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


def value(number: float | str | None, tag: Tag = "live", age: float = 0.0) -> QuoteValue:
    return QuoteValue(number, tag, age)


def quoted(con_id: int = 1, **values: Any) -> Quote:
    return Quote(
        symbol="SPY", con_id=con_id, sec_type="OPT", exchange="SMART", currency="USD", at=NOON,
        **values,
    )  # fmt: skip


def test_both_sides_and_the_middle_in_numbers_and_in_words() -> None:
    legs = [priced(1, 4.0, 4.2), priced(-1, 1.0, 1.1)]
    found = combination_quote._prices(BAG, legs)
    assert (found["bid"], found["ask"], found["mid"]) == (2.9, 3.2, 3.05)
    assert found["to_buy"] == "you pay 3.20 a unit, 320.00 USD in all"
    assert found["to_sell"] == "you receive 2.90 a unit, 290.00 USD in all"
    no_bid = combination_quote._prices(BAG, [priced(1, None, 4.2), priced(-1, 1.0, 1.1)])
    assert (no_bid["bid"], no_bid["ask"], no_bid["mid"]) == (None, 3.2, None)
    assert (no_bid["to_buy"] is None, no_bid["to_sell"] is None) == (False, True)
    no_ask = combination_quote._prices(BAG, [priced(1, 4.0, None), priced(-1, 1.0, 1.1)])
    assert (no_ask["bid"], no_ask["ask"], no_ask["mid"]) == (2.9, None, None)
    assert (no_ask["to_buy"] is None, no_ask["to_sell"] is None) == (True, False)


def test_it_is_as_good_as_its_worst_price_and_as_old_as_its_oldest() -> None:
    fresh = quoted(bid=value(1.0, age=1.0), ask=value(1.1, "frozen", 2.0))
    old = quoted(bid=value(2.0, "delayed", 9.0))
    assert combination_quote._quality([fresh, old]) == {"tag": "delayed", "age": 9.0}
    assert combination_quote._quality([fresh]) == {"tag": "frozen", "age": 2.0}
    assert combination_quote._quality([quoted()]) == {"tag": None, "age": None}


GREEKS = ("delta", "gamma", "theta", "vega")


def test_greeks_are_of_one_unit() -> None:
    legs = (
        ComboLegRequest(action="BUY", con_id=1, ratio=2),
        ComboLegRequest(action="SELL", con_id=2),
    )
    known = {name: value(0.1 * place) for place, name in enumerate(GREEKS, 1)}
    less = {name: value(0.05 * place) for place, name in enumerate(GREEKS, 1)}
    options = [details(1), details(2)]
    found = combination_quote._greeks(legs, options, [quoted(1, **known), quoted(2, **less)], 100.0)
    assert found == {"delta": 0.15, "gamma": 0.3, "theta": 0.45, "vega": 0.6}
    stock = [details(1, sec_type="STK", multiplier="", right=None), details(2)]
    shares = (ComboLegRequest(action="BUY", con_id=1, ratio=100), legs[1])
    covered = combination_quote._greeks(shares, stock, [quoted(1), quoted(2, **less)], 100.0)
    assert covered == {"delta": 0.95, "gamma": -0.1, "theta": -0.15, "vega": -0.2}
    failed = FailedQuote(symbol="SPY", code="x", detail="x", next_step="x")
    for answer in (failed, quoted(2), quoted(2, **dict.fromkeys(GREEKS, value("n/a")))):
        unknown = combination_quote._greeks(legs, options, [quoted(1, **known), answer], 100.0)
        assert unknown == dict.fromkeys(GREEKS)


UNDERLYING = Contract(symbol="SPY", sec_type="STK", currency="USD")


def test_legs_are_read_by_parts_or_by_number() -> None:
    one, two, three = legs_of(
        ("SELL:20271217:590.5:C", "BUY:20271217:600:P:2", "BUY:2147483647:999"), UNDERLYING
    )
    assert (one.action, one.symbol, one.sec_type, one.currency) == ("SELL", "SPY", "OPT", "USD")
    assert (one.expiration, one.strike, one.right, one.ratio) == ("20271217", 590.5, "C", 1)
    assert (two.action, two.right, two.ratio) == ("BUY", "P", 2)
    assert (three.con_id, three.ratio, three.strike) == (2147483647, 999, None)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("BUY:1",), "two to four"),
        (("BUY:1",) * 5, "two to four"),
        (("BUY:1", "HOLD:2"), "is no leg"),
        (("BUY:1", "BUY:0"), "is no leg"),
        (("BUY:1", "BUY:2:0"), "is no leg"),
        (("BUY:1", "BUY:2:1000"), "is no leg"),
        (("BUY:1", "BUY:2027121:590:C"), "is no leg"),
        (("BUY:1", "BUY:20271217:590:X"), "is no leg"),
    ],
)
def test_what_is_no_leg(texts: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidFieldError, match=said):
        legs_of(texts, UNDERLYING)


async def test_it_is_quoted_from_the_lines_of_its_legs(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.options = (option(701, strike=200.0), option(702, strike=210.0))
    prices = {701: (3.0, 3.2), 702: (1.0, 1.1)}

    def tick(line: FakeLine) -> None:
        bid, ask = prices[line.contract.con_id]
        line.tick(
            PriceTick("bid", bid, 1.0),
            PriceTick("ask", ask, 1.0),
            OptionTick("modelOption", 0.2, 0.5, 0.1, 0.3, -0.2, None, None, None),
        )

    broker.on_open = tick
    async with opened(tmp_path, broker) as rig:
        found = await rig.services[CombinationQuotes].quote(
            Contract(symbol="AAPL", sec_type="STK", currency="USD"), ("BUY:701", "SELL:702"), BRIDGE
        )
        assert (found.symbol, found.currency, found.multiplier) == ("AAPL", "USD", 100.0)
        assert (found.bid, found.ask, found.mid) == (1.9, 2.2, 2.05)
        assert (found.delta, found.tag, found.failed) == (0.0, "live", ())
        assert [(leg.con_id, leg.action, leg.ratio) for leg in found.legs] == [
            (701, "BUY", 1),
            (702, "SELL", 1),
        ]
        with pytest.raises(InvalidFieldError, match="two legs are the same"):
            await rig.services[CombinationQuotes].quote(
                Contract(symbol="AAPL", sec_type="STK"), ("BUY:701", "SELL:701"), BRIDGE
            )
