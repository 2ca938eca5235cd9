"""The exchange's own clock: its time zone, its calendar day, and days to expiration by that day.

A contract's details carry `timeZoneId`, e.g. `US/Eastern`, `MET` or, from older gateways,
`EST (Eastern Standard Time)`; what such names mean is told by `bridge.broker_time`. Days to
expiration counted by the host's or by UTC's calendar are off by one for several hours a day; a list
of expirations kept overnight shows dates that are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from bridge.broker_time import chosen, zone_of_exchange
from bridge.model import Contract

FALLBACK_ZONE = "America/New_York"
_SESSION: Final = re.compile(r"(\d{8}):(\d{4})-(?:(\d{8}):)?(\d{4})")


def exchange_zone(time_zone_id: str, contract: Contract | None = None) -> ZoneInfo:
    """The zone that a contract's `timeZoneId` names; New York when nothing tells of one.

    Where a name means several, or is none that is known, the exchange of `contract` decides.
    """
    hint = None
    if contract is not None:
        hint = zone_of_exchange(contract.primary_exchange, contract.exchange, contract.currency)
    for zone in (*chosen(time_zone_id, hint), hint):
        if isinstance(zone, ZoneInfo):
            return zone
    return ZoneInfo(FALLBACK_ZONE)


def exchange_day(zone: ZoneInfo, now: datetime) -> date:
    """The calendar day at the exchange at `now` (an aware time)."""
    return now.astimezone(zone).date()


def parse_day(text: str) -> date:
    """`YYYYMMDD`, alone or followed by a time as contract details send it, as a date.

    Raises:
        ValueError: when the first eight characters are not a calendar date.
    """
    head = text[:8]
    if len(head) != 8 or not (head.isascii() and head.isdigit()):
        raise ValueError(f"{text!r} is not a date of the form YYYYMMDD")
    return datetime.strptime(head, "%Y%m%d").replace(tzinfo=UTC).date()


def days_to_expiration(expiration: str, zone: ZoneInfo, now: datetime) -> int:
    """Calendar days from the exchange's today to `expiration`; 0 on the day, then negative."""
    return (parse_day(expiration) - exchange_day(zone, now)).days


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
