"""The one reader of the broker's times, in all the forms in which gateways send them.

What occurs (the broker's documents of its API, and what users of every zone have met):

* ``20250710-14:30:00``: UTC, by the broker's definition of the dash;
* ``20250710 10:30:00 US/Eastern``: a wall clock and its zone, which is a name of the tz database,
  a short name (``JST``), a name of Windows or Java (``China Standard Time``) or an offset;
* ``20250710  10:30:00``, ``2025-07-10 10:30:00.0``: the wall clock of the gateway's own zone;
* ``1752157800``: seconds since the epoch (thirteen digits: milliseconds); ``20250710``: a day.

A short name may mean several zones (``CST`` is Chicago's and China's, ``IST`` that of three
countries). The contract's exchange and the gateway's own zone decide, where they do; else the time
is not known. Nor is a wall clock that a change to winter time shows twice, unless the name beside
it (``EST``, ``EDT``) says which. Nothing here guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from bridge.model import Contract

# Names that gateways send and that are missing from the tz database, or are fixed offsets in it
# (EST there never knows summer time, which the exchange does). The first zone is what a contract's
# own `timeZoneId` means by it.
_SHORT_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "EST": ("America/New_York",),
    "EDT": ("America/New_York",),
    "ET": ("America/New_York",),
    "EST5EDT": ("America/New_York",),
    "CST": ("America/Chicago", "Asia/Shanghai"),
    "CDT": ("America/Chicago",),
    "CST6CDT": ("America/Chicago",),
    "CTT": ("America/Chicago", "Asia/Shanghai"),
    "MST": ("America/Denver", "America/Phoenix"),
    "MDT": ("America/Denver",),
    "MST7MDT": ("America/Denver",),
    "PST": ("America/Los_Angeles",),
    "PDT": ("America/Los_Angeles",),
    "PST8PDT": ("America/Los_Angeles",),
    "MET": ("Europe/Paris",),
    "MEZ": ("Europe/Berlin",),
    "MESZ": ("Europe/Berlin",),
    "CET": ("Europe/Paris",),
    "CEST": ("Europe/Paris",),
    "EET": ("Europe/Athens",),
    "EEST": ("Europe/Athens",),
    "MSK": ("Europe/Moscow",),
    "BST": ("Europe/London", "Asia/Dhaka"),
    "GMT": ("Europe/London", "Etc/GMT"),
    "GB": ("Europe/London",),
    "WET": ("Europe/Lisbon",),
    "WEST": ("Europe/Lisbon",),
    "IST": ("Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"),
    "IDT": ("Asia/Jerusalem",),
    "SAST": ("Africa/Johannesburg",),
    "JST": ("Asia/Tokyo",),
    "KST": ("Asia/Seoul",),
    "HKT": ("Asia/Hong_Kong",),
    "SGT": ("Asia/Singapore",),
    "AET": ("Australia/Sydney",),
    "AEST": ("Australia/Sydney", "Australia/Brisbane"),
    "AEDT": ("Australia/Sydney",),
    "AWST": ("Australia/Perth",),
    "NZST": ("Pacific/Auckland",),
    "NZDT": ("Pacific/Auckland",),
    "UTC": ("UTC",),
    "Z": ("UTC",),
}

# Windows's names of zones (Unicode CLDR, supplemental data "windowsZones") and the long names of
# Java, without what they have in common: "Standard", "Daylight", "Summer", "Mean" and "Time".
_LONG_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "EASTERN": ("America/New_York",),
    "US EASTERN": ("America/Indiana/Indianapolis",),
    "CENTRAL": ("America/Chicago",),
    "MOUNTAIN": ("America/Denver",),
    "US MOUNTAIN": ("America/Phoenix",),
    "PACIFIC": ("America/Los_Angeles",),
    "ALASKAN": ("America/Anchorage",),
    "ALASKA": ("America/Anchorage",),
    "HAWAIIAN": ("Pacific/Honolulu",),
    "HAWAII": ("Pacific/Honolulu",),
    "ATLANTIC": ("America/Halifax",),
    "E. SOUTH AMERICA": ("America/Sao_Paulo",),
    "BRASILIA": ("America/Sao_Paulo",),
    "ARGENTINA": ("America/Argentina/Buenos_Aires",),
    "PACIFIC SA": ("America/Santiago",),
    "SA PACIFIC": ("America/Bogota",),
    "GMT": ("Europe/London",),
    "GREENWICH": ("Europe/London", "Etc/GMT"),
    "BRITISH": ("Europe/London",),
    "IRISH": ("Europe/Dublin",),
    "W. EUROPE": ("Europe/Berlin",),
    "ROMANCE": ("Europe/Paris",),
    "CENTRAL EUROPE": ("Europe/Budapest",),
    "CENTRAL EUROPEAN": ("Europe/Paris",),
    "MIDDLE EUROPE": ("Europe/Paris",),
    "EASTERN EUROPEAN": ("Europe/Athens",),
    "WESTERN EUROPEAN": ("Europe/Lisbon",),
    "E. EUROPE": ("Europe/Chisinau",),
    "FLE": ("Europe/Kyiv",),
    "GTB": ("Europe/Bucharest",),
    "TURKEY": ("Europe/Istanbul",),
    "RUSSIAN": ("Europe/Moscow",),
    "MOSCOW": ("Europe/Moscow",),
    "ISRAEL": ("Asia/Jerusalem",),
    "SOUTH AFRICA": ("Africa/Johannesburg",),
    "EGYPT": ("Africa/Cairo",),
    "ARAB": ("Asia/Riyadh",),
    "ARABIAN": ("Asia/Dubai",),
    "GULF": ("Asia/Dubai",),
    "PAKISTAN": ("Asia/Karachi",),
    "INDIA": ("Asia/Kolkata",),
    "BANGLADESH": ("Asia/Dhaka",),
    "SE ASIA": ("Asia/Bangkok",),
    "INDOCHINA": ("Asia/Bangkok",),
    "CHINA": ("Asia/Shanghai",),
    "HONG KONG": ("Asia/Hong_Kong",),
    "SINGAPORE": ("Asia/Singapore",),
    "TAIPEI": ("Asia/Taipei",),
    "TOKYO": ("Asia/Tokyo",),
    "JAPAN": ("Asia/Tokyo",),
    "KOREA": ("Asia/Seoul",),
    "KOREAN": ("Asia/Seoul",),
    "W. AUSTRALIA": ("Australia/Perth",),
    "AUSTRALIAN WESTERN": ("Australia/Perth",),
    "CEN. AUSTRALIA": ("Australia/Adelaide",),
    "E. AUSTRALIA": ("Australia/Brisbane",),
    "AUS EASTERN": ("Australia/Sydney",),
    "AUSTRALIAN EASTERN": ("Australia/Sydney", "Australia/Brisbane"),
    "TASMANIA": ("Australia/Hobart",),
    "NEW ZEALAND": ("Pacific/Auckland",),
    "COORDINATED UNIVERSAL": ("UTC",),
}

# Where an exchange's own clock decides what a short name means; by the currency for SMART.
_EXCHANGES: Final[dict[str, str]] = {
    **dict.fromkeys(("CME", "CBOT", "GLOBEX", "ECBOT", "CFE", "CBOE"), "America/Chicago"),
    **dict.fromkeys(("SEHKNTL", "SEHKSZSE", "SSE", "SZSE", "CHINEXT"), "Asia/Shanghai"),
    **dict.fromkeys(("NSE", "BSE"), "Asia/Kolkata"),
    **dict.fromkeys(("TASE",), "Asia/Jerusalem"),
    **dict.fromkeys(("LSE", "LSEETF", "LSEIOB1", "ICEEU", "ICEEUSOFT", "IPE"), "Europe/London"),
    **dict.fromkeys(("ISED", "ISEI"), "Europe/Dublin"),
    **dict.fromkeys(("ASX", "SNFE"), "Australia/Sydney"),
}
_CURRENCIES: Final[dict[str, str]] = {
    "CNH": "Asia/Shanghai",
    "CNY": "Asia/Shanghai",
    "GBP": "Europe/London",
    "ILS": "Asia/Jerusalem",
    "INR": "Asia/Kolkata",
}

# Where what is priced in a currency trades, when neither a zone nor an exchange tells of it: a
# position has no zone of its own.
_HOMES: Final[dict[str, str]] = {
    "AUD": "Australia/Sydney",
    "CHF": "Europe/Zurich",
    "CZK": "Europe/Prague",
    "DKK": "Europe/Copenhagen",
    "EUR": "Europe/Berlin",
    "HKD": "Asia/Hong_Kong",
    "HUF": "Europe/Budapest",
    "JPY": "Asia/Tokyo",
    "KRW": "Asia/Seoul",
    "NOK": "Europe/Oslo",
    "PLN": "Europe/Warsaw",
    "SEK": "Europe/Stockholm",
    "SGD": "Asia/Singapore",
    "TWD": "Asia/Taipei",
}
_NOWHERE: Final = frozenset({"CASH", "CMDTY", "CRYPTO"})
"""Kinds that trade all over the world, whatever they are priced in."""

LONGEST: Final = 64
"""Characters of a time or a zone; anything longer is neither."""
_FIRST_YEAR, _YEARS = 2000, 100
_EPOCH: Final = re.compile(r"\d{9,10}|\d{13}", re.ASCII)
_CLOCK: Final = re.compile(
    r"(\d{4})(-?)(\d{2})\2(\d{2})(-|T|\s+)(\d{1,2}):(\d{2}):(\d{2})(?:[.:]\d{1,9})?\s*(\S.*)?",
    re.ASCII,
)
_OFFSET: Final = re.compile(r"(?:GMT|UTC)?([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII)
_COMMON_WORDS: Final = re.compile(r"\b(?:STANDARD|DAYLIGHT|SUMMER|MEAN)\b|\bTIME\b")


def zones_named(name: str) -> tuple[tzinfo, ...]:
    """The zones that a name of the broker's may mean, the likeliest first; none it does not know.

    What stands in brackets behind a short name, ``EST (Eastern Standard Time)``, explains it.
    """
    return _zones_named(name) if len(name) <= LONGEST else ()


@lru_cache(maxsize=256)
def _zones_named(name: str) -> tuple[tzinfo, ...]:
    head, _, explained = name.partition("(")
    head, explained = head.strip(), explained.rstrip(") ").strip()
    long = _by_long_name(explained)
    if long and len(_SHORT_NAMES.get(head.upper(), ())) != 1:
        return long
    known = _SHORT_NAMES.get(head.upper())
    if known:
        return _existing(known)
    offset = _OFFSET.fullmatch(head.upper())
    if offset:
        return _fixed(offset)
    return _existing((head,)) or _by_long_name(head) or long


def _by_long_name(name: str) -> tuple[tzinfo, ...]:
    upper = name.upper()
    if "TIME" not in upper:
        return ()
    return _existing(_LONG_NAMES.get(" ".join(_COMMON_WORDS.sub(" ", upper).split()), ()))


def _existing(names: Iterable[str]) -> tuple[tzinfo, ...]:
    found = []
    for name in names:
        try:
            found.append(ZoneInfo(name))
        except (KeyError, ValueError, OSError):  # no such name; a name that is a path or a folder
            continue
    return tuple(found)


def _fixed(offset: re.Match[str]) -> tuple[tzinfo, ...]:
    by = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
    if by > timedelta(hours=14):
        return ()
    return (timezone(-by if offset[1] == "-" else by),)


def zone_of_exchange(*names: str) -> tzinfo | None:
    """The clock of the first exchange (or, behind them, currency) whose zone is known."""
    for name in names:
        known = _EXCHANGES.get(name) or _CURRENCIES.get(name)
        if known:
            return ZoneInfo(known)
    return None


def chosen(name: str, *hints: tzinfo | None) -> tuple[tzinfo, ...]:
    """The zones that a name means, less those that the hints exclude; more than one: not decided.

    A hint decides when its own clock goes by that name, in winter or in summer.
    """
    zones = zones_named(name)
    if len(zones) < 2:
        return zones
    short = name.partition("(")[0].strip().upper()
    fitting = {str(hint): hint for hint in hints if hint is not None and short in _names_of(hint)}
    if len(fitting) == 1:
        return tuple(fitting.values())
    return zones


def _names_of(zone: tzinfo) -> set[str | None]:
    return {datetime(2025, month, 1, tzinfo=zone).tzname() for month in (1, 7)}


def read(text: str, here: tzinfo | str, *hints: tzinfo | None) -> datetime | None:
    """The moment that a time of the broker's means, in UTC; None where that cannot be known.

    `here` is the gateway's zone, for times without one; `hints`, and it, decide between the zones
    of a short name. A day alone is no moment (see `day`).
    """
    said = text.strip()
    if len(said) > LONGEST:
        return None
    if _EPOCH.fullmatch(said):
        return _plausible(datetime.fromtimestamp(int(said[:10] if len(said) > 10 else said), UTC))
    found = _CLOCK.fullmatch(said)
    if not found:
        return None
    year, _, month, date, between, hour, minute, second, name = found.groups()
    try:
        numbers = (year, month, date, hour, minute, second)
        clock = datetime(*(int(each) for each in numbers))  # type: ignore[arg-type] # noqa: DTZ001
    except ValueError:
        return None
    own = here if isinstance(here, tzinfo) else next(iter(zones_named(here)), None)
    zones = chosen(name, *hints, own) if name else ((own,) if own is not None else ())
    if between == "-":
        zones = (UTC,) if not name or all(_is_utc(each, clock) for each in zones) else ()
    readings = {each for zone in zones for each in _readings(clock, zone, name or "")}
    return _plausible(readings.pop()) if len(readings) == 1 else None


def _is_utc(zone: tzinfo, clock: datetime) -> bool:
    return clock.replace(tzinfo=zone).utcoffset() == timedelta(0)


def _readings(clock: datetime, zone: tzinfo, name: str) -> set[datetime]:
    """What a wall clock may mean in a zone: two moments around a change of the clocks."""
    both = [clock.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    offsets = {each.utcoffset() for each in both}
    if len(offsets) > 1:
        both = [each for each in both if each.tzname() == name.strip().upper()] or both
    return {each.astimezone(UTC) for each in both}


def _plausible(moment: datetime) -> datetime | None:
    return moment if _FIRST_YEAR <= moment.year < _FIRST_YEAR + _YEARS else None


def day(text: str) -> datetime | None:
    """The midnight, in UTC's calendar, of a text that is a day alone: ``20250710``."""
    if not re.fullmatch(r"\d{8}", text, re.ASCII):
        return None
    try:
        return _plausible(datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC))
    except ValueError:
        return None


def written(moment: datetime | None) -> str:
    """A moment as the broker reads it, in UTC; empty for none."""
    return moment.astimezone(UTC).strftime("%Y%m%d-%H:%M:%S") if moment else ""


FALLBACK_ZONE = "America/New_York"
_SESSION: Final = re.compile(r"(\d{8}):(\d{4})-(?:(\d{8}):)?(\d{4})")


def exchange_zone(time_zone_id: str, contract: Contract | None = None) -> ZoneInfo:
    """The zone that a contract's `timeZoneId` names; New York when nothing tells of one.

    Where a name means several, or is none that is known, the exchange of `contract` decides, and
    where that tells nothing, its currency.
    """
    hint = None
    if contract is not None:
        hint = zone_of_exchange(contract.primary_exchange, contract.exchange, contract.currency)
    for zone in (*chosen(time_zone_id, hint), hint):
        if isinstance(zone, ZoneInfo):
            return zone
    home = None
    if contract is not None and contract.sec_type not in _NOWHERE:
        home = _HOMES.get(contract.currency)
    return ZoneInfo(home or FALLBACK_ZONE)


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
    return date(int(head[:4]), int(head[4:6]), int(head[6:8]))


def days_to_expiration(expiration: str, zone: ZoneInfo, now: datetime) -> int:
    """Calendar days from the exchange's today to `expiration`; 0 on the day, then negative."""
    return (parse_day(expiration) - exchange_day(zone, now)).days


def days_left(expiration: str, zone: ZoneInfo, now: datetime) -> int | None:
    """The same; None for what is no day: a month, nothing, or what no calendar has."""
    try:
        return days_to_expiration(expiration, zone, now)
    except ValueError:
        return None


def is_open(hours: str, zone: ZoneInfo, now: datetime) -> bool:
    """Whether `now` is inside one of the broker's sessions.

    `20260303:0930-20260303:1600;20260304:CLOSED`, or `20260303:0930-1600,1700-1900` from old
    gateways.
    """
    here = now.astimezone(zone)
    return any(opens <= here < closes for opens, closes in _sessions(hours, zone))


class Session(NamedTuple):
    """A day of trading at an exchange, from its beginning (perhaps the day before) to its end."""

    opens: datetime
    closes: datetime


def session_of(hours: str, zone: ZoneInfo, now: datetime) -> Session | None:
    """The session that is running, with the parts around its breaks; None: none is.

    Parts that end on the same day are one session: a lunch break does not end it, and what begins
    in the evening belongs to the next day.
    """
    here = now.astimezone(zone)
    parts = [Session(*each) for each in _sessions(hours, zone)]
    running = next((each for each in parts if each.opens <= here < each.closes), None)
    if running is None:
        return None
    same = [each for each in parts if _last_day(each) == _last_day(running)]
    return Session(min(each.opens for each in same), max(each.closes for each in same))


def _last_day(session: Session) -> date:
    """A session that ends at midnight belongs to the day before."""
    return (session.closes - timedelta(microseconds=1)).date()


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
