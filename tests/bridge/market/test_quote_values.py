from __future__ import annotations

import math
from datetime import UTC, datetime

from bridge.market.quote_values import QuoteSlot
from bridge.model import Contract, MarketDataType, OptionTick, PriceTick, SizeTick, Tick, ValueTick

NOW = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)
STOCK = Contract(con_id=1, symbol="AAPL")
CALL = Contract(
    con_id=2, symbol="AAPL", sec_type="OPT", right="C", strike=200, expiration="20260320"
)


def slot(*ticks: Tick, contract: Contract = STOCK, kind: int = 1) -> QuoteSlot:
    made = QuoteSlot(contract)
    made.kind = MarketDataType(kind)
    for tick in ticks:
        made.apply(tick, 100.0, NOW)
    return made


def test_a_value_has_its_tag_and_age() -> None:
    view = slot(PriceTick("bid", 10.5, 3)).view(102.5)
    assert (view["bid"].value, view["bid"].tag, view["bid"].age) == (10.5, "live", 2.5)
    assert view["bidSize"].value == 3


def test_tags_follow_the_line_and_the_tick() -> None:
    assert slot(PriceTick("bid", 1, 1), kind=2).view(100)["bid"].tag == "frozen"
    assert slot(PriceTick("bid", 1, 1), kind=3).view(100)["bid"].tag == "delayed"
    assert slot(PriceTick("bid", 1, 1, delayed=True), kind=4).view(100)["bid"].tag == "frozen"
    # A delayed tick number is delayed, even if the line never said what it carries.
    assert slot(PriceTick("bid", 1, 1, delayed=True), kind=1).view(100)["bid"].tag == "delayed"


def test_an_interruption_makes_each_value_stale_until_that_value_ticks() -> None:
    made = slot(PriceTick("bid", 10, 1), PriceTick("ask", 11, 1))
    made.interrupted()
    assert {value.tag for value in made.view(101).values()} == {"stale"}
    made.apply(PriceTick("ask", 12, 1), 105.0, NOW)
    view = made.view(106)
    assert view["ask"].tag == "live"
    assert (view["bid"].tag, view["bid"].value, view["bid"].age) == ("stale", 10, 6.0)
    assert made.number("bid") is None
    assert made.number("ask") == 12


def test_no_price_is_a_value_of_its_own() -> None:
    made = slot(PriceTick("bid", 10, 1), PriceTick("bid", None, 0))
    assert made.view(100)["bid"].value is None
    assert made.fresh("bid")


def test_an_options_open_interest_is_its_own_sides() -> None:
    made = slot(SizeTick("callOpenInterest", 500), SizeTick("putOpenInterest", 9), contract=CALL)
    assert made.view(100)["openInterest"].value == 500
    assert set(made.view(100)) == {"openInterest"}
    assert slot(SizeTick("putOpenInterest", 9)).view(100)["putOpenInterest"].value == 9


def test_greeks_come_from_the_model() -> None:
    model = OptionTick("modelOption", 0.25, 0.5, 0.01, 0.2, -0.05, 7.5, 0.0, 201.0)
    bid = OptionTick("bidOption", 0.24, 0.9, None, None, None, None, None, None)
    made = slot(model, bid, contract=CALL)
    view = made.view(100)
    assert view["impliedVolatility"].value == 0.25
    assert view["delta"].value == 0.5
    assert view["bidImpliedVolatility"].value == 0.24
    assert view["underlyingPrice"].value == 201.0


def test_what_is_not_a_number_is_not_shown_as_one() -> None:
    made = slot(
        PriceTick("last", math.nan, None),
        ValueTick("impliedVolatility", math.inf),
        ValueTick("lastTimestamp", "1772550000"),
    )
    view = made.view(100)
    assert view["last"].value is None
    assert view["impliedVolatility"].value is None
    assert view["lastTimestamp"].value == "1772550000"
