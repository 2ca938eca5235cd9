"""How many, and how much in a day."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.orders.errors import Violation
from bridge.orders.safety.case import Case


def open_orders(case: Case) -> Iterator[Violation]:
    """`max-open-orders`: orders whose fate is unknown count as open."""
    limit = case.rules.max_open_orders
    if limit is not None and case.open_orders + case.new_orders > limit:
        yield Violation(
            code="max-open-orders",
            message=f"{case.open_orders} orders are open, trading.max_open_orders is {limit}",
            value=case.open_orders,
            limit=limit,
        )


def orders_of_the_day(case: Case) -> Iterator[Violation]:
    """`max-orders-per-day`."""
    limit = case.rules.max_orders_per_day
    if limit is not None and case.day.orders + case.new_orders > limit:
        yield Violation(
            code="max-orders-per-day",
            message=f"{case.day.orders} orders were sent today, "
            f"trading.max_orders_per_day is {limit}",
            value=case.day.orders,
            limit=limit,
        )


def notional_of_the_day(case: Case) -> Iterator[Violation]:
    """`max-notional-per-day`; a change counts with what it adds."""
    limit = case.rules.max_notional_per_day
    if limit is None or case.closing:
        return
    added = max(0.0, (case.request_notional or case.notional or 0.0) - case.earlier_notional)
    if added and case.day.notional + added > limit:
        yield Violation(
            code="max-notional-per-day",
            message=f"with this order {case.day.notional + added:,.2f} would be ordered today, "
            f"more than the {limit:,.2f} that trading.max_notional_per_day allows",
            value=round(case.day.notional + added, 2),
            limit=limit,
        )
