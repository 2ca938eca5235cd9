"""How much."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.orders.errors import Violation
from bridge.orders.safety.case import Case
from bridge.orders.ticks import is_multiple


def quantity(case: Case) -> Iterator[Violation]:
    """`max-quantity` (shares, currency units), `max-contracts` (options, futures)."""
    amount, rules = case.order.quantity, case.rules
    if case.contract.sec_type in {"OPT", "FUT"}:
        if rules.max_contracts is not None and amount > rules.max_contracts:
            yield _too_much("max-contracts", "contracts", amount, rules.max_contracts)
        return
    unit = rules.currency_unit if case.contract.sec_type == "CASH" else 1
    if rules.max_quantity is not None and amount > rules.max_quantity * unit:
        yield _too_much("max-quantity", "units", amount, rules.max_quantity * unit)


def _too_much(code: str, noun: str, amount: float, limit: float) -> Violation:
    return Violation(
        code=code,
        message=f"{amount:g} {noun}, trading.{_setting(code)} is {limit:g}",
        field="quantity",
        value=amount,
        limit=limit,
    )


def _setting(code: str) -> str:
    return code.replace("-", "_")


def step(case: Case) -> Iterator[Violation]:
    """`quantity-step`, `quantity-minimum`, by the contract's own numbers."""
    amount, details = case.order.quantity, case.details
    whole = 1.0 if case.contract.sec_type in {"OPT", "FUT"} else None
    size = details.size_increment or whole
    if not is_multiple(amount, size):
        yield Violation(
            code="quantity-step",
            message=f"quantity {amount:g} is no multiple of {size:g}",
            field="quantity",
            value=amount,
            limit=size,
        )
    if details.min_size is not None and amount < details.min_size:
        yield Violation(
            code="quantity-minimum",
            message=f"quantity {amount:g} is less than the contract's minimum {details.min_size:g}",
            field="quantity",
            value=amount,
            limit=details.min_size,
        )


def notional(case: Case) -> Iterator[Violation]:
    """`max-notional`: quantity times price times multiplier, in the contract's currency."""
    limit, amount = case.rules.max_notional, case.notional
    if limit is None or amount is None or case.closing or amount <= limit:
        return
    yield Violation(
        code="max-notional",
        message=f"the order is worth about {amount:,.2f} {case.contract.currency}, more than the "
        f"{limit:,.2f} that trading.max_notional allows",
        field="quantity",
        value=round(amount, 2),
        limit=limit,
    )
