"""Option chains: which expirations and strikes there are, counted from the exchange's today.

Pure. The gateway answers one row per exchange and trading class. Rows of one class agree across
exchanges but for venues that list less, so the routed exchange's rows count when it has any.
What is kept between requests are the broker's rows; days to expiration and what has expired are
worked out anew for each answer, so that a chain kept overnight cannot show yesterday's dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from bridge.market.errors import InvalidFieldError, StaleExpirationError
from bridge.market.exchange_time import days_to_expiration, parse_day
from bridge.model import OptionParameters


class ChainExpiration(Struct, rename="camel", frozen=True, kw_only=True):
    """One expiration (`YYYYMMDD`), days to it from the exchange's today, who lists it."""

    expiration: str
    dte: int
    trading_classes: tuple[str, ...]


class ChainClass(Struct, rename="camel", frozen=True, kw_only=True):
    """One trading class: what it lists, and what one contract is a multiple of."""

    trading_class: str
    exchange: str
    multiplier: str
    expirations: tuple[str, ...]
    strikes: tuple[float, ...]


def routed_rows(
    rows: Sequence[OptionParameters], exchange: str, trading_class: str = ""
) -> tuple[OptionParameters, ...]:
    """One row per trading class: the routed exchange's where it has one, else the fullest."""
    best: dict[str, OptionParameters] = {}
    for row in rows:
        if trading_class and row.trading_class != trading_class:
            continue
        held = best.get(row.trading_class)
        if held is None or _preference(row, exchange) > _preference(held, exchange):
            best[row.trading_class] = row
    return tuple(best[name] for name in sorted(best))


def _preference(row: OptionParameters, exchange: str) -> tuple[bool, int]:
    return row.exchange == exchange, len(row.expirations) * len(row.strikes)


def chain_classes(
    rows: Iterable[OptionParameters], zone: ZoneInfo, now: datetime
) -> tuple[ChainClass, ...]:
    """The classes that still list something, without what has expired."""
    classes = (
        ChainClass(
            trading_class=row.trading_class,
            exchange=row.exchange,
            multiplier=row.multiplier,
            expirations=tuple(
                sorted(day for day in row.expirations if days_to_expiration(day, zone, now) >= 0)
            ),
            strikes=tuple(sorted(row.strikes)),
        )
        for row in rows
    )
    return tuple(item for item in classes if item.expirations)


def chain_expirations(
    classes: Sequence[ChainClass], zone: ZoneInfo, now: datetime
) -> tuple[ChainExpiration, ...]:
    """Every expiration once, ascending, with its days to go."""
    names: dict[str, list[str]] = {}
    for item in classes:
        for day in item.expirations:
            names.setdefault(day, []).append(item.trading_class)
    return tuple(
        ChainExpiration(
            expiration=day,
            dte=days_to_expiration(day, zone, now),
            trading_classes=tuple(names[day]),
        )
        for day in sorted(names)
    )


def all_strikes(classes: Sequence[ChainClass]) -> tuple[float, ...]:
    """Every strike once, ascending."""
    return tuple(sorted({strike for item in classes for strike in item.strikes}))


def check_expiration(expiration: str, zone: ZoneInfo, now: datetime) -> int:
    """Days to go of an expiration that a caller named.

    Raises:
        InvalidFieldError: it is not a date.
        StaleExpirationError: it is before the exchange's today.
    """
    try:
        parse_day(expiration)
        if len(expiration) != 8:
            raise ValueError(f"{expiration!r} is not a date of the form YYYYMMDD")
    except ValueError as error:
        raise InvalidFieldError("expiration", str(error)) from None
    dte = days_to_expiration(expiration, zone, now)
    if dte < 0:
        raise StaleExpirationError(
            "expiration",
            f"{expiration} is {-dte} days before the exchange's today",
            code="stale-expiration",
        )
    return dte


def nearest_strikes(strikes: Sequence[float], center: float, count: int) -> tuple[float, ...]:
    """The `count` strikes nearest to `center`, ascending."""
    nearest = sorted(strikes, key=lambda strike: (abs(strike - center), strike))[:count]
    return tuple(sorted(nearest))
