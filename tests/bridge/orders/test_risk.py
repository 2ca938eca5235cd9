import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from bridge.broker_time import is_open
from bridge.model import Contract, ContractDetails, Order, OrderCondition, PriceIncrement
from bridge.orders.combination import loss, net_reference
from bridge.orders.risk import (
    CODES_OF_SETTINGS,
    OF_SETTINGS,
    market_order_on_option,
    violations,
)
from bridge.orders.risk_context import Exchange, PricedLeg, Reference, RiskContext
from bridge.orders.rules import TradingRules
from bridge.store.keys import KeyBounds
from bridge.store.orders import DayTotals
from tests.bridge.orders.samples import AAPL, NOON

NEW_YORK = ZoneInfo("America/New_York")
CENTS = (PriceIncrement(low_edge=0.0, increment=0.01),)
QUOTE = Reference(bid=99.9, ask=100.1, last=100.0, close=98.0)
HOURS = "20260213:0930-20260213:1600;20260214:CLOSED"
CALL = Contract(
    con_id=5,
    symbol="AAPL",
    sec_type="OPT",
    strike=200.0,
    right="C",
    expiration="20260619",
    multiplier="100",
)


def context(order: dict[str, Any] | None = None, **changes: Any) -> RiskContext:
    contract = changes.get("contract", AAPL)
    terms: dict[str, Any] = {
        "quantity": 10.0,
        "order_type": "LMT",
        "limit_price": 100.0,
        "account": "DU1234567",
    }
    fields: dict[str, Any] = {
        "rules": TradingRules(),
        "contract": contract,
        "details": ContractDetails(
            contract=contract,
            time_zone="America/New_York",
            liquid_hours=HOURS,
            trading_hours=HOURS.replace("0930", "0400"),
        ),
        "ladder": CENTS,
        "order": Order(**(terms | (order or {}))),
        "trading_mode": "paper",
        "accounts": ("DU1234567",),
        "now": NOON,
        "reference": QUOTE,
    }
    return RiskContext(**(fields | changes))


def test_what_settings_refuse_has_the_codes_that_its_rules_name() -> None:
    named = (re.findall(r"`([a-z]+(?:-[a-z]+)+)`", rule.__doc__ or "") for rule in OF_SETTINGS)
    assert {code for each in named for code in each} == CODES_OF_SETTINGS


def codes(*contexts: RiskContext) -> set[str]:
    return {violation.code for violation in violations(contexts)}


def ruled(order: dict[str, Any] | None = None, /, **rules: Any) -> RiskContext:
    return context(order, rules=TradingRules(**rules))


MARKET = {"order_type": "MKT", "limit_price": None}
STOP = {"order_type": "STP", "limit_price": None, "stop_price": 95.0}


def test_an_ordinary_order_breaks_nothing() -> None:
    assert violations([context()]) == []
    assert violations([context(MARKET)]) == []


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (ruled(read_only=True), "read-only"),
        (context(trading_mode="live"), "live-not-confirmed"),
        (context({"account": "U1"}, accounts=("U1",)), "live-not-confirmed"),
        (
            context({"account": "U1"}, accounts=("U1",), rules=TradingRules(live=True)),
            "live-not-confirmed",
        ),
        (context({"account": ""}), "account-required"),
        (context({"account": "DU9"}), "account-unknown"),
        (ruled(allow_accounts=("DU9",)), "account-not-allowed"),
        (ruled(allow_sec_types=("OPT",)), "sec-type-not-allowed"),
        (ruled(allow_symbols=("MSFT",)), "symbol-not-allowed"),
        (ruled(deny_symbols=("aapl",)), "symbol-denied"),
        (context(contract=structs.replace(CALL, expiration="20260212")), "contract-expired"),
        (context(MARKET | {"quantity": 1.0}, contract=CALL), "market-order-on-option"),
        (context(STOP | {"quantity": 1.0}, contract=CALL), "market-order-on-option"),
        (ruled({"quantity": 1001.0, "limit_price": 50.0}), "max-quantity"),
        (
            context({"quantity": 51.0, "limit_price": 1.0}, contract=CALL, reference=None),
            "max-contracts",
        ),
        (context({"quantity": 1.5, "limit_price": 100.0}, contract=CALL), "quantity-step"),
        (ruled(max_notional=999.0), "max-notional"),
        (ruled(MARKET, max_notional=1000.0), "max-notional"),
        (context(open_orders=200), "max-open-orders"),
        (context(day=DayTotals(2000, 0)), "max-orders-per-day"),
        (context(day=DayTotals(1, 1_999_500)), "max-notional-per-day"),
        (context({"limit_price": 100.005}), "price-off-tick"),
        (context(MARKET, reference=None), "no-quote"),
        (context(reference=None, rules=TradingRules(require_quote=True)), "no-quote"),
        (context({"limit_price": 111.0}), "price-band"),
        (context({"limit_price": 89.0, "action": "SELL"}), "price-band"),
        (
            context({"order_type": "STP_LMT", "stop_price": 100.0, "limit_price": 120.0}),
            "price-band",
        ),
    ],
)
def test_each_rule_is_enforced(broken: RiskContext, code: str) -> None:
    assert codes(broken) == {code}


@pytest.mark.parametrize(
    "sound",
    [
        context(trading_mode="live", rules=TradingRules(live=True)),
        context(
            {"account": "U1"},
            accounts=("U1",),
            trading_mode="live",
            rules=TradingRules(live=True),
        ),
        ruled(allow_symbols=("AAPL",), allow_accounts=("DU1234567",)),
        context(contract=structs.replace(CALL, expiration="20260213")),
        context(contract=structs.replace(CALL, expiration="20261399")),
        context(contract=structs.replace(CALL, expiration="202602")),
        context(
            MARKET | {"quantity": 1.0},
            contract=CALL,
            rules=TradingRules(market_orders_on_options=True),
        ),
        context({"limit_price": 1.0}),
        context({"limit_price": 500.0, "action": "SELL"}),
        context(reference=None),
        ruled({"quantity": 5000.0, "limit_price": 1.0}, max_quantity=None),
        ruled({"limit_price": 150.0}, price_band_percent=None),
        context({"quantity": 50.0, "limit_price": 1.0}, contract=CALL),
        context({"quantity": 2.0, "limit_price": 100.0}, contract=CALL),
        context(open_orders=199),
        context(STOP),
    ],
)
def test_what_the_limits_allow(sound: RiskContext) -> None:
    assert violations([sound]) == []


def test_everything_is_found_at_once() -> None:
    found = codes(
        context(
            {"quantity": 5000.0, "limit_price": 150.005},
            open_orders=500,
            rules=TradingRules(deny_symbols=("AAPL",)),
        )
    )
    assert found == {
        "symbol-denied",
        "max-quantity",
        "max-notional",
        "price-off-tick",
        "price-band",
        "max-open-orders",
    }


def test_prices_are_told_with_every_digit() -> None:
    quarters = (PriceIncrement(low_edge=0.0, increment=0.25),)
    near = Reference(bid=25_123.0, ask=25_123.5)
    order = {"limit_price": 25_123.3, "quantity": 1.0}
    [found] = violations([context(order, ladder=quarters, reference=near)])
    assert "25123.3 is not on the tick of 0.25: 25123.25 or 25123.5 is" in found.message
    assert found.limit == "25123.25 25123.5"
    dear = {"limit_price": 1_234_567.89, "quantity": 1.0}
    free = TradingRules(max_notional=None, max_notional_per_day=None)
    [found] = violations([context(dear, reference=Reference(ask=1_000_000.5), rules=free)])
    assert "limitPrice 1234567.89 is" in found.message
    assert "the market (1000000.5)" in found.message


def test_a_finding_that_several_legs_share_is_listed_once() -> None:
    assert len(violations([ruled(read_only=True), ruled(read_only=True)])) == 1


def test_legs_that_close_count_no_money() -> None:
    closing = context({"action": "SELL", "limit_price": 101.0}, closing=True)
    assert violations([structs.replace(closing, rules=TradingRules(max_notional=5.0))]) == []


def test_a_change_adds_what_it_adds_and_needs_no_open_market() -> None:
    rules = TradingRules(
        max_open_orders=1, max_orders_per_day=1, max_notional_per_day=1200.0, market_hours="all"
    )
    change = context(
        {"quantity": 12.0},
        change=True,
        earlier_notional=1000.0,
        open_orders=1,
        day=DayTotals(1, 1000.0),
        rules=rules,
        now=datetime(2026, 2, 14, 12, tzinfo=UTC),
    )
    assert codes(change) == set()
    assert codes(structs.replace(change, earlier_notional=0.0)) == {"max-notional-per-day"}


def test_currency_pairs_count_in_thousands() -> None:
    pair = Contract(symbol="EUR", sec_type="CASH", exchange="IDEALPRO", currency="USD")
    rules = TradingRules(max_notional=None, max_notional_per_day=None)
    order = {"quantity": 20_000.0, "limit_price": 1.1}
    assert codes(context(order, contract=pair, rules=rules, reference=None)) == set()
    order["quantity"] = 1_000_001.0
    assert codes(context(order, contract=pair, rules=rules, reference=None)) == {"max-quantity"}


def test_an_options_multiplier_counts() -> None:
    assert context({"quantity": 2.0, "limit_price": 5.0}, contract=CALL).notional == 1000.0
    assert context(MARKET).notional == pytest.approx(1001.0)
    assert context(MARKET, reference=None).notional is None


@pytest.mark.parametrize("text", ["", "n/a", "nan", "inf", "0", "-5"])
def test_a_multiplier_that_stands_for_nothing_is_one(text: str) -> None:
    odd = structs.replace(CALL, multiplier=text)
    assert context({"quantity": 2.0, "limit_price": 5.0}, contract=odd).notional == 10.0


@pytest.mark.parametrize(
    ("setting", "order", "hour", "refused"),
    [
        ("off", MARKET, 3, False),
        ("market-orders", MARKET, 3, True),
        ("market-orders", {}, 3, False),
        ("all", {}, 3, True),
        ("all", {}, 10, False),
        ("all", {"outside_rth": True}, 5, False),
        ("all", {"outside_rth": True}, 3, True),
        ("all", {}, 16, True),
    ],
)
def test_market_hours(setting: Any, order: dict[str, Any], hour: int, refused: bool) -> None:
    now = datetime(2026, 2, 13, hour, tzinfo=NEW_YORK)
    found = codes(context(order, rules=TradingRules(market_hours=setting), now=now))
    assert found == ({"market-closed"} if refused else set())


@pytest.mark.parametrize(
    ("hours", "moment", "expected"),
    [
        ("20260213:0930-20260213:1600", (13, 9, 30), True),
        ("20260213:0930-20260213:1600", (13, 16, 0), False),
        ("20260213:CLOSED", (13, 12, 0), False),
        ("20260213:0930-1600", (13, 12, 0), True),
        ("20260213:0930-1200,1300-1600", (13, 12, 30), False),
        ("20260213:0930-1200,1300-1600", (13, 13, 30), True),
        ("20260212:1800-20260213:1700", (13, 1, 0), True),
        ("", (13, 12, 0), False),
    ],
)
def test_the_brokers_hours(hours: str, moment: tuple[int, int, int], expected: bool) -> None:
    day, hour, minute = moment
    now = datetime(2026, 2, day, hour, minute, tzinfo=NEW_YORK)
    assert is_open(hours, NEW_YORK, now) is expected


def test_no_new_order_just_before_a_restart_but_changes_go_through() -> None:
    rules = TradingRules(restart_guard_seconds=120)
    assert codes(context(rules=rules, seconds_to_restart=90)) == {"restart-window"}
    assert codes(context(rules=rules, seconds_to_restart=90, change=True)) == set()
    assert codes(context(rules=rules, seconds_to_restart=121)) == set()
    assert codes(context(rules=rules)) == set()


def test_a_sale_below_the_market_is_worth_what_the_market_gives() -> None:
    cheap = {"action": "SELL", "limit_price": 95.0, "quantity": 100.0}
    assert context(cheap).notional == pytest.approx(9990.0)
    assert context(cheap | {"limit_price": 120.0}).notional == 12_000.0
    assert context(cheap | {"action": "BUY"}).notional == 9_500.0


@pytest.mark.parametrize(
    ("exit_", "wrong"),
    [
        ({"limit_price": 101.0}, False),
        ({"limit_price": 100.0}, True),
        ({"order_type": "STP", "limit_price": None, "stop_price": 99.0}, False),
        ({"order_type": "STP", "limit_price": None, "stop_price": 100.1}, True),
    ],
)
def test_exits_of_a_market_order_lie_around_the_market(exit_: dict[str, Any], wrong: bool) -> None:
    entry = Order(action="BUY", quantity=10.0, order_type="MKT", account="DU1234567")
    leg = context({"action": "SELL"} | exit_, closing=True, entry=entry)
    assert ("invalid-field" in codes(leg)) is wrong


TOUCHED = {"order_type": "LIT"}
CONDITION = {"conditions": (OrderCondition(con_id=1, exchange="SMART", price=1.0),)}
BREAKS_OUT = {"conditions": (OrderCondition(con_id=265598, exchange="SMART", price=110.0),)}


@pytest.mark.parametrize(
    ("entry", "loss", "wrong"),
    [
        ({"limit_price": 105.0}, 103.0, True),
        ({"limit_price": 105.0}, 100.1, True),
        ({"limit_price": 105.0}, 100.0, False),
        ({"limit_price": 99.0}, 98.0, False),
        ({"order_type": "MTL"}, 103.0, True),
        ({"order_type": "REL", "limit_price": 105.0}, 103.0, True),
        ({"order_type": "MIT", "stop_price": 105.0}, 103.0, True),
        ({"order_type": "MIT", "stop_price": 99.0}, 98.0, False),
        (TOUCHED | {"stop_price": 105.0, "limit_price": 105.0}, 103.0, True),
        ({"order_type": "STP", "stop_price": 105.0}, 103.0, False),
        ({"order_type": "STP LMT", "stop_price": 105.0, "limit_price": 106.0}, 103.0, False),
        ({"order_type": "STP LMT", "stop_price": 99.0, "limit_price": 106.0}, 103.0, True),
        ({"limit_price": 105.0} | CONDITION, 103.0, False),
        ({"order_type": "MKT"} | CONDITION, 103.0, True),
        ({"order_type": "MKT"} | BREAKS_OUT, 103.0, False),
        ({"limit_price": 105.0, "good_after_time": "20260214 10:00:00"}, 103.0, False),
        ({"order_type": "LOC", "limit_price": 105.0}, 103.0, False),
        ({"order_type": "TRAIL", "trail_amount": 5.0}, 103.0, False),
        ({"action": "SELL", "limit_price": 95.0}, 97.0, True),
        ({"action": "SELL", "limit_price": 95.0}, 99.95, False),
        ({"action": "SELL", "limit_price": 101.0}, 102.0, False),
    ],
)
def test_exits_lie_around_the_price_at_which_their_entry_fills(
    entry: dict[str, Any], loss: float, wrong: bool
) -> None:
    terms: dict[str, Any] = {"action": "BUY", "quantity": 10.0, "order_type": "LMT"}
    first = Order(**(terms | entry))
    against = "SELL" if first.action == "BUY" else "BUY"
    exit_ = {"action": against, "order_type": "STP", "limit_price": None, "stop_price": loss}
    leg = context(exit_, closing=True, entry=first)
    assert codes(leg) == ({"invalid-field"} if wrong else set())
    assert codes(structs.replace(leg, reference=None)) == set()


@pytest.mark.parametrize(
    ("order", "refused"),
    [
        ({"stop_price": 500.0, "limit_price": 500.0}, True),
        ({"stop_price": 500.0, "limit_price": 110.0}, False),
        ({"stop_price": 80.0, "limit_price": 90.0}, True),
        ({"stop_price": 80.0, "limit_price": 85.0}, False),
        ({"action": "SELL", "stop_price": 1.0, "limit_price": 1.0}, True),
        ({"action": "SELL", "stop_price": 1.0, "limit_price": 95.0}, False),
        ({"action": "SELL", "stop_price": 120.0, "limit_price": 100.0}, True),
        ({"action": "SELL", "stop_price": 120.0, "limit_price": 115.0}, False),
    ],
)
@pytest.mark.parametrize("change", [False, True])
def test_what_is_touched_already_is_held_against_the_market(
    order: dict[str, Any], refused: bool, change: bool
) -> None:
    found = codes(context(TOUCHED | order, change=change))
    assert found == ({"price-band"} if refused else set())


def test_the_band_of_one_that_is_touched_without_a_quote_and_on_an_option() -> None:
    far = TOUCHED | {"stop_price": 500.0, "limit_price": 500.0}
    assert codes(context(far, reference=None)) == set()
    option = far | {"quantity": 1.0}
    cheap = Reference(bid=0.36, ask=0.37)
    assert codes(context(option, contract=CALL, reference=cheap)) == {"price-band"}


TRAILING = {"order_type": "TRAIL LIMIT", "limit_price": None, "trail_amount": 5.0}


@pytest.mark.parametrize("side", ["BUY", "SELL"])
@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize(
    ("terms", "most"),
    [({}, 9.5), ({"trail_stop_price": 80.0}, 8.0), ({"trail_percent": 10.0}, 9.0)],
)
def test_what_trails_may_not_fill_far_beyond_its_stop(
    side: str, closing: bool, change: bool, terms: dict[str, Any], most: float
) -> None:
    """A huge offset is an order at any price in disguise."""
    if side == "BUY" and "trail_stop_price" not in terms:
        most += 1.0 if "trail_percent" not in terms else 2.0
    order = TRAILING | {"action": side} | terms
    order = order | ({"trail_amount": None} if "trail_percent" in terms else {})
    even = Reference(bid=100.0, ask=100.0, last=100.0)
    for offset, refused in ((most, False), (most + 0.01, True), (1e6, True)):
        found = context(
            order | {"limit_offset": offset}, reference=even, closing=closing, change=change,
            rules=TradingRules(max_notional=None, max_notional_per_day=None),
        )  # fmt: skip
        assert codes(found) == ({"price-band"} if refused else set()), offset
    wrong = violations([found])[0]
    assert wrong.field == "limitOffset"
    assert wrong.limit == pytest.approx(most)


@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_stop_that_was_made_up_far_away_excuses_no_offset(side: str, change: bool) -> None:
    far = TRAILING | {"action": side, "trail_amount": 1.0, "trail_stop_price": 10_000.0}
    unlimited = TradingRules(max_notional=None, max_notional_per_day=None)
    for offset, refused in ((1000.0, True), (9.0, False)):
        found = context(far | {"limit_offset": offset}, rules=unlimited, change=change)
        assert codes(found) == ({"price-band"} if refused else set())


def test_a_wide_trail_of_a_seller_is_held_against_the_stop_that_it_names() -> None:
    """The stop only rises from there."""
    wide = TRAILING | {"action": "SELL", "trail_amount": 50.0, "trail_stop_price": 90.0}
    assert codes(context(wide | {"limit_offset": 8.9})) == set()
    assert codes(context(wide | {"limit_offset": 9.1})) == {"price-band"}


def test_an_offset_without_a_quote_is_not_judged() -> None:
    sale = TRAILING | {"action": "SELL", "limit_offset": 1e6}
    assert codes(context(sale, reference=None, closing=True)) == set()
    assert codes(context(sale, reference=None)) == {"no-quote"}
    assert codes(context(sale, rules=TradingRules(price_band_percent=None))) == set()


def combined(*quoted: bool, change: bool = False, **rules: Any) -> RiskContext:
    """A thousand shares a unit against a call, at a limit far through any market."""
    share, call = (
        PricedLeg(
            details=ContractDetails(contract=contract),
            ratio=ratio,
            sign=sign,
            reference=QUOTE if known else None,
        )
        for contract, ratio, sign, known in zip(
            (AAPL, CALL), (1000, 1), (1, -1), quoted, strict=True
        )
    )
    bag = Contract(symbol="AAPL", sec_type="BAG", multiplier="100")
    return context(
        {"quantity": 3.0, "limit_price": 9000.0},
        contract=bag,
        legs=(share, call),
        reference=net_reference(bag, (share, call)),
        change=change,
        enlarges=change,
        rules=TradingRules(max_quantity=None, **rules),
    )


@pytest.mark.parametrize("change", [False, True])
def test_a_combination_of_unknown_worth_is_refused_where_money_is_limited(change: bool) -> None:
    for quoted in ((True, False), (False, True), (False, False)):
        assert codes(combined(*quoted, change=change)) == {"no-quote"}
    for limits in ({"max_notional": None}, {"max_notional_per_day": None}):
        assert codes(combined(True, False, change=change, **limits)) == {"no-quote"}
    unlimited: dict[str, Any] = {"max_notional": None, "max_notional_per_day": None}
    assert codes(combined(True, False, change=change, **unlimited)) == set()
    wanted = combined(True, False, change=change, **unlimited, require_quote=True)
    assert codes(wanted) == {"no-quote"}
    smaller = structs.replace(combined(True, False, change=True), enlarges=False)
    assert codes(smaller) == set()
    assert codes(combined(True, True, change=change)) == {"max-notional", "price-band"}
    for passing in ("closing", "closes", "reduces"):
        unknown = combined(True, False, change=change)
        assert codes(structs.replace(unknown, **{passing: True})) == set()


@pytest.mark.parametrize(
    "order",
    [
        {"limit_price": 0.01},
        {"order_type": "LIT", "stop_price": 0.01, "limit_price": 0.01},
        {"order_type": "LOC", "limit_price": 0.01},
        {"order_type": "MIT", "stop_price": 0.01, "limit_price": None},
        {"order_type": "TRAIL", "limit_price": None, "trail_amount": 1, "trail_stop_price": 0.01},
    ],
)
def test_what_a_sale_brings_is_unknown_without_a_quote(order: dict[str, Any]) -> None:
    """Its limit says only the least."""
    sale = context(order | {"action": "SELL"}, reference=None)
    assert codes(sale) == {"no-quote"}
    for passing in ({"reduces": True}, {"closes": True}, {"closing": True}, {"change": True}):
        assert codes(structs.replace(sale, **passing)) == set()
    assert codes(structs.replace(sale, reference=Reference(bid=1.0))) <= {"price-band"}
    unlimited = TradingRules(max_notional=None, max_notional_per_day=None)
    assert codes(structs.replace(sale, rules=unlimited)) == set()
    bound = structs.replace(sale, rules=unlimited, bounds=KeyBounds(max_notional=1e6))
    assert codes(bound) == {"key-max-notional"}


def test_a_finding_about_a_missing_quote_is_told_once() -> None:
    [found] = violations([context(MARKET, reference=None)])
    assert (found.code, found.field) == ("no-quote", "orderType")
    [found] = violations([combined(True, False, require_quote=True)])
    assert (found.code, found.field) == ("no-quote", "legs")


def test_shares_in_a_combination_count_as_shares() -> None:
    some: dict[str, Any] = {"max_notional": None, "option_price_band_percent": None}
    bag = structs.replace(combined(True, True), rules=TradingRules(**some, max_quantity=3000))
    assert codes(bag) == set()
    fewer = structs.replace(bag, rules=TradingRules(**some, max_quantity=2999))
    [found] = violations([fewer])
    assert (found.code, found.value, found.limit) == ("max-quantity", 3000, 2999)


def test_an_option_without_a_limit_is_told_how_to_have_one() -> None:
    """Also for the stop of a bracket, whose limit has a place of its own."""
    told = {
        kind: next(
            market_order_on_option(context(terms | {"quantity": 1.0}, contract=CALL))
        ).message
        for kind, terms in (("MKT", MARKET), ("STP", STOP))
    }
    assert told["MKT"].endswith("use LMT with a limitPrice")
    assert "STP_LMT with a limitPrice" in told["STP"]
    assert "stopLoss: {stopPrice, limitPrice}" in told["STP"]


def option_order(action: str, right: str, price: float | None, **changes: Any) -> RiskContext:
    contract = structs.replace(CALL, right=right)
    order = {"action": action, "quantity": 2.0, "limit_price": price}
    if price is None:
        order["order_type"] = "MKT"
    rules = {"max_notional": None, "option_price_band_percent": None, **changes.pop("rules", {})}
    return context(
        order,
        contract=contract,
        rules=TradingRules(market_orders_on_options=True, **rules),
        **({"reference": Reference(bid=4.0, ask=5.0)} | changes),
    )


@pytest.mark.parametrize(
    ("action", "right", "price", "lost"),
    [
        ("BUY", "C", 5.0, 1_000),
        ("BUY", "P", 4.5, 900),
        ("BUY", "C", None, 1_000),  # at the ask
        ("SELL", "P", 4.0, 2 * (200 - 4) * 100),
        ("SELL", "P", None, 2 * (200 - 4) * 100),
        ("SELL", "C", 4.0, None),
    ],
)
def test_what_an_option_can_lose(
    action: str, right: str, price: float | None, lost: float | None
) -> None:
    found = loss(option_order(action, right, price))
    assert found == (None if lost is None else pytest.approx(lost))
    if lost is None:
        return
    exactly = option_order(action, right, price, rules={"max_loss": lost})
    assert codes(exactly) == set()
    [refused] = violations([option_order(action, right, price, rules={"max_loss": lost - 1})])
    assert (refused.code, refused.value, refused.limit) == ("max-loss", lost, lost - 1)
    assert f"{lost:,.2f} USD" in refused.message


def test_a_loss_without_a_bound_passes_only_when_that_is_allowed() -> None:
    limit = {"max_loss": 1_000_000}
    [refused] = violations([option_order("SELL", "C", 4.0, rules=limit)])
    assert (refused.code, refused.limit) == ("max-loss-undefined", 1_000_000)
    assert codes(option_order("SELL", "C", 4.0, rules=limit | {"undefined_loss": "allow"})) == set()
    assert codes(option_order("SELL", "C", 4.0)) == set()  # no limit is set
    unknown = option_order("BUY", "C", None, rules=limit, reference=None)
    assert "max-loss-undefined" in codes(unknown)


def test_a_loss_is_limited_in_the_currency_of_the_account() -> None:
    limit = {"max_loss": 500.0}
    dear = option_order("BUY", "C", 5.0, rules=limit, exchange=Exchange(base="CHF", rate=0.6))
    [refused] = violations([dear])
    assert (refused.code, refused.value) == ("max-loss", 600)
    assert "600.00 CHF" in refused.message
    cheap = option_order("BUY", "C", 5.0, rules=limit, exchange=Exchange(base="CHF", rate=0.4))
    assert codes(cheap) == set()
    unknown = option_order("BUY", "C", 5.0, rules=limit, exchange=Exchange(base="CHF"))
    assert codes(unknown) == {"no-exchange-rate"}


def test_a_sold_option_that_trails_brings_what_its_limit_says() -> None:
    """At the market it would bring 4."""
    trail = {"order_type": "TRAIL LIMIT", "trail_amount": 3.5, "limit_offset": 0.2}
    sold = option_order("SELL", "P", None, rules={"max_loss": 39_500})
    sold = structs.replace(sold, order=structs.replace(sold.order, **trail))
    assert loss(sold) == pytest.approx(2 * (200 - 0.3) * 100)
    assert codes(sold) == {"max-loss"}


def test_what_may_be_filled_leg_by_leg_can_lose_nobody_knows_what() -> None:
    whole = combined(True, True, max_notional=None, option_price_band_percent=None)
    assert loss(whole) is not None
    apart = structs.replace(whole, order=structs.replace(whole.order, non_guaranteed=True))
    assert loss(apart) is None
    limited = structs.replace(apart.rules, max_loss=1e9)
    assert codes(structs.replace(apart, rules=limited)) == {"max-loss-undefined"}
    assert codes(structs.replace(apart, rules=limited, reduces=True)) == set()


def test_what_closes_is_no_loss_and_shares_have_their_own_limit() -> None:
    limit = {"max_loss": 1.0}
    for closing in ({"closes": True}, {"reduces": True}, {"closing": True}):
        assert codes(option_order("SELL", "C", 4.0, rules=limit, **closing)) == set()
    assert codes(context({}, rules=TradingRules(max_loss=1.0))) == set()


def test_a_trailing_stop_that_no_price_reaches_is_refused() -> None:
    trail = {"order_type": "TRAIL", "limit_price": None, "action": "SELL", "trail_amount": 1771.0}
    (found,) = violations([context(trail)])
    assert (found.code, found.field, found.value) == ("invalid-field", "trailAmount", 1771.0)
    assert "invalid-field" in codes(context(trail, closing=True))  # the exit of a bracket
    assert "invalid-field" in codes(context(trail, change=True, trail_named=True))
    for sound in (
        context(trail | {"trail_amount": 50.0}),
        context(trail | {"trail_stop_price": 90.0}),
        context(trail | {"action": "BUY", "quantity": 1.0}),
        context(trail, reference=None),
        context(trail, change=True),  # the price may have fallen since: it must stay changeable
    ):
        assert "invalid-field" not in codes(sound)
