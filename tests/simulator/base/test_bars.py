"""Bars of every size agree in themselves, with each other and with the ticks."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulator.clock import EASTERN
from simulator.contracts import details
from simulator.contracts.catalog import Catalog
from simulator.contracts.contract import Contract, Query
from simulator.market import bars, calendar
from simulator.market.bars import Bar
from simulator.market.calendar import Span
from simulator.market.market import Market
from simulator.market.noise import STEP

CATALOG = Catalog()
NOW = datetime(2026, 11, 20, 11, 0, tzinfo=EASTERN).timestamp()
HALF_DAY = date(2026, 11, 27)
WORDS: dict[str, dict[str, object]] = {
    "SPY": {"symbol": "SPY", "sec_type": "STK", "currency": "USD"},
    "F": {"symbol": "F", "sec_type": "STK", "currency": "USD"},
    "ES": {"symbol": "ES", "sec_type": "FUT", "expiry": "202612"},
    "CL": {"symbol": "CL", "sec_type": "FUT", "local_symbol": "CLH7"},
    "EUR": {"symbol": "EUR", "sec_type": "CASH", "currency": "USD"},
    "SPX": {"symbol": "SPX", "sec_type": "IND"},
    "AAPL C": {"symbol": "AAPL", "sec_type": "OPT", "expiry": "20261218", "strike": 200.0},
    "SPXW P": {"symbol": "SPX", "sec_type": "OPT", "expiry": "20261224", "strike": 5900.0},
}
RIGHTS = {"AAPL C": "C", "SPXW P": "P"}
KINDS = {
    "STK": ("TRADES", "ADJUSTED_LAST", "MIDPOINT", "BID", "ASK", "BID_ASK"),
    "FUT": ("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK"),
    "OPT": ("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK"),
    "CASH": ("MIDPOINT", "BID", "ASK", "BID_ASK"),
    "IND": ("TRADES",),
}


def found(name: str) -> Contract:
    more = {"right": RIGHTS[name]} if name in RIGHTS else {}
    query = Query(**(WORDS[name] | more))  # type: ignore[arg-type]
    return next(iter(CATALOG.find(query, NOW)))


def read(
    market: Market, name: str, size: float, stretch: Span, kind: str = "", *, liquid: bool = False
) -> list[Bar]:
    contract = found(name)
    kind = kind or KINDS[contract.sec_type][0]
    return list(bars.bars(market, contract, kind, size, stretch, liquid=liquid))


def sound(bar: Bar) -> bool:
    inside = bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
    return inside and (bar.volume <= 0 or bar.low <= bar.average <= bar.high)


def same(whole: Bar, parts: list[Bar]) -> None:
    """A bar is the sum of the bars that lie in it."""
    assert (whole.open, whole.close) == (parts[0].open, parts[-1].close)
    assert whole.high == max(each.high for each in parts)
    assert whole.low == min(each.low for each in parts)
    if whole.volume >= 0:
        assert whole.volume == sum(each.volume for each in parts)
        assert whole.trades == sum(each.trades for each in parts)


DAYS = st.dates(date(2025, 1, 1), date(2026, 12, 31))


@settings(max_examples=25)
@given(name=st.sampled_from(sorted(WORDS)), day=DAYS, seed=st.integers(1, 50), liquid=st.booleans())
@example(name="SPY", day=HALF_DAY, seed=1, liquid=False)
@example(name="SPY", day=HALF_DAY, seed=1, liquid=True)
def test_a_day_is_the_sum_of_its_hours_and_those_of_their_minutes(
    name: str, day: date, seed: int, liquid: bool
) -> None:
    market, contract = Market(CATALOG, seed, "exchange"), found(name)
    hours = calendar.regular if liquid else calendar.trading
    span = hours(contract.sec_type, day)
    if span is None:
        return
    for kind in KINDS[contract.sec_type]:
        by_size = {
            size: read(market, name, size, span, kind, liquid=liquid)
            for size in (86_400.0, 14_400.0, 3600.0, 1800.0, 900.0)
        }
        assert all(sound(bar) for each in by_size.values() for bar in each)
        [whole] = by_size.pop(86_400.0)
        for parts in by_size.values():
            if kind != "BID_ASK":  # its open and close are averages
                same(whole, parts)
    part = Span(span.start + 3600, span.start + 7200)
    quarter = read(market, name, 900.0, part, liquid=liquid)
    for finer in (300.0, 60.0, 30.0):
        parts = read(market, name, finer, part, liquid=liquid)
        assert all(sound(bar) for bar in parts)
        for whole in quarter:
            same(whole, [each for each in parts if whole.start <= each.start < whole.end])


@settings(max_examples=20)
@given(name=st.sampled_from(sorted(WORDS)), day=DAYS, minute=st.integers(0, 380))
@example(name="SPXW P", day=date(2026, 12, 28), minute=5)  # it has expired, worthless
def test_minutes_seconds_and_ticks_agree(name: str, day: date, minute: int) -> None:
    market, contract = Market(CATALOG, 1, "exchange"), found(name)
    span = calendar.regular(contract.sec_type, day)
    if span is None or span.start + 60 * minute + 60 > span.end:
        return
    part = Span(span.start + 60 * minute, span.start + 60 * minute + 60)
    [whole] = read(market, name, 60.0, part)
    for finer in (30.0, 15.0, 10.0, 5.0, 1.0):
        same(whole, read(market, name, finer, part))
    if contract.sec_type in ("STK", "FUT", "OPT"):
        looks = [market.price_quote(contract, part.start + STEP * n).last for n in range(240)]
        assert (looks[0], max(looks), min(looks), looks[-1]) == whole[2:6]


@pytest.mark.parametrize("name", ["SPY", "ES", "EUR"])
@pytest.mark.parametrize("liquid", [True, False])
@pytest.mark.parametrize(("size", "days"), [(604_800.0, 70), (2_592_000.0, 400)])
def test_weeks_and_months_are_the_sum_of_their_days(
    name: str, liquid: bool, size: float, days: int
) -> None:
    market = Market(CATALOG, 1, "exchange")
    begin, end = (calendar.stamp(HALF_DAY - timedelta(days=each), 0) for each in (days, -3))
    longer = read(market, name, size, Span(begin, end), liquid=liquid)
    daily = read(market, name, 86_400.0, Span(begin, end), liquid=liquid)
    assert len(longer) > 5
    for whole in longer:
        assert sound(whole)
        same(whole, [each for each in daily if whole.start <= each.start < whole.end])


@settings(max_examples=40)
@given(name=st.sampled_from(sorted(WORDS)), step=st.integers(0, 4 * 86_400))
def test_the_bar_that_is_not_finished_is_the_day_so_far(name: str, step: int) -> None:
    market, contract = Market(CATALOG, 3, "exchange"), found(name)
    now = NOW + step * STEP + 0.1
    [*_, whole] = read(market, name, 86_400.0, Span(now - 5 * 86_400, now), liquid=True)
    assert sound(whole)
    assert whole.end <= now
    if calendar.span_at(contract.sec_type, now, liquid=True):
        day = market.day(contract, now)
        if contract.sec_type != "CASH":
            assert (day.open, day.high, day.low, day.volume) == (*whole[2:5], max(whole.volume, 0))


def test_the_average_of_a_day_is_that_of_its_hours_by_volume() -> None:
    market = Market(CATALOG, 1, "exchange")
    span = calendar.trading("STK", HALF_DAY - timedelta(days=2))
    assert span is not None
    [whole] = read(market, "SPY", 86_400.0, span)
    hours = read(market, "SPY", 3600.0, span)
    weighed = sum(each.average * each.volume for each in hours) / sum(each.volume for each in hours)
    assert whole.average == pytest.approx(weighed, abs=1e-4)


@pytest.mark.parametrize("name", ["AAPL C", "SPXW P"])
def test_prices_of_options_lie_on_their_increment(name: str) -> None:
    market, contract = Market(CATALOG, 1, "exchange"), found(name)
    edges = details.increments(details.rule_of(contract))
    assert edges is not None
    for number in range(400):
        quote = market.price_quote(contract, NOW - 3600 * number)
        assert quote.bid <= quote.last <= quote.ask
        for price in quote[:3]:
            step = max(step for low, step in edges if price >= low)
            assert abs(price / step - round(price / step)) < 1e-6
