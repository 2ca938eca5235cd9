from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bridge.broker_time import exchange_zone
from bridge.market.history import HistoryCache, PageKey, is_settled
from bridge.market.history_plan import HistoryPlan, pages_needed, parse_bar_size, parse_duration
from bridge.model import Bar

if TYPE_CHECKING:
    from collections.abc import Callable


from bridge.market.errors import InvalidFieldError
from bridge.market.history_plan import (
    BAR_SIZES,
    fits_one_request,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("5 mins", "5 mins"),
        ("5m", "5 mins"),
        ("300s", "5 mins"),
        ("1h", "1 hour"),
        ("60 mins", "1 hour"),
        ("1d", "1 day"),
        ("24 hours", "1 day"),
        ("1mo", "1 month"),
        (" 1 SECS ", "1 secs"),
    ],
)
def test_spellings_of_a_bar_size(text: str, meant: str) -> None:
    assert parse_bar_size(text) is BAR_SIZES[meant]


@pytest.mark.parametrize("text", ["7 mins", "0 mins", "-1 day", "day", "", "1 fortnight", "٣ mins"])
def test_sizes_that_do_not_exist_name_their_field(text: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        parse_bar_size(text)
    assert caught.value.extra["errors"][0]["field"] == "barSize"


@pytest.mark.parametrize(
    ("text", "meant"),
    [("1 D", "1 D"), ("10d", "10 D"), ("2 weeks", "2 W"), ("3 months", "3 M"), ("1y", "1 Y")],
)
def test_durations(text: str, meant: str) -> None:
    assert parse_duration(text).text == meant


@pytest.mark.parametrize(
    "text", ["", "D", "0 D", "366 D", "31 Y", "1 H", "1.5 D", "-5 D", "9" * 30]
)
def test_durations_out_of_bounds(text: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        parse_duration(text)
    assert caught.value.extra["errors"][0]["field"] == "duration"


@pytest.mark.parametrize(
    ("duration", "size", "fits"),
    [
        ("1 D", "1 min", True),
        ("2 D", "1 min", False),
        ("5 D", "5 mins", True),
        ("6 D", "5 mins", False),
        ("1 M", "1 hour", True),
        ("2 M", "1 hour", False),
        ("1 Y", "1 day", True),
        ("252 D", "1 day", True),
        ("2 Y", "1 day", False),
        ("1800 S", "1 secs", True),
        ("1 D", "1 secs", False),
    ],
)
def test_what_one_request_may_ask(duration: str, size: str, fits: bool) -> None:
    assert fits_one_request(parse_duration(duration), parse_bar_size(size)) is fits


ZONE = exchange_zone("US/Eastern")
NOW = datetime(2026, 3, 3, 15, 30, tzinfo=UTC)  # Tuesday, an hour after the open


def bar(moment: datetime, day: str = "") -> Bar:
    return Bar(time=moment, open=1, high=1, low=1, close=1, date=day)


def sessions(first: date, last: date, minutes: int) -> tuple[Bar, ...]:
    """Regular sessions in winter time: 14:30 to 21:00 UTC on weekdays."""
    bars = []
    day = first
    while day <= last:
        if day.weekday() < 5:
            opening = datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)
            bars += [bar(opening + timedelta(minutes=minute)) for minute in range(0, 390, minutes)]
        day += timedelta(days=1)
    return tuple(one for one in bars if one.time < NOW)


ALL = sessions(date(2026, 1, 20), date(2026, 3, 3), 5)


def broker(bars: tuple[Bar, ...]) -> Callable[[datetime | None, str], tuple[Bar, ...]]:
    """Answers as the broker does: days are trading days back from the end."""

    def ask(end: datetime | None, duration: str) -> tuple[Bar, ...]:
        stop = end or NOW
        wanted = parse_duration(duration)
        before = [one for one in bars if one.time < stop]
        if wanted.unit == "D":
            days = sorted({one.time.date() for one in before})[-wanted.count :]
            return tuple(one for one in before if one.time.date() in days)
        return tuple(one for one in before if one.time >= stop - wanted.span)

    return ask


def run(
    duration: str, size: str, bars: tuple[Bar, ...], end: datetime | None = None
) -> tuple[tuple[Bar, ...], list[tuple[datetime | None, str]]]:
    plan = HistoryPlan(parse_duration(duration), parse_bar_size(size), end, NOW, ZONE)
    asked = []
    ask = broker(bars)
    while (page := plan.next_page()) is not None:
        asked.append(page)
        assert len(asked) < 60, "the plan never ends"
        plan.took(ask(*page), page[0], NOW)
    return plan.bars(), asked


def test_what_fits_is_passed_through_unchanged() -> None:
    bars, asked = run("5 D", "5 mins", ALL)
    assert asked == [(None, "5 D")]
    assert len({one.time.date() for one in bars}) == 5


@pytest.mark.parametrize("count", [6, 10, 20])
def test_trading_days_beyond_one_request(count: int) -> None:
    bars, asked = run(f"{count} D", "5 mins", ALL)
    days = sorted({one.time.date() for one in ALL})[-count:]
    assert bars == tuple(one for one in ALL if one.time.date() in days)
    assert {duration for _, duration in asked} == {"1 W"}


def test_pages_in_days_ask_for_what_is_left_and_no_more() -> None:
    bars, asked = run("5 D", "2 mins", ALL)
    assert [duration for _, duration in asked] == ["2 D", "2 D", "1 D"]
    assert len({one.time.date() for one in bars}) == 5


def test_all_pages_but_the_newest_have_the_same_names_later_that_day() -> None:
    _, first = run("10 D", "5 mins", ALL)
    _, again = run("10 D", "5 mins", ALL)
    assert first == again
    assert first[0][0] is None
    assert all(end is not None and is_settled(end, NOW) for end, _ in first[1:])


def test_calendar_time_is_cut_where_it_was_asked_for() -> None:
    bars, _ = run("3 W", "5 mins", ALL)
    earliest = NOW - timedelta(weeks=3)
    assert bars == tuple(one for one in ALL if one.time >= earliest)


def test_it_ends_where_the_data_ends() -> None:
    few = sessions(date(2026, 2, 23), date(2026, 3, 3), 5)
    bars, asked = run("60 D", "5 mins", few)
    assert bars == few
    assert len(asked) <= 5


def test_nothing_at_all() -> None:
    bars, asked = run("60 D", "5 mins", ())
    assert bars == ()
    assert len(asked) == 2


def test_seconds_pages_cross_the_night() -> None:
    bars, _ = run("2 D", "30 secs", sessions(date(2026, 2, 23), date(2026, 3, 3), 1))
    assert sorted({one.time.date() for one in bars}) == [date(2026, 3, 2), date(2026, 3, 3)]


def test_daily_bars_are_cut_by_the_exchanges_midnight() -> None:
    days = [date(2024, 1, 1) + timedelta(days=index) for index in range(780)]
    daily = tuple(
        bar(datetime(day.year, day.month, day.day, tzinfo=UTC), day.strftime("%Y%m%d"))
        for day in days
        if day.weekday() < 5
    )
    bars, asked = run("2 Y", "1 day", daily)
    assert [duration for _, duration in asked] == ["1 Y"] * len(asked)
    assert asked[1][0] is not None
    assert asked[1][0].astimezone(ZONE).hour == 0
    assert len({one.date for one in bars}) == len(bars)
    assert bars[0].date >= "20240228"


@pytest.mark.parametrize(
    ("duration", "size", "pages"),
    [("1 D", "1 min", 1), ("10 D", "1 min", 10), ("10 Y", "1 day", 10), ("1 D", "1 secs", 68)],
)
def test_how_many_requests_it_takes(duration: str, size: str, pages: int) -> None:
    assert pages_needed(parse_duration(duration), parse_bar_size(size)) == pages


def key(day: date, end: datetime = NOW, exchange: str = "SMART") -> PageKey:
    return PageKey(
        con_id=1,
        exchange=exchange,
        bar_size="5 mins",
        what_to_show="TRADES",
        use_rth=True,
        end=end,
        duration="1 W",
        asked_on=day,
    )


def test_a_cached_page_does_not_outlive_the_exchanges_day() -> None:
    cache = HistoryCache()
    cache.put(key(date(2026, 3, 3)), ALL[:10])
    assert cache.get(key(date(2026, 3, 3))) == ALL[:10]
    assert cache.get(key(date(2026, 3, 4))) is None
    assert cache.get(key(date(2026, 3, 3), exchange="IEX")) is None
    cache.put(key(date(2026, 3, 5)), ALL[:10])
    assert len(cache) == 1


def test_the_cache_is_bounded_by_memory() -> None:
    cache = HistoryCache(max_bytes=320 * 100)
    for hour in range(20):
        cache.put(key(date(2026, 3, 3), NOW - timedelta(hours=hour)), ALL[:30])
        cache.get(key(date(2026, 3, 3), NOW))
    assert cache.bars == 90
    assert cache.get(key(date(2026, 3, 3), NOW)) is not None
    cache.put(key(date(2026, 3, 3)), ALL[:101])
    assert cache.get(key(date(2026, 3, 3))) is None


def test_only_the_settled_past_is_settled() -> None:
    assert not is_settled(None, NOW)
    assert not is_settled(NOW - timedelta(minutes=4), NOW)
    assert is_settled(NOW - timedelta(minutes=5), NOW)
