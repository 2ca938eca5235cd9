"""Whether this instrument may be traded, and in this way."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.market.exchange_time import days_to_expiration, exchange_zone
from bridge.orders.errors import Violation
from bridge.orders.safety.case import Case

_WITH_A_LIMIT = {
    "MKT": "use LMT with a limitPrice",
    "STP": "use STP_LMT with a limitPrice, in a bracket stopLoss: {stopPrice, limitPrice}",
}
"""What fills at no worse than a price, instead of each type that `fills_at_any_price` knows."""


def security_type(case: Case) -> Iterator[Violation]:
    """`sec-type-not-allowed`."""
    kind = case.contract.sec_type
    if kind not in case.rules.allow_sec_types:
        yield Violation(
            code="sec-type-not-allowed",
            message=f"{kind} is not in trading.allow_sec_types",
            field="secType",
            value=kind,
        )


def symbol(case: Case) -> Iterator[Violation]:
    """`symbol-not-allowed`, `symbol-denied`."""
    name = case.contract.symbol.upper()
    allowed = case.rules.allow_symbols
    if allowed is not None and name not in {each.upper() for each in allowed}:
        yield Violation(
            code="symbol-not-allowed",
            message=f"{name} is not in trading.allow_symbols",
            field="symbol",
            value=name,
        )
    if name in {each.upper() for each in case.rules.deny_symbols}:
        yield Violation(
            code="symbol-denied",
            message=f"{name} is in trading.deny_symbols",
            field="symbol",
            value=name,
        )


def expired(case: Case) -> Iterator[Violation]:
    """`contract-expired`, by the exchange's calendar day."""
    expiration = case.details.real_expiration or case.contract.expiration
    if len(expiration) < 8:
        return
    if (
        days_to_expiration(
            expiration, exchange_zone(case.details.time_zone, case.details.contract), case.now
        )
        < 0
    ):
        yield Violation(
            code="contract-expired",
            message=f"the contract expired on {expiration[:8]}",
            field="expiration",
            value=expiration[:8],
        )


def market_order_on_option(case: Case) -> Iterator[Violation]:
    """`market-order-on-option`: an option's spread can cost more than the option."""
    if case.contract.sec_type != "OPT" or case.rules.market_orders_on_options:
        return
    kind = case.order.order_type
    if case.fills_at_any_price:
        yield Violation(
            code="market-order-on-option",
            message=f"{kind} on an option may fill at any price: {_WITH_A_LIMIT[kind]}",
            field="orderType",
            value=kind,
        )
