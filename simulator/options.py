"""What a simulator can be started with, and how the command line says it."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from simulator.clock import EASTERN


@dataclass(frozen=True)
class Options:
    """The settings of one simulator; ports of 0 take a free one."""

    port: int = 4002
    portal_port: int = 5000
    control_port: int = 4099
    listen: str = "127.0.0.1"
    seed: int = 1
    accounts: tuple[str, ...] = ("DU1234567",)
    rate_limit: int = 50
    """Messages a second that a client may send; 0 is no limit."""
    pacing: str = "queue"
    """What becomes of messages above that limit: `queue` holds them back until there is room, as
    a gateway does unless it is told otherwise, `reject` answers each with error 100."""
    portal_certificate: str | None = None
    """The folder that keeps the Client Portal's TLS key and certificate; None: made anew."""
    master_client_id: int | None = None
    read_only: bool = False
    """Refuse orders with error 321, as a gateway in read-only API mode does."""
    market_data_lines: int = 100
    market_data: str = "live"
    """What the account has paid for: `live`, `delayed` or `none`, then perhaps exceptions such as
    `live,SPX=delayed,VIX=none`."""
    tick_interval: float = 0.25
    """Seconds between two looks of a market data line at the market."""
    history_pacing: str = "small"
    """Which history requests are refused when they come too fast: those for `small` bars (to
    30 s), while the others are only slowed down, `all` of them, or none and none slowed (`off`)."""
    hours: str = "always"
    """`always`: the market never closes; `exchange`: trading hours, weekends and holidays."""
    start: float | None = None
    """The time to begin at, in seconds since the epoch; the machine's own when None."""
    state: str | None = None
    """The file that keeps accounts, orders and executions between two runs; None: nothing does."""
    nightly_restart: str | None = None
    """When the gateway restarts every day, `HH:MM` in New York."""
    sunday_invalidation: bool = False
    """Whether the session ends on Sunday at 01:00 in New York and waits for a person."""
    scenario: str | None = None
    faults: tuple[str, ...] = field(default=())
    """Faults on from the start, as `NAME` or `NAME:SECONDS`."""


LEVELS = ("live", "delayed", "none")
LATEST = datetime(2045, 1, 1, tzinfo=EASTERN).timestamp()
"""About as long as the closed days of the exchanges are known."""
EARLIEST = datetime(2004, 2, 1, tzinfo=EASTERN).timestamp()


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the other programs here do."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        sys.stderr.write(f"error: {message}\nhint: python -m simulator --help\n")
        raise SystemExit(2)


def port(text: str) -> int:
    """A port's number; 0 is a free one."""
    value = count(text)
    if value > 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return value


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def pause(text: str) -> float:
    """Seconds above 0, a hundredth of a second at least."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.01 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not in seconds from 0.01 to 86400")
    return value


def moment(text: str) -> float:
    """An ISO time as seconds since the epoch; one without a zone is New York's."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ISO time such as 2026-11-20T10:00:00-05:00"
        ) from None
    value = (found if found.tzinfo else found.replace(tzinfo=EASTERN)).timestamp()
    if not EARLIEST <= value < LATEST:
        raise argparse.ArgumentTypeError(f"{text} lies outside February 2004 to 2044")
    return value


def accounts(text: str) -> tuple[str, ...]:
    """Account names, one at least."""
    found = tuple(each.strip() for each in text.split(",") if each.strip())
    if not found or not all(each.isascii() and each.isalnum() for each in found):
        raise argparse.ArgumentTypeError(f"{text!r} names no accounts such as DU1234567,U7654321")
    return found


def entitlements(text: str) -> str:
    """`LEVEL[,SYMBOL=LEVEL...]`, checked and otherwise as it was."""
    for each in text.split(","):
        symbol, equals, level = each.partition("=")
        wanted = level if equals else symbol
        if wanted.strip() not in LEVELS or (equals and not symbol.strip()):
            raise argparse.ArgumentTypeError(f"{each!r} is none of {', '.join(LEVELS)}")
    return text
