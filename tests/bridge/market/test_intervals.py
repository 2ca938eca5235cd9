from __future__ import annotations

import pytest

from bridge.market.errors import InvalidFieldError
from bridge.market.intervals import (
    BAR_SIZES,
    fits_one_request,
    parse_bar_size,
    parse_duration,
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
