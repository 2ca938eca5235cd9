"""Every form of a time of the broker's is read right, or is told not to be known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import broker_time
from bridge.broker_time import (
    days_left,
    days_to_expiration,
    exchange_day,
    exchange_zone,
    parse_day,
    session_of,
)
from bridge.model import Contract

SUMMER = "20250710 10:30:00"
WINTER = "20250110 10:30:00"


def at(hour: int, minute: int = 30, month: int = 7, day: int = 10) -> datetime:
    return datetime(2025, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20250710-10:30:00", at(10)),
        ("20250710-10:30:00 UTC", at(10)),
        ("20250710  10:30:00", at(14)),
        ("20250710 10:30:00", at(14)),
        ("2025-07-10 10:30:00.0", at(14)),
        ("2025-07-10T10:30:00Z", at(10)),
        ("1752157800", at(14)),
        ("1752157800000", at(14)),
        (f"{SUMMER} US/Eastern", at(14)),
        (f"{SUMMER} America/Chicago", at(15)),
        (f"{SUMMER} Europe/London", at(9)),
        (f"{SUMMER} GB", at(9)),
        (f"{SUMMER} Hongkong", at(2)),
        (f"{SUMMER} EST", at(14)),
        (f"{SUMMER} EDT", at(14)),
        (f"{SUMMER} EST (Eastern Standard Time)", at(14)),
        (f"{SUMMER} CST (Central Standard Time)", at(15)),
        (f"{SUMMER} CST (China Standard Time)", at(2)),
        (f"{SUMMER} IST (India Standard Time)", at(5, 0)),
        (f"{SUMMER} JST", at(1)),
        (f"{SUMMER} HKT", at(2)),
        (f"{SUMMER} CET", at(8)),
        (f"{SUMMER} China Standard Time", at(2)),
        (f"{SUMMER} Tokyo Standard Time", at(1)),
        (f"{SUMMER} W. Europe Standard Time", at(8)),
        (f"{SUMMER} GMT Standard Time", at(9)),
        (f"{SUMMER} Eastern Daylight Time", at(14)),
        (f"{SUMMER} Central European Summer Time", at(8)),
        (f"{SUMMER} GMT+08:00", at(2)),
        (f"{SUMMER} -0400", at(14)),
        (f"{WINTER} GMT", at(10, 30, 1)),
        (f"{WINTER} US/Eastern", at(15, 30, 1)),
        # the hour that comes twice, and the one that never comes
        ("20251102 01:30:00 EDT", at(5, 30, 11, 2)),
        ("20251102 01:30:00 EST", at(6, 30, 11, 2)),
        ("20251102 01:30:00 US/Eastern", None),
        ("20250309 02:30:00 US/Eastern", None),
        # short names that mean several zones
        (f"{SUMMER} CST", None),
        (f"{SUMMER} IST", None),
        (f"{SUMMER} BST", None),
        (f"{SUMMER} GMT", None),
        # contradictions, unknown zones, days, and what is no time
        ("20250710-10:30:00 US/Eastern", None),
        (f"{SUMMER} Nowhere/Atall", None),
        (f"{SUMMER} ../../etc/passwd", None),
        (f"{SUMMER} America", None),
        (f"{SUMMER} XYZ", None),
        (f"{SUMMER} GMT+99", None),
        ("20250710", None),
        ("20250231 10:30:00", None),
        ("20250710 25:30:00", None),
        ("19700101-00:00:00", None),
        ("0", None),
        ("-1", None),
        ("", None),
        ("2025" * 30, None),
        ("9999999999", None),
    ],
)
def test_a_time(text: str, moment: datetime | None) -> None:
    assert broker_time.read(text, "America/New_York") == moment


@pytest.mark.parametrize(
    ("name", "here", "exchange", "moment"),
    [
        ("CST", "America/Chicago", "SMART", at(15)),
        ("CST", "Asia/Shanghai", "SMART", at(2)),
        ("CST", "America/New_York", "CME", at(15)),
        ("CST", "America/New_York", "SEHKNTL", at(2)),
        ("CST", "Asia/Shanghai", "CME", None),  # each of the two would have it its own way
        ("IST", "America/New_York", "NSE", at(5, 0)),
        ("IST", "America/New_York", "TASE", at(7)),
        ("IST", "Europe/Dublin", "SMART", at(9)),
        ("BST", "America/New_York", "LSE", at(9)),
        ("BST", "Europe/London", "SMART", at(9)),
        ("GMT", "Europe/London", "SMART", at(9)),
        ("JST", "Asia/Shanghai", "NSE", at(1)),
    ],
)
def test_exchange_and_gateway_decide_what_a_short_name_means(
    name: str, here: str, exchange: str, moment: datetime | None
) -> None:
    found = broker_time.read(f"{SUMMER} {name}", here, broker_time.zone_of_exchange(exchange))
    assert found == moment


def test_a_gateway_in_a_zone_that_is_not_known_says_nothing_of_its_clock() -> None:
    assert broker_time.read(SUMMER, "Nowhere/Atall") is None
    assert broker_time.read(f"{SUMMER} JST", "Nowhere/Atall") == at(1)


@given(st.text(max_size=80) | st.from_regex(broker_time._CLOCK))
def test_whatever_comes_it_never_raises(text: str) -> None:
    found = broker_time.read(text, "America/New_York")
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize("name", sorted({*broker_time._SHORT_NAMES, "US/Central", "PRC"}))
def test_every_zone_of_the_table_exists(name: str) -> None:
    assert len(broker_time.zones_named(name)) == len(broker_time._SHORT_NAMES.get(name, (name,)))


@pytest.mark.parametrize("name", sorted(broker_time._LONG_NAMES))
def test_so_does_every_one_by_a_long_name(name: str) -> None:
    found = broker_time.zones_named(f"{name.title()} Standard Time")
    assert len(found) == len(broker_time._LONG_NAMES[name])


@pytest.mark.parametrize(
    ("time_zone_id", "exchange", "zone"),
    [
        ("CST", "CME", "America/Chicago"),
        ("CST", "SEHKNTL", "Asia/Shanghai"),
        ("IST", "TASE", "Asia/Jerusalem"),
        ("China Standard Time", "SEHKSZSE", "Asia/Shanghai"),
        ("Nowhere/Atall", "NSE", "Asia/Kolkata"),
    ],
)
def test_the_exchange_decides_what_its_contracts_details_mean(
    time_zone_id: str, exchange: str, zone: str
) -> None:
    assert exchange_zone(time_zone_id, Contract(exchange=exchange)).key == zone


@pytest.mark.parametrize(
    ("sec_type", "currency", "zone"),
    [
        ("OPT", "HKD", "Asia/Hong_Kong"),
        ("OPT", "JPY", "Asia/Tokyo"),
        ("FUT", "EUR", "Europe/Berlin"),
        ("CASH", "JPY", "America/New_York"),
        ("OPT", "USD", "America/New_York"),
        ("OPT", "XXX", "America/New_York"),
    ],
)
def test_the_currency_tells_where_a_position_is_when_nothing_else_does(
    sec_type: str, currency: str, zone: str
) -> None:
    contract = Contract(sec_type=sec_type, currency=currency, exchange="")
    assert exchange_zone("", contract).key == zone
    assert exchange_zone("US/Eastern", contract).key == "US/Eastern"


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


@pytest.mark.parametrize(
    ("hours", "hour", "first", "last"),
    [
        ("20260601:0930-20260601:1600", 12, (1, 9, 30), (1, 16, 0)),
        ("20260601:0900-1130,1230-1530", 10, (1, 9, 0), (1, 15, 30)),
        ("20260601:0000-20260601:2400;20260602:0000-20260602:2400", 12, (1, 0, 0), (2, 0, 0)),
        ("20260531:1700-20260601:1515;20260601:1530-20260601:1600", 2, (0, 17, 0), (1, 16, 0)),
        ("20260601:0915-20260601:1630;20260601:1715-20260602:0300", 18, (1, 17, 15), (2, 3, 0)),
    ],
)
def test_a_session_is_a_day_with_its_breaks(
    hours: str, hour: int, first: tuple[int, int, int], last: tuple[int, int, int]
) -> None:
    zone = ZoneInfo("America/Chicago")
    found = session_of(hours, zone, datetime(2026, 6, 1, hour, tzinfo=zone))
    midnight = datetime(2026, 5, 31, tzinfo=zone)
    begins, ends = (
        midnight + timedelta(days=day, hours=clock, minutes=minute)
        for day, clock, minute in (first, last)
    )
    assert found == (begins, ends)
    assert session_of(hours, zone, midnight + timedelta(days=9)) is None


@pytest.mark.parametrize(
    "expiration", ["", "202603", "20260399", "NEXT YEAR", "\u0662\u0660260320"]
)
def test_what_is_no_day_has_no_days_left(expiration: str) -> None:
    now = datetime(2026, 3, 3, 15, tzinfo=UTC)
    assert days_left(expiration, ZoneInfo("America/New_York"), now) is None
    assert days_left("20260320 10:15:00", ZoneInfo("America/New_York"), now) == 17
