"""Whether orders may go out at all, and for this account."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.orders.errors import Violation
from bridge.orders.safety.case import Case


def read_only(case: Case) -> Iterator[Violation]:
    """`read-only`: this bridge sends no orders."""
    if case.rules.read_only:
        yield Violation(code="read-only", message="this bridge is read-only (trading.read_only)")


def live_not_confirmed(case: Case) -> Iterator[Violation]:
    """`live-not-confirmed`: a live account without `trading.live: true`.

    Paper accounts' names begin with D (DU..., DF...); the login's mode alone is not trusted.
    """
    live = case.trading_mode != "paper" or not case.order.account.upper().startswith("D")
    if live and case.order.account and not case.rules.live:
        yield Violation(
            code="live-not-confirmed",
            message=f"account {case.order.account} is live, and trading.live is not true",
            field="account",
        )


def account(case: Case) -> Iterator[Violation]:
    """`account-required`, `account-unknown`, `account-not-allowed`."""
    named, allowed = case.order.account, case.rules.allow_accounts
    if not named:
        yield Violation(
            code="account-required",
            message=f"name the account: this login manages {len(case.accounts)}",
            field="account",
        )
    elif named not in case.accounts:
        yield Violation(
            code="account-unknown",
            message=f"this login does not manage account {named}",
            field="account",
            value=named,
        )
    elif allowed is not None and named not in allowed:
        yield Violation(
            code="account-not-allowed",
            message=f"account {named} is not in trading.allow_accounts",
            field="account",
            value=named,
        )
