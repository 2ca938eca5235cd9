"""The parts of orders as the bridge puts them together, over a fake broker and a real journal."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from bridge.auditing import Auditor, Caller
from bridge.environment import Environment
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.orders.cancel import OrderCanceller
from bridge.orders.executions import ExecutionService
from bridge.orders.halt import TradingHalt
from bridge.orders.journal import OrderJournal
from bridge.orders.modify import OrderModifier
from bridge.orders.reconcile import TICK_SECONDS
from bridge.orders.request import OrderRequest
from bridge.orders.service import OrderService
from bridge.orders.submit import OrderSubmitter
from bridge.orders.views import OrderView
from bridge.orders.wiring import install
from bridge.services import Services
from bridge.store import Database
from bridge.store.probe import PROBE_SECONDS
from bridge.store.urgent import Urgent
from tests.bridge.orders.samples import NOON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.tws.gateway import Gateway
    from tests.bridge.orders.fake_broker import FakeBroker

CALLER = Caller("phone", "request-1")


class NoonClock:
    """The machine's clock, set to a quiet Friday noon; sleeping is cut short."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._ticks = asyncio.Semaphore(0)
        self._wound = self._set_back = 0.0

    def now(self) -> datetime:
        passed = self.monotonic() - self._begun
        return NOON + timedelta(seconds=passed - self._set_back)

    def monotonic(self) -> float:
        return time.monotonic() + self._wound

    async def sleep(self, seconds: float) -> None:
        if seconds == TICK_SECONDS:  # the reconciler's own look-out: only when a test says so
            await self._ticks.acquire()
        elif seconds == PROBE_SECONDS:
            await asyncio.sleep(seconds)
        else:
            await asyncio.sleep(min(seconds, 0.01))

    def wind(self, seconds: float) -> None:
        self._wound += seconds

    def set_back(self, seconds: float) -> None:
        """Somebody mends the machine's time of day."""
        self._set_back += seconds

    def tick(self) -> None:
        self._ticks.release()


class Rig:
    """One process's life."""

    def __init__(self, services: Services, broker: FakeBroker, clock: NoonClock) -> None:
        self.clock = clock
        self.services = services
        self.broker = broker
        self.service = services[OrderService]
        self.submitter = services[OrderSubmitter]
        self.modifier = services[OrderModifier]
        self.canceller = services[OrderCanceller]
        self.halt = services[TradingHalt]
        self.executions = services[ExecutionService]
        self.journal = services[OrderJournal]
        self.database = services[Database]

    async def place(self, key: str | None = "key-1", **changes: Any) -> OrderView:
        placed = await self.submitter.place(request(**changes), key, CALLER)
        assert isinstance(placed.answer, OrderView)
        return placed.answer

    async def order(self) -> OrderView:
        """The newest order."""
        await self.journal.flush()
        return (await self.service.orders(only_open=False, cursor="", limit=1)).orders[0]

    async def view(self, order_id: str) -> OrderView:
        await self.journal.flush()
        return await self.service.order(order_id)


def request(**changes: Any) -> OrderRequest:
    fields: dict[str, Any] = {
        "symbol": "AAPL",
        "action": "BUY",
        "quantity": 10,
        "order_type": "LMT",
        "limit_price": 100.0,
    }
    return OrderRequest(**(fields | changes))


@asynccontextmanager
async def opened(
    folder: Path, broker: FakeBroker, *, reconcile: bool = True, **rules: Any
) -> AsyncIterator[Rig]:
    """The parts from start to stop; `rules` go into the trading file."""
    file = folder / "trading.json"
    file.write_text(json.dumps({"answer_within_seconds": 5} | rules))
    clock = NoonClock()
    database = await Database.open(folder / "data")
    environment = Environment(trading_file=file)
    services = Services(environment, cast("Gateway", broker), clock)
    services.provide(Database, database)
    contracts = services.provide(ContractService, ContractService(services.gateway, clock))
    services.provide(QuoteService, QuoteService(services.gateway, contracts, clock))
    urgent = services.provide(Urgent, Urgent(database, services.journal))
    services.provide(Auditor, Auditor(urgent, clock))
    broker.reconcilers.clear()
    install(services)
    for hook in services.start_hooks:
        await hook()
    if reconcile:
        await broker.reconnect()
    try:
        yield Rig(services, broker, clock)
    finally:
        for hook in reversed(services.stop_hooks):
            await hook()
        await database.close()
