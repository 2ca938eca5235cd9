"""How far the key reaches that an order came with (`apikey create --account … --symbols …`)."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.orders.errors import Violation
from bridge.orders.safety.case import Case


def account(case: Case) -> Iterator[Violation]:
    """`key-account`: the key is bound to other accounts."""
    bound = case.bounds.accounts
    if bound and case.order.account not in bound:
        yield Violation(
            code="key-account",
            message=f"this key does not trade account {case.order.account or '(none)'}",
            field="account",
            value=case.order.account,
            limit=" ".join(bound),
        )


def symbol(case: Case) -> Iterator[Violation]:
    """`key-symbol`: the key is bound to other symbols."""
    bound, name = case.bounds.symbols, case.contract.symbol.upper()
    if bound and name not in bound:
        yield Violation(
            code="key-symbol",
            message=f"this key does not trade {name}",
            field="symbol",
            value=name,
        )


def notional(case: Case) -> Iterator[Violation]:
    """`key-max-notional`: also for an order whose worth nobody can tell now."""
    limit, amount = case.bounds.max_notional, case.notional
    if limit is None or case.closing or (amount is not None and amount <= limit):
        return
    worth = "an unknown amount" if amount is None else f"about {amount:,.2f}"
    yield Violation(
        code="key-max-notional",
        message=f"the order is worth {worth} {case.contract.currency}, this key may order "
        f"{limit:,.2f} at once",
        field="quantity",
        value=None if amount is None else round(amount, 2),
        limit=limit,
    )


def orders_of_the_day(case: Case) -> Iterator[Violation]:
    """`key-max-orders-per-day`: what this key sent today, every leg of a bracket counted."""
    limit = case.bounds.max_orders_per_day
    if limit is not None and case.orders_of_key + case.new_orders > limit:
        yield Violation(
            code="key-max-orders-per-day",
            message=f"this key sent {case.orders_of_key} orders today, it may send {limit}",
            value=case.orders_of_key,
            limit=limit,
        )
