"""The parts of orders as the bridge puts them together, over a fake broker and a real journal."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from msgspec import structs

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
from tests.bridge.rig import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.tws.gateway import Gateway
    from tests.bridge.orders.fake_broker import FakeBroker

CALLER = Caller("phone", "request-1")

JOURNAL_WAITS = (
    "bridge.store.urgent.WAIT_SECONDS",
    "bridge.orders.cancel.WAIT_SECONDS",
    "bridge.auditing._ENTRY_SECONDS",
)
BROKER_WAITS = ("bridge.orders.cancel._POSITIONS_SECONDS", "bridge.orders.halt._CANCEL_SECONDS")
MOMENTS = (*JOURNAL_WAITS, *BROKER_WAITS, "bridge.orders.halt.WAIT_SECONDS")
"""How long a halt, a cancel and their entries wait for what may hold them up: tenths of a second,
in which a busy machine may not even get a sound disk to answer."""
PATIENT_SECONDS = 15.0


class NoonClock:
    """The machine's clock, set to a quiet Friday noon; sleeping is cut short."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._ticks = asyncio.Semaphore(0)
        self._rests = 0
        self._resting = False
        self._wound = self._set_back = 0.0

    def now(self) -> datetime:
        passed = self.monotonic() - self._begun
        return NOON + timedelta(seconds=passed - self._set_back)

    def monotonic(self) -> float:
        return time.monotonic() + self._wound

    async def sleep(self, seconds: float) -> None:
        if seconds == TICK_SECONDS:  # the reconciler's own look-out: only when a test says so
            self._rests, self._resting = self._rests + 1, True
            await self._ticks.acquire()
            self._resting = False
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

    async def look(self) -> None:
        """One look-out of the reconciler, to its end."""
        await eventually(lambda: self._resting)
        rests = self._rests
        self.tick()
        await eventually(lambda: self._rests > rests)


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

    def answers_within(self, seconds: float) -> None:
        """So long the broker's answer is waited for from now on.

        Shorter where none comes, and longer again where one has to.
        """
        preparer = self.submitter.preparer
        assert self.modifier.preparer is preparer
        preparer.rules = structs.replace(preparer.rules, answer_within_seconds=seconds)

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
    folder: Path,
    broker: FakeBroker,
    *,
    reconcile: bool = True,
    hurried: Collection[str] = (),
    later: float = 0.0,
    **rules: Any,
) -> AsyncIterator[Rig]:
    """The parts from start to stop, so many seconds after noon; `rules` go into the trading file.

    What usually waits for a moment only is patient, but for the `hurried` ones of `MOMENTS`.
    """
    with ExitStack() as patient:
        for name in set(MOMENTS) - set(hurried):
            patient.enter_context(patch(name, PATIENT_SECONDS))
        async with _opened(folder, broker, reconcile, rules, later) as rig:
            yield rig


@asynccontextmanager
async def _opened(
    folder: Path, broker: FakeBroker, reconcile: bool, rules: dict[str, Any], later: float
) -> AsyncIterator[Rig]:
    file = folder / "trading.json"
    file.write_text(json.dumps({"answer_within_seconds": 5} | rules))
    clock = NoonClock()
    clock.wind(later)
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
