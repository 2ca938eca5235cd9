"""Builds what reads the account."""

from __future__ import annotations

from bridge.account.greeks import PositionGreeks
from bridge.account.service import AccountService
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.services import Services


def install(services: Services) -> None:
    """Needs the contracts and the quotes. Provides positions, account values, profit and loss."""
    greeks = PositionGreeks(services[QuoteService], services[ContractService], services.clock)
    account = services.provide(
        AccountService, AccountService(services.gateway, services.clock, greeks)
    )
    services.gateway.add_reconciler("account", account.begin)
    services.on_stop(account.stop)
