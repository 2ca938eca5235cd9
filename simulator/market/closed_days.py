"""Holidays and half days of the New York Stock Exchange.

They come from the `holidays` library, by way of a file: the library would take a third of the
simulator's memory. `scripts/closed-days` writes the file, and a test holds it to the library.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("closed_days.csv")
YEARS = range(2004, 2046)


class ClosedDays(NamedTuple):
    """Days without regular hours, and days that end at 13:00."""

    holidays: frozenset[date]
    half: frozenset[date]


def from_library() -> ClosedDays:
    """What the library says about `YEARS`."""
    import holidays

    years = list(YEARS)
    return ClosedDays(
        frozenset(holidays.financial_holidays("NYSE", years=years)),
        frozenset(holidays.financial_holidays("NYSE", years=years, categories=("half_day",))),
    )


def written(days: ClosedDays) -> str:
    """The content of the file."""
    rows = [(day, "closed") for day in days.holidays] + [(day, "half") for day in days.half]
    return "".join(f"{day},{kind}\n" for day, kind in sorted(rows))


@lru_cache(maxsize=1)
def closed_days() -> ClosedDays:
    """What the file says."""
    kinds: dict[str, set[date]] = {"closed": set(), "half": set()}
    for line in FILE.read_text().splitlines():
        day, _, kind = line.partition(",")
        kinds[kind].add(date.fromisoformat(day))
    return ClosedDays(frozenset(kinds["closed"]), frozenset(kinds["half"]))
