"""Builds the account room."""

from __future__ import annotations

from bridge.account.desk import AccountDesk
from bridge.services import Services


def install(services: Services) -> None:
    """Provides positions, account values, profit and loss."""
    desk = services.provide(AccountDesk, AccountDesk(services.gateway, services.clock))
    services.on_stop(desk.stop)
