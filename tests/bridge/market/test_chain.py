from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.broker_time import exchange_zone
from bridge.market.errors import InvalidFieldError, StaleExpirationError
from bridge.market.options import (
    all_strikes,
    chain_classes,
    chain_expirations,
    check_expiration,
    nearest_strikes,
    routed_rows,
)
from bridge.model import OptionParameters

ZONE = exchange_zone("US/Eastern")
FRIDAY_EVENING = datetime(2026, 3, 21, 0, 30, tzinfo=UTC)  # still the 20th at the exchange
SATURDAY = datetime(2026, 3, 21, 4, 0, tzinfo=UTC)


def row(exchange: str, name: str, expirations: str, strikes: tuple[float, ...]) -> OptionParameters:
    return OptionParameters(
        exchange=exchange,
        underlying_con_id=1,
        trading_class=name,
        multiplier="100",
        expirations=tuple(expirations.split()),
        strikes=strikes,
    )


ROWS = (
    row("CBOE", "SPX", "20260320 20260417", (5000, 5100)),
    row("SMART", "SPX", "20260320 20260417", (5000, 5100)),
    row("CBOE", "SPXW", "20260318 20260327", (5050,)),
    row("BOX", "SPXW", "20260327", (5050,)),
)


def test_one_row_per_class_routed_first_else_the_fullest() -> None:
    assert [(item.trading_class, item.exchange) for item in routed_rows(ROWS, "SMART")] == [
        ("SPX", "SMART"),
        ("SPXW", "CBOE"),
    ]
    assert [item.trading_class for item in routed_rows(ROWS, "SMART", "SPXW")] == ["SPXW"]


def test_expired_days_are_gone_by_the_exchanges_midnight() -> None:
    rows = routed_rows(ROWS, "SMART")
    evening = chain_expirations(chain_classes(rows, ZONE, FRIDAY_EVENING), ZONE, FRIDAY_EVENING)
    assert [(item.expiration, item.dte) for item in evening] == [
        ("20260320", 0),
        ("20260327", 7),
        ("20260417", 28),
    ]
    after = chain_expirations(chain_classes(rows, ZONE, SATURDAY), ZONE, SATURDAY)
    assert [(item.expiration, item.dte) for item in after] == [("20260327", 6), ("20260417", 27)]


def test_a_class_with_nothing_left_goes_with_its_strikes() -> None:
    rows = (row("SMART", "OLD", "20260101", (1.0,)), row("SMART", "NEW", "20260401", (2.0,)))
    classes = chain_classes(rows, ZONE, SATURDAY)
    assert [item.trading_class for item in classes] == ["NEW"]
    assert all_strikes(classes) == (2.0,)


def test_a_stale_expiration_is_refused_with_its_field() -> None:
    assert check_expiration("20260320", ZONE, FRIDAY_EVENING) == 0
    with pytest.raises(StaleExpirationError) as caught:
        check_expiration("20260320", ZONE, SATURDAY)
    assert caught.value.extra["errors"][0]["field"] == "expiration"
    for text in ("2026-03-20", "20261301", "20260320 "):
        with pytest.raises(InvalidFieldError):
            check_expiration(text, ZONE, SATURDAY)


def test_the_strikes_nearest_to_the_money() -> None:
    assert nearest_strikes((90, 95, 100, 105, 110), 101, 3) == (95, 100, 105)
    assert nearest_strikes((90, 110), 100, 5) == (90, 110)
