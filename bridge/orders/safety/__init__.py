"""The safety rules: small pure functions over a `Case`, each with one stable code.

All of them are asked, and everything they find is returned at once. docs/orders.md lists the codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from bridge.orders.errors import Violation
from bridge.orders.safety import counts, hours, instrument, key, permission, price, size
from bridge.orders.safety.case import Case

Rule = Callable[[Case], Iterator[Violation]]

ALWAYS: Final[tuple[Rule, ...]] = (
    permission.read_only,
    permission.live_not_confirmed,
    permission.account,
    key.account,
    key.symbol,
    key.notional,
    instrument.security_type,
    instrument.symbol,
    instrument.expired,
    instrument.market_order_on_option,
    size.quantity,
    size.step,
    size.notional,
    price.tick,
    price.line,
    price.quote,
    price.band,
)
NEW_ONLY: Final[tuple[Rule, ...]] = (
    counts.open_orders,
    counts.orders_of_the_day,
    key.orders_of_the_day,
    hours.market_closed,
    hours.restart_window,
    price.exit_side,
)
BOTH_COUNTED: Final[tuple[Rule, ...]] = (counts.notional_of_the_day,)


def violations(cases: Iterable[Case]) -> list[Violation]:
    """Every rule that these orders (or changes) break; the same finding is listed once."""
    found: dict[Violation, None] = {}
    for case in cases:
        rules = (*ALWAYS, *BOTH_COUNTED) if case.change else (*ALWAYS, *NEW_ONLY, *BOTH_COUNTED)
        for rule in rules:
            found.update(dict.fromkeys(rule(case)))
    return list(found)
