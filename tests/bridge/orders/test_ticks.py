import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import PriceIncrement
from bridge.orders.legs import cautious, increment_at, is_multiple, on_tick, to_tick

PENNY_PILOT = (
    PriceIncrement(low_edge=0.0, increment=0.01),
    PriceIncrement(low_edge=3.0, increment=0.05),
)


@pytest.mark.parametrize(
    ("price", "fits"),
    [
        (0.01, True),
        (0.015, False),
        (2.99, True),
        (3.0, True),
        (3.01, False),
        (3.05, True),
        (-3.01, False),
    ],
)
def test_the_increment_depends_on_the_price(price: float, fits: bool) -> None:
    assert on_tick(price, PENNY_PILOT) is fits


@pytest.mark.parametrize("price", [0.07, 0.29, 1.1, 2.2, 4.35, 100.15, 1234567.05])
def test_prices_people_write_are_on_their_tick_in_spite_of_binary_fractions(price: float) -> None:
    assert on_tick(price, PENNY_PILOT)


def test_rounding_never_costs_more_than_was_asked_for() -> None:
    assert cautious(3.07, PENNY_PILOT, "BUY") == 3.05
    assert cautious(3.07, PENNY_PILOT, "SELL") == 3.1


def test_no_ladder_takes_any_price() -> None:
    assert increment_at(1.2345, ()) is None
    assert on_tick(1.2345, ())
    assert to_tick(1.2345, (), "up") == 1.2345


@given(st.floats(0.01, 1e6), st.sampled_from(["down", "up"]))
def test_a_rounded_price_is_near_on_the_right_side_and_on_a_tick(
    price: float, direction: str
) -> None:
    ladder = (PriceIncrement(low_edge=0.0, increment=0.01),)
    rounded = to_tick(price, ladder, direction)  # type: ignore[arg-type]
    assert abs(rounded - price) < 0.0101
    assert rounded <= price if direction == "down" else rounded >= price
    assert on_tick(rounded, ladder)


@pytest.mark.parametrize(
    ("value", "step", "fits"),
    [(1.0, 1.0, True), (1.5, 1.0, False), (0.3, 0.1, True), (5.0, None, True), (5.0, 0.0, True)],
)
def test_quantities_are_whole_steps(value: float, step: float | None, fits: bool) -> None:
    assert is_multiple(value, step) is fits
