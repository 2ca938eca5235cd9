"""Listed futures: roots, contract months, last trading days."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

from simulator.contracts.contract import Contract
from simulator.contracts.options import MONTH_LETTERS, third_friday
from simulator.market.calendar import is_trading_day, previous_trading_day

FIRST_ID = 500_000_000
MONTHS = 4096
LISTED = 8
"""How many contract months of a root can be traded at a time."""


@dataclass(frozen=True)
class Root:
    """The futures of one kind."""

    number: int
    name: str
    exchange: str
    currency: str
    multiplier: str
    min_tick: float
    price: float
    """The starting point of its own price; 0 when it follows an index."""
    volatility: float
    carry: float
    cycle: str
    rule: str
    under: str
    trading_class: str
    long_name: str
    options: str = ""
    """The trading class of the options on it; empty when there are none."""
    strike_step: float = 0.0
    option_tick: float = 0.0

    def last_day(self, year: int, month: int) -> date:
        """The last trading day of a contract month."""
        if self.rule == "third-friday":
            return third_friday(year, month)
        if self.rule == "before-month":
            return _back(date(year, month, 1) - timedelta(days=6), 3)
        following = date(year + month // 12, month % 12 + 1, 1)
        return _back(following, 3)

    def months(self, today: date) -> list[tuple[int, int]]:
        """The contract months that trade on a day, nearest first."""
        found: list[tuple[int, int]] = []
        year, month = today.year, today.month
        while len(found) < LISTED:
            letter = MONTH_LETTERS[month - 1]
            if letter in self.cycle and self.last_day(year, month) >= today:
                found.append((year, month))
            year, month = year + month // 12, month % 12 + 1
        return found

    def traded_until(self, day: date) -> tuple[int, int]:
        """Year and month of the first future that trades on a day: what an option delivers."""
        year, month = day.year, day.month
        while MONTH_LETTERS[month - 1] not in self.cycle or self.last_day(year, month) < day:
            year, month = year + month // 12, month % 12 + 1
        return year, month

    def con_id(self, year: int, month: int) -> int:
        """The number of one month's contract."""
        return FIRST_ID + self.number * MONTHS + (year - 2000) * 12 + month

    def contract(self, year: int, month: int, under_id: int) -> Contract:
        """The future of one month."""
        return Contract(
            con_id=self.con_id(year, month),
            symbol=self.name,
            sec_type="FUT",
            currency=self.currency,
            exchange=self.exchange,
            local_symbol=f"{self.trading_class}{MONTH_LETTERS[month - 1]}{year % 10}",
            trading_class=self.trading_class,
            expiry=f"{self.last_day(year, month):%Y%m%d}",
            month=f"{year}{month:02}",
            multiplier=self.multiplier,
            min_tick=self.min_tick,
            under_id=under_id,
        )


def _back(day: date, count: int) -> date:
    for _ in range(count):
        day = previous_trading_day(day)
    return day if is_trading_day(day) else previous_trading_day(day)


@lru_cache(maxsize=1)
def roots() -> tuple[Root, ...]:
    """Every root of `futures.csv`."""
    with Path(__file__).with_name("futures.csv").open(newline="") as source:
        rows = list(csv.DictReader(source))
    return tuple(
        Root(
            number=number,
            name=row["root"],
            exchange=row["exchange"],
            currency=row["currency"],
            multiplier=row["multiplier"],
            min_tick=float(row["min_tick"]),
            price=float(row["price"]),
            volatility=float(row["volatility"]),
            carry=float(row["carry"]),
            cycle=row["cycle"],
            rule=row["rule"],
            under=row["under"],
            trading_class=row["class"],
            long_name=row["name"],
            options=row["options"],
            strike_step=float(row["strike_step"] or 0),
            option_tick=float(row["option_tick"] or 0),
        )
        for number, row in enumerate(rows)
    )
