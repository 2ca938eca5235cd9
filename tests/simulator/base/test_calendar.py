from __future__ import annotations

from datetime import date, datetime

import pytest

from simulator.clock import EASTERN
from simulator.contracts.details import hours
from simulator.market import calendar


def at(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=EASTERN).timestamp()


@pytest.mark.parametrize(
    ("day", "open_"),
    [
        (date(2026, 11, 20), True),
        (date(2026, 11, 21), False),
        (date(2026, 11, 26), False),
        (date(2026, 4, 3), False),
        (date(2026, 7, 3), False),
        (date(2025, 1, 9), False),
    ],
)
def test_trading_days(day: date, open_: bool) -> None:
    assert calendar.is_trading_day(day) is open_


def test_the_day_after_thanksgiving_closes_at_one() -> None:
    span = calendar.regular("STK", date(2026, 11, 27))
    assert span is not None
    assert span == (at("2026-11-27 09:30"), at("2026-11-27 13:00"))


def test_daylight_saving_moves_the_open_by_an_hour_of_utc() -> None:
    before, after = (
        calendar.regular("STK", date(2026, 3, 6)),
        calendar.regular("STK", date(2026, 3, 9)),
    )
    assert before is not None
    assert after is not None
    assert after.start - before.start == 3 * 86_400 - 3600


def test_futures_and_currencies_trade_through_the_night() -> None:
    night = at("2026-11-24 02:00")
    assert calendar.span_at("STK", night, liquid=False) is None
    assert calendar.span_at("FUT", night, liquid=False)
    assert calendar.span_at("CASH", night, liquid=False)
    assert calendar.span_at("FUT", at("2026-11-24 17:30"), liquid=False) is None
    assert calendar.span_at("CASH", at("2026-11-21 12:00"), liquid=False) is None
    assert calendar.span_at("FUT", at("2026-11-22 18:30"), liquid=False)


def test_the_next_and_the_last_hours_skip_weekends_and_holidays() -> None:
    wednesday = at("2026-11-25 16:30")
    assert calendar.next_span("STK", wednesday, liquid=True).start == at("2026-11-27 09:30")
    assert calendar.last_span("STK", at("2026-11-27 09:00"), liquid=True).end == at(
        "2026-11-25 16:00"
    )


def test_hours_as_the_gateway_writes_them() -> None:
    text = hours("STK", "US/Eastern", date(2026, 11, 25), True)
    assert text.split(";")[:3] == [
        "20261125:0930-20261125:1600",
        "20261126:CLOSED",
        "20261127:0930-20261127:1300",
    ]
    future = hours("FUT", "US/Central", date(2026, 11, 24), False)
    assert future.split(";")[0] == "20261123:1700-20261124:1600"


def test_the_file_of_closed_days_is_what_the_library_says() -> None:
    assert calendar.closed_days() == calendar.from_library()
    assert calendar.FILE.read_text() == calendar.written(calendar.from_library())
