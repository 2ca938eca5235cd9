from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from bridge.market.exchange_time import days_to_expiration, exchange_day, exchange_zone, parse_day


@pytest.mark.parametrize(
    ("time_zone_id", "zone"),
    [
        ("US/Eastern", "US/Eastern"),
        ("EST (Eastern Standard Time)", "America/New_York"),
        ("EST5EDT", "America/New_York"),
        ("MET", "Europe/Paris"),
        ("", "America/New_York"),
        ("../../etc/passwd", "America/New_York"),
        ("Nowhere/Atall", "America/New_York"),
    ],
)
def test_zone_of_a_contract(time_zone_id: str, zone: str) -> None:
    assert exchange_zone(time_zone_id).key == zone


def test_the_day_is_the_exchanges_not_utcs() -> None:
    # 00:30 UTC on Saturday is Friday evening in New York: Friday's options have 0 days left there.
    now = datetime(2026, 3, 21, 0, 30, tzinfo=UTC)
    zone = exchange_zone("US/Eastern")
    assert exchange_day(zone, now) == date(2026, 3, 20)
    assert days_to_expiration("20260320", zone, now) == 0
    assert days_to_expiration("20260320", exchange_zone("JST (Japan Standard Time)"), now) == -1


def test_days_count_across_the_change_to_summer_time() -> None:
    zone = exchange_zone("US/Eastern")
    assert days_to_expiration("20260309", zone, datetime(2026, 3, 8, 4, 59, tzinfo=UTC)) == 2
    assert days_to_expiration("20260309", zone, datetime(2026, 3, 8, 5, 0, tzinfo=UTC)) == 1


@pytest.mark.parametrize("text", ["2026-3-2", "202602", "20260230", "²0260203", ""])
def test_what_is_not_a_day(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_day(text)


def test_a_day_with_a_time_after_it() -> None:
    assert parse_day("20260320 15:00:00 US/Central") == date(2026, 3, 20)
