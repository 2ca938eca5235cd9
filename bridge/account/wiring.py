"""Builds the account room."""

from __future__ import annotations

from bridge.account.service import AccountService
from bridge.services import Services


def install(services: Services) -> None:
    """Provides positions, account values, profit and loss."""
    desk = services.provide(AccountService, AccountService(services.gateway, services.clock))
    services.on_stop(desk.stop)
