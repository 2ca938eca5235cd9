"""What a gateway tells about a contract beyond its description: hours, rules, order types."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from simulator.contracts import bonds, identifiers
from simulator.contracts.order_types import announced
from simulator.contracts.rules import rule_of, size_step
from simulator.market import calendar

if TYPE_CHECKING:
    from simulator.contracts.catalog import Catalog
    from simulator.contracts.contract import Contract

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
        "order_types": announced(contract.sec_type),
        "valid_exchanges": exchanges,
        "under_con_id": contract.under_id,
        "primary_exchange": contract.primary_exchange,
        "contract_month": contract.month or contract.expiry[:6],
        "time_zone": zone,
        "trading_hours": hours(contract.sec_type, zone, today, False),
        "liquid_hours": hours(contract.sec_type, zone, today, True),
        "aggregated_group": {"STK": 1, "OPT": 2, "CASH": 4}.get(contract.sec_type, 2147483647),
        "market_rule_ids": ",".join([str(rule_of(contract))] * count),
        "real_expiration": contract.expiry,
        "suggested_size": {"STK": 100}.get(contract.sec_type, 1),
        "minimum_size": text_of(size_step(contract)),
        "size_increment": text_of(size_step(contract)),
        "security_ids": [{"tag": tag, "value": value} for tag, value in identifiers.of(contract)],
    }
    if contract.sec_type == "BOND":
        content |= bonds.described(contract.con_id)
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
