"""What the gateway tells of a contract: details, order types, price steps and market rules."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from simulator.contracts import instruments
from simulator.market import calendar

if TYPE_CHECKING:
    from simulator.contracts.catalog import Catalog
    from simulator.contracts.contract import Contract

_ALWAYS = ("MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT")
ORDER_TYPES: dict[str, tuple[str, ...]] = {
    "STK": (*_ALWAYS, "MOC", "LOC", "MTL", "MIDPRICE", "REL", "PEG MID"),
    "OPT": (*_ALWAYS, "MTL", "REL"),
    "FUT": (*_ALWAYS, "MOC", "LOC", "MTL"),
    "FOP": (*_ALWAYS, "MTL"),
    "CASH": _ALWAYS,
    "BAG": ("MKT", "LMT"),
    "BOND": ("MKT", "LMT"),
}
"""Kind of contract -> the order types that it takes, as clients write them; none for the others."""
TIMES: dict[str, tuple[str, ...]] = {
    "STK": ("DAY", "GTC", "GTD", "IOC", "FOK", "OPG"),
    "FUT": ("DAY", "GTC", "GTD", "IOC", "FOK", "OPG"),
    "OPT": ("DAY", "GTC", "GTD", "IOC", "FOK"),
    "FOP": ("DAY", "GTC", "GTD", "IOC", "FOK"),
    "CASH": ("DAY", "GTC", "GTD", "IOC", "FOK"),
    "BAG": ("DAY", "GTC", "GTD", "IOC"),
    "BOND": ("DAY", "GTC"),
}
"""Kind of contract -> the times in force that it takes."""
CODES = {
    "STP LMT": "STPLMT", "TRAIL LIMIT": "TRAILLMT", "MIDPRICE": "MIDPX", "PEG MID": "PEGMID",
}  # fmt: skip
"""Order types that contract details call by another name."""
ATTRIBUTES = ("AON", "COND", "GAT", "OCA", "WHATIF")
ADAPTIVE = frozenset({"STK", "OPT", "FUT"})
"""Kinds that take the algorithm Adaptive."""
CASH_QUANTITY = frozenset({"CASH"})
"""Kinds whose orders may name an amount of money instead of a quantity."""


def announced(sec_type: str, exchange: str = "") -> str:
    """The order types of contract details, comma-separated; empty when no order is taken."""
    if exchange == calendar.OVERNIGHT:
        return "DAY,LMT,WHATIF"
    if sec_type not in ORDER_TYPES:
        return ""
    words = {CODES.get(each, each) for each in ORDER_TYPES[sec_type]}
    words |= {*TIMES[sec_type], *ATTRIBUTES}
    if sec_type in ADAPTIVE:
        words.add("ALGO")
    if sec_type in CASH_QUANTITY:
        words.add("CASHQTY")
    return ",".join(sorted(words))


Steps = tuple[tuple[float, float], ...]
PENNY, NICKEL, INDEX_OPTION, STOCK, TENTH_PIP, HALF_CENT = 109, 32, 110, 26, 239, 240
PENNY_CLASSES = frozenset({"SPY", "QQQ", "IWM"})
"""Classes of options that trade in cents at every price."""
RULES: dict[int, Steps] = {
    STOCK: ((0.0, 0.01),),
    NICKEL: ((0.0, 0.01), (3.0, 0.05)),
    PENNY: ((0.0, 0.01),),
    INDEX_OPTION: ((0.0, 0.05), (3.0, 0.1)),
    TENTH_PIP: ((0.0, 0.00005),),
    HALF_CENT: ((0.0, 0.005),),
    67: ((0.0, 0.25),),
    57: ((0.0, 0.1),),
    56: ((0.0, 1.0),),
    28: ((0.0, 0.01),),
    79: ((0.0, 0.001),),
    65: ((0.0, 0.005),),
    153: ((0.0, 0.015625),),
    1736: ((0.0, 0.00005),),
    107: ((0.0, 0.05), (5.0, 0.25)),
    92: ((0.0, 0.01),),
    163: ((0.0, 0.1),),
}
"""Market rule -> the price from which each increment holds."""
FUTURE_RULES = {0.25: 67, 0.1: 57, 1.0: 56, 0.01: 28, 0.001: 79, 0.005: 65, 0.015625: 153}
FUTURE_RULES[0.00005] = 1736
FUTURE_OPTION_RULES = {0.05: 107, 0.01: 92, 0.1: 163}


def rule_of(contract: Contract) -> int:
    """The market rule of a contract."""
    kind, tick = contract.sec_type, contract.min_tick
    if kind == "OPT":
        if tick > 0.01:
            return INDEX_OPTION
        return PENNY if contract.trading_class in PENNY_CLASSES else NICKEL
    if kind == "CASH":
        return HALF_CENT if tick > 0.001 else TENTH_PIP
    if kind in ("FUT", "CONTFUT"):
        return FUTURE_RULES[tick]
    if kind == "FOP":
        return FUTURE_OPTION_RULES[tick]
    return STOCK


def increments(rule: int) -> Steps | None:
    """The price increments of a rule; None when there is no such rule."""
    return RULES.get(rule)


def step_at(contract: Contract, price: float) -> float:
    """The increment that holds for a price of the contract's."""
    if contract.sec_type not in ("OPT", "FOP"):
        return contract.min_tick
    step = contract.min_tick
    for low, increment in RULES[rule_of(contract)]:
        if abs(price) >= low - 1e-9:
            step = increment
    return step


def size_step(contract: Contract) -> float:
    """The smallest quantity of a contract, of which every quantity is a multiple."""
    if contract.sec_type == "STK" and contract.currency == "USD":
        return 0.0001
    return 0.01 if contract.sec_type == "CASH" else 1.0


def nearest(contract: Contract, value: float) -> float:
    """A price on the contract's grid; between two it is the upper one."""
    step = step_at(contract, value)
    return round(math.floor(value / step + 0.5) * step, 8)


NEW_YORK, CHICAGO = "US/Eastern", "US/Central"


def zone_of(contract: Contract) -> str:
    """The time zone in which a contract's hours are written."""
    return CHICAGO if contract.exchange in ("CME", "CBOT") else NEW_YORK


@lru_cache(maxsize=256)
def hours(sec_type: str, zone: str, first: date, liquid: bool) -> str:
    """Six days of hours, as `20261120:0930-20261120:1600;20261121:CLOSED;...`."""
    find = calendar.regular if liquid else calendar.trading
    parts = []
    for ahead in range(6):
        day = first + timedelta(days=ahead)
        span = find(sec_type, day)
        if span is None:
            parts.append(f"{day:%Y%m%d}:CLOSED")
            continue
        local = ZoneInfo(zone)
        begin, end = (datetime.fromtimestamp(each, UTC).astimezone(local) for each in span)
        parts.append(f"{begin:%Y%m%d:%H%M}-{end:%Y%m%d:%H%M}")
    return ";".join(parts)


def describe(catalog: Catalog, contract: Contract, today: date) -> dict[str, Any]:
    """The content of a contractDetails message but its request id."""
    zone = zone_of(contract)
    kind = calendar.hours_of(contract.sec_type, contract.exchange)
    exchanges = ",".join(catalog.exchanges(contract))
    count = exchanges.count(",") + 1
    content: dict[str, Any] = {
        "symbol": contract.symbol,
        "sec_type": contract.sec_type,
        "last_trade": contract.expiry,
        "strike": contract.strike,
        "right": contract.right,
        "exchange": contract.exchange,
        "currency": contract.currency,
        "local_symbol": contract.local_symbol,
        "market_name": contract.trading_class,
        "trading_class": contract.trading_class,
        "con_id": contract.con_id,
        "min_tick": contract.min_tick,
        "multiplier": contract.multiplier,
        "order_types": announced(contract.sec_type, contract.exchange),
        "valid_exchanges": exchanges,
        "under_con_id": contract.under_id,
        "primary_exchange": contract.primary_exchange,
        "contract_month": contract.month or contract.expiry[:6],
        "time_zone": zone,
        "trading_hours": hours(kind, zone, today, False),
        "liquid_hours": hours(kind, zone, today, True),
        "aggregated_group": {"STK": 1, "OPT": 2, "CASH": 4}.get(contract.sec_type, 2147483647),
        "market_rule_ids": ",".join([str(rule_of(contract))] * count),
        "real_expiration": contract.expiry,
        "suggested_size": {"STK": 100}.get(contract.sec_type, 1),
        "minimum_size": text_of(size_step(contract)),
        "size_increment": text_of(size_step(contract)),
        "security_ids": [
            {"tag": tag, "value": value} for tag, value in instruments.security_ids(contract)
        ],
    }
    if contract.sec_type == "BOND":
        content |= instruments.bond_details(contract.con_id)
    return content | _named(catalog, contract)


def text_of(size: float) -> str:
    """A size as the wire has it."""
    return f"{size:g}"


def _named(catalog: Catalog, contract: Contract) -> dict[str, Any]:
    if contract.sec_type in ("FUT", "CONTFUT", "FOP"):
        return _of_future(catalog, contract)
    under = catalog.instruments.get(contract.under_id)
    about = under or catalog.instruments[contract.con_id]
    named = {"long_name": about.name, "industry": about.industry, "category": about.category}
    named["subcategory"] = "*" if about.contract.sec_type == "IND" else about.category
    if under:
        named |= {"under_symbol": contract.symbol, "under_sec_type": under.contract.sec_type}
    elif contract.sec_type == "STK":
        named["stock_type"] = "ETF" if about.category == "ETF" else "COMMON"
    return named


def _of_future(catalog: Catalog, contract: Contract) -> dict[str, Any]:
    """What a future or an option on one is about: an index or goods, under the root's symbol."""
    root = catalog.roots[contract.symbol]
    index = catalog.index_of(root)
    about = catalog.instruments[index.con_id] if index else None
    named = {
        "long_name": root.long_name,
        "industry": about.industry if about else "",
        "category": about.category if about else "",
        "subcategory": "*" if about else "",
        "under_symbol": contract.symbol,
        "under_sec_type": "IND",
    }
    if contract.sec_type == "FOP":
        future = catalog.by_id(contract.under_id)
        named |= {"under_sec_type": "FUT", "under_symbol": future.local_symbol if future else ""}
    return named
