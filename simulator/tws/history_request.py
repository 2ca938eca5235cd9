"""What a history request asks for, checked: words, contract, pacing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulator.market import bars
from simulator.market.calendar import Span
from simulator.tws.market_data import entitlement
from simulator.tws.pacing import VIOLATION

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract
    from simulator.tws.session import Session
    from simulator.world import World

LARGEST = 60_000
"""Bars in one answer."""
SMALL_BARS = 30.0
SERVICE = "Historical Market Data Service error message:"
INVALID = "Error validating request.-'bN' : cause - "
NAMES = {"TRADES": "Trades", "MIDPOINT": "Midpoint", "BID": "Bid", "ASK": "Ask"}
ONLY_FOR = {
    "TRADES": ("STK", "OPT", "FUT", "IND", "BOND"),
    "ADJUSTED_LAST": ("STK",),
    "AGGTRADES": ("STK",),
    "OPTION_IMPLIED_VOLATILITY": ("STK", "IND"),
    "HISTORICAL_VOLATILITY": ("STK", "IND"),
    "FEE_RATE": ("STK",),
}
QUOTED = ("STK", "OPT", "FUT", "CASH", "BOND")
WRONG_TIME = (
    "End Date/Time: The date, time, or time-zone entered is invalid. The correct format is "
    "yyyymmdd hh:mm:ss xx/xxxx where yyyymmdd and xx/xxxx are optional. E.g.: 20031126 15:59:00 "
    "US/Eastern  Note that there is a space between the date and time, and between the time and "
    "time-zone.  If no date is specified, current date is assumed. If no time-zone is specified, "
    "local time-zone is assumed(deprecated).  You can also provide yyyymmddd-hh:mm:ss time is in "
    "UTC. Note that there is a dash between the date and time in UTC notation."
)
NO_END = "Setting end date/time for continuous future security type is not allowed."
QUOTES = ("MIDPOINT", "BID", "ASK", "BID_ASK")


class Asked(NamedTuple):
    """A checked request for bars."""

    request_id: int
    contract: Contract
    stretch: Span
    size: float
    kind: str
    liquid: bool
    epoch: bool
    """Times as seconds since the epoch instead of text."""
    keep: bool


class RefusedError(Exception):
    """The gateway does not take the request."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def checked(
    session: Session,
    request_id: int,
    contract: Contract,
    words: tuple[str, str, str, str],
    flags: tuple[bool, bool, int],
) -> Asked:
    """Read the words of a request.

    Args:
        session: who asks.
        request_id: the request's id.
        contract: the contract that it found.
        words: end, bar size, duration, whatToShow.
        flags: regular hours only, keep up to date, date format.

    Raises:
        RefusedError: one of them is wrong.
    """
    end_text, size_text, duration, kind = words
    liquid, keep, date_format = flags
    now = session.world.clock.time()
    size = bars.bar_size(size_text)
    if size is None:
        legal = ", ".join(bars.SIZES)
        text = f"Historical data bar size setting is invalid. Legal ones are: {legal}"
        raise RefusedError(321, INVALID + text)
    length = bars.parse_duration(duration)
    if length is None:
        text = "Historical data query duration string is invalid. "
        raise RefusedError(321, INVALID + text + "Format: integer{SPACE}unit (S|D|W|M|Y)")
    if kind not in (*bars.KINDS, "SCHEDULE"):
        raise RefusedError(321, f"{INVALID}Incorrect whatToShow: {kind}")
    end = _end(contract, end_text, now, keep=keep)
    if kind not in ("SCHEDULE", *QUOTES) and contract.kind not in ONLY_FOR[kind]:
        what = f"{contract.symbol}@{contract.exchange} {NAMES.get(kind, kind)}"
        raise RefusedError(162, f"{SERVICE}No historical market data for {what}")
    if kind in QUOTES and contract.kind not in QUOTED:
        raise RefusedError(162, no_data(contract, kind))
    if entitlement(session.world, contract) == "none":
        raise RefusedError(162, f"{SERVICE}No market data permissions for {contract.exchange}")
    start = bars.start_of(session.world.market, contract, end, *length, liquid=liquid)
    if (end - start) / size[1] > LARGEST:
        raise RefusedError(162, f"{SERVICE}Time length exceed max.")
    stretch = Span(start, end)
    return Asked(request_id, contract, stretch, size[1], kind, liquid, date_format == 2, keep)


def _end(contract: Contract, text: str, now: float, *, keep: bool) -> float:
    """The end of a request, at most now."""
    if text.strip() and contract.sec_type == "CONTFUT":
        raise RefusedError(10339, NO_END)
    if text.strip() and keep:
        raise RefusedError(321, f"{INVALID}End date/time must be empty with keepUpToDate")
    end = bars.parse_end(text, now)
    if end is None:
        raise RefusedError(10314, WRONG_TIME)
    return min(end, now)


def no_data(contract: Contract, kind: str) -> str:
    """The text of 162 when there is nothing."""
    what = f"{contract.symbol}@{contract.exchange} {NAMES.get(kind, kind)}"
    return f"{SERVICE}HMDS query returned no data: {what}"


def admit(world: World, asked: Asked, words: tuple[str, str, str]) -> float:
    """Count the request; gives the seconds that its answer waits.

    Raises:
        RefusedError: it comes too soon.
    """
    rule, now = world.options.history_pacing, world.clock.time()
    if rule == "off":
        return 0.0
    if rule == "small" and asked.size > SMALL_BARS:
        return world.pacing.slow(now)
    contract = (asked.contract.con_id, asked.contract.exchange, asked.kind)
    same = (contract, words, asked.liquid)
    weight = 2 if asked.kind == "BID_ASK" else 1
    if not world.pacing.admit(contract, same, weight, now):
        raise RefusedError(162, VIOLATION)
    return 0.0
