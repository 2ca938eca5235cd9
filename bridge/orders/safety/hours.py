"""When: the market's hours and the gateway's planned restarts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from bridge.market.exchange_time import exchange_zone
from bridge.orders.errors import Violation
from bridge.orders.safety.case import Case

_SESSION: Final = re.compile(r"(\d{8}):(\d{4})-(?:(\d{8}):)?(\d{4})")


def market_closed(case: Case) -> Iterator[Violation]:
    """`market-closed`; orders with outsideRth are held against the longer trading hours."""
    wanted = case.rules.market_hours
    if wanted == "off" or (wanted == "market-orders" and not case.fills_at_any_price):
        return
    details = case.details
    hours = details.trading_hours if case.order.outside_rth else details.liquid_hours
    if hours and not is_open(hours, exchange_zone(details.time_zone, details.contract), case.now):
        yield Violation(
            code="market-closed",
            message=f"the market of {case.contract.symbol} is closed (trading.market_hours)",
        )


def is_open(hours: str, zone: ZoneInfo, now: datetime) -> bool:
    """Whether `now` is inside one of the broker's sessions.

    `20260303:0930-20260303:1600;20260304:CLOSED`, or `20260303:0930-1600,1700-1900` from old
    gateways.
    """
    here = now.astimezone(zone)
    return any(opens <= here < closes for opens, closes in _sessions(hours, zone))


def _sessions(hours: str, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    for day in hours.split(";"):
        date = day[:8]
        for part in day.replace(",", f",{date}:").split(",") if "," in day else [day]:
            found = _SESSION.fullmatch(part.replace(f"{date}:{date}:", f"{date}:"))
            if found:
                first, opens, last, closes = found.groups()
                yield _moment(first, opens, zone), _moment(last or first, closes, zone)


def _moment(day: str, clock: str, zone: ZoneInfo) -> datetime:
    midnight = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=zone)
    if clock == "2400":
        return midnight + timedelta(days=1)
    return midnight.replace(hour=int(clock[:2]), minute=int(clock[2:]))


def restart_window(case: Case) -> Iterator[Violation]:
    """`restart-window`: the gateway is about to restart, and an order's answer could be lost."""
    rules = case.rules
    left = case.seconds_to_restart
    if left is not None and left <= rules.restart_guard_seconds:
        yield Violation(
            code="restart-window",
            message=f"the gateway restarts in {left:.0f} s, no new orders in the last "
            f"{rules.restart_guard_seconds:g} s before that",
            value=round(left, 1),
            limit=rules.restart_guard_seconds,
        )
