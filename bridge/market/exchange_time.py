"""The exchange's own clock: its time zone, its calendar day, and days to expiration by that day.

A contract's details carry `timeZoneId`, e.g. `US/Eastern`, `MET` or, from older gateways,
`EST (Eastern Standard Time)`. Days to expiration counted by the host's or by UTC's calendar are
off by one for several hours a day; a list of expirations kept overnight shows dates that are gone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

FALLBACK_ZONE = "America/New_York"

# Short names that gateways send and that either are missing from the tz database or are fixed
# offsets in it (EST there never knows summer time, which the exchange does).
_SHORT_NAMES = {
    "EST": "America/New_York",
    "EDT": "America/New_York",
    "EST5EDT": "America/New_York",
    "CST": "America/Chicago",
    "CDT": "America/Chicago",
    "CTT": "America/Chicago",
    "MST": "America/Denver",
    "PST": "America/Los_Angeles",
    "PDT": "America/Los_Angeles",
    "MET": "Europe/Paris",
    "CET": "Europe/Paris",
    "MEZ": "Europe/Berlin",
    "BST": "Europe/London",
    "GMT": "Europe/London",
    "WET": "Europe/Lisbon",
    "JST": "Asia/Tokyo",
    "HKT": "Asia/Hong_Kong",
    "SGT": "Asia/Singapore",
    "KST": "Asia/Seoul",
    "IST": "Asia/Kolkata",
    "AET": "Australia/Sydney",
    "AEST": "Australia/Sydney",
}


@lru_cache(maxsize=64)
def exchange_zone(time_zone_id: str) -> ZoneInfo:
    """The zone that a contract's `timeZoneId` names; New York when it names none that exists."""
    name = time_zone_id.split("(", 1)[0].strip()
    for candidate in (_SHORT_NAMES.get(name, name), FALLBACK_ZONE):
        try:
            return ZoneInfo(candidate)
        except (KeyError, ValueError, OSError):
            continue
    raise LookupError(f"the time zone database is missing: {FALLBACK_ZONE} is unknown")


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
