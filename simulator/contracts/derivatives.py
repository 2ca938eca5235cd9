"""Listed options and futures: expirations, strikes, contract months, and the number of each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

from simulator.contracts.contract import Contract
from simulator.market.calendar import is_trading_day, next_trading_day, previous_trading_day

MONTH_LETTERS = "FGHJKMNQUVXZ"
FIRST_WEEK = date(2018, 1, 1)
"""A Monday; weeks of expirations count from here."""
FIRST_OPTION_ID = 700_000_000
STRIKES = 2048
BLOCK = 1024 * STRIKES * 2
WEEKLY, DAILY, MORNING, FUTURE = "weekly", "daily", "morning", "future"
LEAPS = (1, 6, 12)
"""Months whose options are listed long before."""
YEARS_OUT = 2.5


@dataclass(frozen=True)
class OptionClass:
    """The options of one trading class on one underlying."""

    name: str
    underlying: Contract
    anchor: float
    """The price around which strikes are listed."""
    step: float
    rhythm: str
    """`weekly`, `daily`, `morning`: monthly, settled on the morning after the last day, or
    `future`: monthly, as long as there are futures to deliver."""
    first_id: int
    root: Root | None = None
    """The futures that it is about; `underlying` is then the nearest of them."""

    @property
    def blocks(self) -> int:
        """How many blocks of contract numbers the class takes."""
        return 5 if self.rhythm == DAILY else 1

    @property
    def min_tick(self) -> float:
        """The smallest price step."""
        if self.root:
            return self.root.option_tick
        return 0.05 if self.underlying.sec_type == "IND" else 0.01

    def strikes(self) -> list[float]:
        """Every strike that is listed: dense near the anchor, sparse far from it."""
        return [index * self.step for index in _strike_indices(self.anchor, self.step)]

    def expirations(self, today: date) -> list[date]:
        """Every last trading day from `today` on."""
        days = _expirations(self.rhythm, today)
        if self.root is None:
            return list(days)
        listed = set(self.root.months(today))
        return [day for day in days if self.root.traded_until(day) in listed]

    def contract(self, expiry: date, strike: float, right: str) -> Contract:
        """One option of the class; whether it is listed is the caller's question."""
        return _contract(self, expiry, strike, right)

    def by_id(self, con_id: int) -> Contract | None:
        """The option with that number."""
        block, rest = divmod(con_id - self.first_id, BLOCK)
        rest, put = divmod(rest, 2)
        week, index = divmod(rest, STRIKES)
        monday = FIRST_WEEK + timedelta(weeks=week)
        if self.rhythm == DAILY:
            expiry = monday + timedelta(days=block)
        elif self.rhythm == MORNING:
            expiry = previous_trading_day(monday + timedelta(days=4))
        else:
            expiry = _last_of_week(monday)
        if index == 0 or not is_trading_day(expiry):
            return None
        return _contract(self, expiry, index * self.step, "P" if put else "C")


@lru_cache(maxsize=512)
def _strike_indices(anchor: float, step: float) -> tuple[int, ...]:
    near = range(round(anchor * 0.8 / step), round(anchor * 1.2 / step) + 1)
    far = range(round(anchor * 0.5 / step / 4) * 4, round(anchor * 1.5 / step) + 1, 4)
    found = {index for index in (*near, *far) if 0 < index < STRIKES}
    return tuple(sorted(found))


@lru_cache(maxsize=64)
def _expirations(rhythm: str, today: date) -> tuple[date, ...]:
    months = [_third_friday(today.year, today.month + ahead) for ahead in range(13)]
    if rhythm == FUTURE:
        found = {_last_of_week(each - timedelta(days=4)) for each in months}
        return tuple(sorted(day for day in found if day >= today))
    far = [
        _third_friday(today.year, today.month + ahead)
        for ahead in range(13, int(YEARS_OUT * 12) + 1)
        if (today.month + ahead - 1) % 12 + 1 in LEAPS
    ]
    if rhythm == MORNING:
        months += far
        return tuple(sorted(day for each in months if (day := _day_before(each)) >= today))
    monday = today - timedelta(days=today.weekday())
    weeks = [monday + timedelta(weeks=ahead) for ahead in range(8)]
    fridays = [each - timedelta(days=4) for each in (*months, *far)]
    found = {_last_of_week(each) for each in (*weeks, *fridays)}
    if rhythm == DAILY:
        day = today if is_trading_day(today) else next_trading_day(today)
        for _ in range(10):
            found.add(day)
            day = next_trading_day(day)
    return tuple(sorted(day for day in found if day >= today))


def _third_friday(year: int, month: int) -> date:
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def third_friday(year: int, month: int) -> date:
    """The third Friday of a month, or the trading day before it; months above 12 run on."""
    return _last_of_week(_third_friday(year, month) - timedelta(days=4))


def _day_before(friday: date) -> date:
    return previous_trading_day(friday)


def _last_of_week(monday: date) -> date:
    friday = monday + timedelta(days=4)
    return friday if is_trading_day(friday) else previous_trading_day(friday)


@lru_cache(maxsize=2048)
def _contract(listed: OptionClass, expiry: date, strike: float, right: str) -> Contract:
    week, weekday = divmod((expiry - FIRST_WEEK).days, 7)
    index = round(strike / listed.step)
    block = weekday if listed.rhythm == DAILY else 0
    con_id = listed.first_id + block * BLOCK + (week * STRIKES + index) * 2 + (right == "P")
    if listed.root:
        return _on_future(listed, listed.root, con_id, (expiry, strike, right))
    thousandths = round(strike * 1000)
    return Contract(
        con_id=con_id,
        symbol=listed.underlying.symbol,
        sec_type="OPT",
        currency=listed.underlying.currency,
        local_symbol=f"{listed.name:<6}{expiry:%y%m%d}{right}{thousandths:08d}",
        trading_class=listed.name,
        expiry=f"{expiry:%Y%m%d}",
        strike=float(strike),
        right=right,
        multiplier="100",
        min_tick=listed.min_tick,
        under_id=listed.underlying.con_id,
    )


def _on_future(
    listed: OptionClass, root: Root, con_id: int, terms: tuple[date, float, str]
) -> Contract:
    """An option on a future."""
    expiry, strike, right = terms
    code = f"{MONTH_LETTERS[expiry.month - 1]}{expiry.year % 10}"
    return Contract(
        con_id=con_id,
        symbol=root.name,
        sec_type="FOP",
        currency=root.currency,
        exchange=root.exchange,
        local_symbol=f"{listed.name}{code} {right}{strike:g}",
        trading_class=listed.name,
        expiry=f"{expiry:%Y%m%d}",
        strike=float(strike),
        right=right,
        multiplier=root.multiplier,
        min_tick=root.option_tick,
        under_id=root.con_id(*root.traded_until(expiry)),
        month=f"{expiry:%Y%m}",
    )


FIRST_FUTURE_ID = 500_000_000
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
        return FIRST_FUTURE_ID + self.number * MONTHS + (year - 2000) * 12 + month

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
