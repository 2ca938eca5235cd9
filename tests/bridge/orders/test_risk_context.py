"""What an order is worth and may fill at, from what is known of its circumstances."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from bridge.model import Contract, ContractDetails, OrderCondition
from bridge.orders.risk_context import Exchange, PricedLeg, Reference, gross, multiplier
from tests.bridge.orders.samples import AAPL
from tests.bridge.orders.test_risk import CALL, MARKET, context

QUOTE = Reference(bid=90.0, ask=110.0, last=100.0, close=95.0)


@pytest.mark.parametrize(
    ("quote", "action", "price"),
    [
        (QUOTE, "BUY", 110.0),
        (QUOTE, "SELL", 90.0),
        (Reference(ask=-1.0, last=100.0), "BUY", 100.0),
        (Reference(bid=0.0, close=95.0), "SELL", 95.0),
        (Reference(), "BUY", None),
        (Reference(signed=True, ask=-1.5, last=3.0), "BUY", -1.5),
        (Reference(signed=True, last=3.0), "SELL", None),
    ],
)
def test_the_price_that_it_would_meet(quote: Reference, action: str, price: float | None) -> None:
    assert quote.for_action(action) == price


def stopped(**order: Any) -> dict[str, Any]:
    return {"order_type": "STP", "limit_price": None, "stop_price": 120.0, **order}


def trailing(**order: Any) -> dict[str, Any]:
    return {"order_type": "TRAIL", "limit_price": None, **order}


@pytest.mark.parametrize(
    ("order", "quote", "price"),
    [
        ({"limit_price": 50.0}, QUOTE, 50.0),
        ({"limit_price": 50.0, "action": "SELL"}, QUOTE, 90.0),
        ({"limit_price": 150.0, "action": "SELL"}, QUOTE, 150.0),
        ({"limit_price": 50.0, "action": "SELL"}, Reference(), None),
        ({"limit_price": 50.0, "action": "SELL"}, None, None),
        (stopped(stop_price=80.0, limit_price=70.0, action="SELL"), Reference(), 80.0),
        (stopped(stop_price=80.0, action="SELL"), Reference(), 80.0),
        (stopped(order_type="MIT", action="SELL"), Reference(), None),
        (stopped(order_type="LIT", limit_price=70.0, action="SELL"), Reference(), None),
        (trailing(trail_amount=5.0, trail_stop_price=0.01, action="SELL"), Reference(), None),
        ({"limit_price": -5.0}, Reference(), -5.0),
        (MARKET, QUOTE, 110.0),
        (MARKET, Reference(), None),
        (MARKET, None, None),
        (stopped(), QUOTE, 120.0),
        (stopped(stop_price=80.0), QUOTE, 110.0),
        (stopped(), Reference(), 120.0),
        (trailing(trail_amount=5.0), QUOTE, 115.0),
        (trailing(trail_percent=10.0), QUOTE, 121.0),
        (trailing(trail_amount=5.0, action="SELL"), QUOTE, 90.0),
        (trailing(trail_amount=5.0, trail_stop_price=130.0), QUOTE, 130.0),
        (trailing(trail_amount=5.0), Reference(), None),
        (
            trailing(trail_amount=5.0, order_type="TRAIL LIMIT", limit_offset=2.0),
            QUOTE,
            117.0,
        ),
        (
            trailing(trail_amount=5.0, order_type="TRAIL LIMIT", limit_offset=2.0, action="SELL"),
            QUOTE,
            90.0,
        ),
    ],
)
def test_the_worst_price(
    order: dict[str, Any], quote: Reference | None, price: float | None
) -> None:
    assert context(order, reference=quote).price == price


def test_where_a_trailing_stop_stands_at_first() -> None:
    assert context(trailing(trail_amount=5.0, action="SELL"), reference=QUOTE).stop == 85.0
    assert context(trailing(trail_percent=10.0, action="SELL"), reference=QUOTE).stop == 81.0
    assert context(trailing(trail_percent=10.0), reference=None).stop is None
    assert context(reference=QUOTE).stop is None


def test_what_it_is_worth() -> None:
    assert context({"limit_price": 2.5, "quantity": 4.0}).notional == 10.0
    option = context({"limit_price": 2.5, "quantity": 4.0}, contract=CALL)
    assert option.notional == 1000.0
    details = ContractDetails(contract=CALL, price_magnifier=100)
    pence = context({"limit_price": 2.5, "quantity": 4.0}, contract=CALL, details=details)
    assert pence.notional == 10.0
    assert context(MARKET, reference=Reference()).notional is None
    below = context({"limit_price": -2.5, "quantity": 4.0}, reference=None)
    assert below.notional == 10.0


def leg(sign: int, bid: float | None, ask: float | None, ratio: int = 1) -> PricedLeg:
    return PricedLeg(
        details=ContractDetails(contract=CALL),
        ratio=ratio,
        sign=sign,
        reference=Reference(bid=bid, ask=ask),
    )


def test_of_a_combination_the_money_in_all_its_legs_counts() -> None:
    legs = (leg(1, 4.0, 4.5), leg(-1, 1.0, 1.5, 2))
    bag = Contract(symbol="AAPL", sec_type="BAG", multiplier="100")
    found = context({"quantity": 3.0}, contract=bag, legs=legs)
    assert gross(legs, "BUY") == 4.5 * 100 + 1.0 * 200
    assert gross(legs, "SELL") == 4.0 * 100 + 1.5 * 200
    assert found.notional == 650.0 * 3
    assert found.price_scale == 6.5
    cents = structs.replace(legs[0], details=ContractDetails(contract=CALL, price_magnifier=100))
    found = context({"quantity": 3.0}, contract=bag, legs=(cents, legs[1]))
    assert found.notional == (4.5 + 1.0 * 200) * 3
    assert found.price_scale == 6.5, "a distance of prices, as they are quoted"
    unknown = context({"quantity": 3.0}, contract=bag, legs=(*legs, leg(1, None, None)))
    assert (unknown.notional, unknown.price_scale) == (None, None)
    assert context(reference=QUOTE).price_scale == 110.0
    assert context(reference=None).price_scale is None


def test_it_counts_in_the_accounts_currency_and_not_when_it_closes() -> None:
    order = {"limit_price": 2.5, "quantity": 4.0}
    euros = context(order, exchange=Exchange(base="EUR", rate=0.5))
    assert (euros.base_notional, euros.counted_notional, euros.money) == (5.0, 5.0, "EUR")
    unknown = context(order, exchange=Exchange(base="EUR"))
    assert (unknown.base_notional, unknown.counted_notional) == (None, 0.0)
    plain = context(order)
    assert (plain.base_notional, plain.counted_notional, plain.money) == (10.0, 10.0, "USD")
    assert context(order, closing=True).counted_notional == 0.0
    assert context(order, closes=True).counted_notional == 0.0


def test_units_of_one_contract() -> None:
    for text, units in (("100", 100.0), ("", 1.0), ("0.5", 0.5), ("many", 1.0)):
        assert multiplier(Contract(symbol="X", multiplier=text)) == units


def test_whether_the_market_could_be_looked_up() -> None:
    assert context(reference=Reference(no_line=True)).unchecked is True
    assert context(reference=QUOTE).unchecked is False
    assert context(reference=None).unchecked is False
    assert context(MARKET).fills_at_any_price is True
    assert context().fills_at_any_price is False


def waiting(price: float, *, above: bool, con_id: int = AAPL.con_id) -> OrderCondition:
    return OrderCondition(con_id=con_id, exchange="SMART", price=price, above=above)


@pytest.mark.parametrize(
    ("order", "price"),
    [
        (MARKET | {"conditions": (waiting(1000.0, above=True),)}, 1000.0),
        (MARKET | {"conditions": (waiting(1000.0, above=True),), "action": "SELL"}, 1000.0),
        (MARKET | {"conditions": (waiting(50.0, above=False),)}, 110.0),
        (MARKET | {"conditions": (waiting(1000.0, above=True, con_id=1),)}, 110.0),
        (
            MARKET | {"conditions": (waiting(1000.0, above=True),), "conditions_cancel": True},
            110.0,
        ),
        (stopped() | {"conditions": (waiting(1000.0, above=True),)}, 1000.0),
        (trailing(trail_amount=5.0) | {"conditions": (waiting(1000.0, above=True),)}, 1005.0),
        ({"limit_price": 50.0, "conditions": (waiting(1000.0, above=True),)}, 50.0),
    ],
)
def test_a_condition_on_its_own_price_says_where_it_fills(
    order: dict[str, Any], price: float
) -> None:
    assert context(order, reference=QUOTE).price == price


@pytest.mark.parametrize(
    ("order", "price"),
    [
        (trailing(trail_amount=5.0, order_type="TRAIL LIMIT", limit_offset=2.0), 83.0),
        (trailing(trail_amount=89.0, order_type="TRAIL LIMIT", limit_offset=2.0), 0.0),
        (trailing(trail_amount=5.0), 85.0),
        (trailing(trail_amount=5.0, trail_stop_price=60.0), 60.0),
        (stopped(stop_price=80.0), 80.0),
        (stopped(stop_price=120.0), 90.0),
        (stopped(order_type="MIT"), 120.0),
        (stopped(order_type="MIT", stop_price=80.0), 90.0),
        ({"limit_price": 50.0}, 50.0),
        (MARKET, 90.0),
        (MARKET | {"conditions": (waiting(70.0, above=False),)}, 70.0),
        (trailing(trail_amount=5.0) | {"conditions": (waiting(70.0, above=False),)}, 65.0),
    ],
)
def test_what_a_sale_brings_at_the_least(order: dict[str, Any], price: float) -> None:
    assert context(order | {"action": "SELL"}, reference=QUOTE).worst_fill == price


def test_a_new_distance_moves_the_stop_of_a_change() -> None:
    """Where the broker has it, or where it follows the market: what is further away."""
    for action, stop in (("BUY", 150.0), ("SELL", 50.0)):
        order = trailing(trail_amount=40.0, trail_stop_price=101.0, action=action)
        named = context(order, reference=QUOTE, change=True, trail_named=True)
        assert named.stop == stop
        assert structs.replace(named, stop_named=True).stop == 101.0
        assert structs.replace(named, trail_named=False).stop == 101.0
