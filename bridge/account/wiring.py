"""Builds what reads the account."""

from __future__ import annotations

from bridge.account.service import AccountService
from bridge.services import Services


def install(services: Services) -> None:
    """Provides positions, account values, profit and loss."""
    account = services.provide(AccountService, AccountService(services.gateway, services.clock))
    services.gateway.add_reconciler("account", account.begin)
    services.on_stop(account.stop)
