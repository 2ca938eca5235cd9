"""Positions, rules and markets for the tests of rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from bridge.model import Contract, Position
from bridge.rules.evaluation import Market, Price
from bridge.rules.holdings import Holding, holdings
from bridge.rules.model import Rule, RuleSet, read

NOON = datetime(2026, 6, 1, 16, 0, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")


def stock(quantity: float, cost: float = 100.0, con_id: int = 1, symbol: str = "AAPL") -> Position:
    return Position(
        account="DU1",
        contract=Contract(con_id=con_id, symbol=symbol),
        quantity=quantity,
        average_cost=cost,
    )


def option(
    quantity: float, cost: float, con_id: int, right: Any = "P", strike: float = 500.0
) -> Position:
    return Position(
        account="DU1",
        contract=Contract(
            con_id=con_id,
            symbol="SPY",
            sec_type="OPT",
            right=right,
            strike=strike,
            expiration="20260619",
            multiplier="100",
        ),
        quantity=quantity,
        average_cost=cost,
    )


def rules(*entries: dict[str, Any], mode: str | None = None) -> RuleSet:
    return read({"rules": [{"id": f"r{i}", **each} for i, each in enumerate(entries)],
                 **({"mode": mode} if mode else {})})  # fmt: skip


def rule(**members: Any) -> Rule:
    return rules({"match": {"account": "DU1"}, **members}).rules[0]


def only(*positions: Position) -> Holding:
    (found,) = holdings(positions, RuleSet())
    return found


def market(*prices: tuple[int, float, float], now: datetime = NOON, **members: Any) -> Market:
    quotes = {con_id: Price(bid=bid, ask=ask) for con_id, bid, ask in prices}
    return Market(now=now, zone=NEW_YORK, prices=quotes, **members)
