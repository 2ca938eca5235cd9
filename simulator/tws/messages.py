"""Ticks on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.market.options import Greeks
    from simulator.tws.session import Session

TICK_PRICE, TICK_SIZE, TICK_OPTION, TICK_GENERIC, TICK_STRING = 1, 2, 21, 45, 46
SNAPSHOT_END, MARKET_DATA_TYPE, TICK_PARAMETERS = 57, 58, 81
PRICE_BASED_VOLATILITY = 156


def whole(value: float) -> int | float:
    """A size as the wire has it: without a fraction unless there is one."""
    return int(value) if value == int(value) else value


def tick_price(
    session: Session, request_id: int, kind: int, price: float, size: float, mask: int = 0
) -> None:
    """A price with the size that belongs to it."""
    session.send(TICK_PRICE, 6, request_id, kind, price, whole(size), mask)


def tick_size(session: Session, request_id: int, kind: int, size: float) -> None:
    """A size alone."""
    session.send(TICK_SIZE, 6, request_id, kind, whole(size))


def tick_generic(session: Session, request_id: int, kind: int, value: float) -> None:
    """A number of some other kind."""
    session.send(TICK_GENERIC, 6, request_id, kind, value)


def tick_string(session: Session, request_id: int, kind: int, value: str) -> None:
    """A text, such as the time of the last trade."""
    session.send(TICK_STRING, 6, request_id, kind, value)


def tick_option(
    session: Session,
    request_id: int,
    kind: int,
    volatility: float | None,
    greeks: Greeks | None,
    spot: float,
) -> None:
    """An option's implied volatility and greeks; -1 and -2 stand for what has no value."""
    head = (6, request_id, kind)
    if session.version >= PRICE_BASED_VOLATILITY:
        head = (request_id, kind, 0)
    if volatility is None or greeks is None:
        values: tuple[float, ...] = (-1, -2, -1, -1, -2, -2, -2, spot or -1)
    else:
        values = (
            volatility,
            greeks.delta,
            greeks.price,
            0.0,
            greeks.gamma,
            greeks.vega,
            greeks.theta,
            spot,
        )
    session.send(TICK_OPTION, *head, *values)
