"""Black-Scholes: price, greeks, implied volatility.

Vega is per percentage point and theta per day, as the gateway reports them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

RATE = 0.043
"""The risk-free rate, continuously compounded."""
LOWEST, HIGHEST = 0.005, 5.0


class Greeks(NamedTuple):
    """A priced option: its value and greeks for one share of what it is on."""

    price: float
    delta: float
    gamma: float
    vega: float
    theta: float


def _cumulative(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def price(spot: float, strike: float, years: float, volatility: float, right: str) -> float:
    """The value of a European option."""
    return greeks(spot, strike, years, volatility, right).price


def greeks(spot: float, strike: float, years: float, volatility: float, right: str) -> Greeks:
    """The value of a European option and how it changes."""
    sign = 1 if right == "C" else -1
    if years <= 0 or volatility <= 0:
        value = max(sign * (spot - strike), 0.0)
        return Greeks(value, float(sign) if value else 0.0, 0.0, 0.0, 0.0)
    root = volatility * math.sqrt(years)
    first = (math.log(spot / strike) + (RATE + volatility**2 / 2) * years) / root
    second = first - root
    discount = math.exp(-RATE * years)
    density = math.exp(-first * first / 2) / math.sqrt(2 * math.pi)
    value = sign * (
        spot * _cumulative(sign * first) - strike * discount * _cumulative(sign * second)
    )
    decay = -spot * density * volatility / (2 * math.sqrt(years))
    decay -= sign * RATE * strike * discount * _cumulative(sign * second)
    return Greeks(
        price=value,
        delta=sign * _cumulative(sign * first),
        gamma=density / (spot * root),
        vega=spot * density * math.sqrt(years) / 100,
        theta=decay / 365,
    )


def implied_volatility(
    value: float, spot: float, strike: float, years: float, right: str
) -> float | None:
    """The volatility at which the option is worth `value`; None when there is none."""
    if years <= 0:
        return None
    low, high = LOWEST, HIGHEST
    if not price(spot, strike, years, low, right) <= value:
        return None
    if not value <= price(spot, strike, years, high, right):
        return None
    guess = 0.3
    for _ in range(60):
        priced = greeks(spot, strike, years, guess, right)
        error = priced.price - value
        if abs(error) < 1e-6 or high - low < 1e-7:
            break
        if error < 0:
            low = guess
        else:
            high = guess
        step = guess - error / (priced.vega * 100) if priced.vega > 1e-8 else low
        guess = step if low < step < high else (low + high) / 2
    return guess
