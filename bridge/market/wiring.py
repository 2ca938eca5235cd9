"""Builds what reads the market."""

from __future__ import annotations

from prometheus_client import Gauge

from bridge.market.contracts import ContractService
from bridge.market.history import HistoryService
from bridge.market.options import OptionService
from bridge.market.quotes import QuoteService
from bridge.services import Services


def install(services: Services) -> None:
    """Provides the services of contracts, quotes, options and history."""
    gateway, clock = services.gateway, services.clock
    contracts = services.provide(ContractService, ContractService(gateway, clock))
    quotes = services.provide(QuoteService, QuoteService(gateway, contracts, clock))
    services.provide(OptionService, OptionService(gateway, contracts, quotes, clock))
    history = services.provide(HistoryService, HistoryService(gateway, contracts, clock))
    services.on_start(quotes.start)
    services.on_stop(quotes.stop)
    pool, cache = quotes.pool, history.cache
    for name, text, read in (
        ("bridge_market_data_lines_held", "Lines that someone holds", lambda: pool.held),
        ("bridge_market_data_lines_open", "Lines open at the broker", lambda: pool.open),
        ("bridge_history_cache_bars", "Bars kept of settled pages", lambda: cache.bars),
        ("bridge_history_cache_hits", "Pages answered from the cache", lambda: cache.hits),
        ("bridge_history_cache_misses", "Pages asked of the broker", lambda: cache.misses),
    ):
        Gauge(name, text, registry=services.metrics).set_function(read)
