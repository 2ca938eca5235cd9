"""Puts the position manager together and gives it its place in the life of the bridge."""

from __future__ import annotations

import asyncio

import msgspec

from bridge.account.service import AccountService
from bridge.alerts.messages import AlertKind
from bridge.alerts.service import AlertService
from bridge.auditing import Auditor
from bridge.clock import settle
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.orders.cancel import OrderCanceller
from bridge.orders.halt import HaltSwitch
from bridge.orders.journal import OrderJournal
from bridge.orders.modify import OrderModifier
from bridge.orders.rules import load as load_limits
from bridge.orders.submit import OrderSubmitter
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.manager import Circumstances, PositionManager
from bridge.rules.opening_history import OpeningHistory
from bridge.rules.service import RulesService, described, level_of, load, wanted
from bridge.rules.watch import HoldingWatch
from bridge.services import Services
from bridge.store import Database
from bridge.store.rules import RuleEvent
from bridge.stream.service import StreamService
from bridge.stream.subscriber import RULES, Topic


def install(services: Services) -> None:
    """Needs the journal, the market, the orders, the stream and (to tell people) the alerts."""
    environment, database = services.environment, services[Database]
    gateway, clock = services.gateway, services.clock
    journal, history = services[OrderJournal], services[OpeningHistory]
    watch = HoldingWatch(gateway, services[ContractService], services[QuoteService], history, clock)
    orders = ClosingOrders(
        database=database,
        gateway=gateway,
        journal=journal,
        submitter=services[OrderSubmitter],
        modifier=services[OrderModifier],
        canceller=services[OrderCanceller],
    )
    manager = PositionManager(
        Circumstances(
            database=database,
            gateway=gateway,
            clock=clock,
            watch=watch,
            orders=orders,
            halt=services[HaltSwitch],
            condition=services.journal,
            restarts=environment.restarts,
            guard_seconds=load_limits(environment.trading_file).restart_guard_seconds,
            late=services[AccountService].late if AccountService in services else tuple,
        )
    )
    journal.order_changed.listen(lambda _: manager.look_again())
    history.rules = lambda: manager.rules
    service = RulesService(
        database, clock, services[Auditor], manager, load(environment.rules_file)
    )
    services.provide(RulesService, service)
    services.needs.append(manager.need)
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        await service.start()
        if AlertService in services:
            alerts = services[AlertService]
            watching = service.watch_day(
                lambda text: alerts.tell(AlertKind.RULE, text, level="info")
            )
            tasks.append(asyncio.create_task(watching, name="rules-summary"))

    async def stop() -> None:
        await settle(*tasks)
        await manager.stop()

    services.on_start(start)
    services.on_stop(stop)
    _tell(services, manager)


def _tell(services: Services, manager: PositionManager) -> None:
    """Streams every event; tells people of what was decided and how it ended."""
    if StreamService in services:
        hub = services[StreamService].hub
        manager.happened.listen(
            lambda event: hub.publish(Topic(RULES), msgspec.json.encode(event).decode())
        )
    if AlertService in services:
        alerts = services[AlertService]

        def alert(event: RuleEvent) -> None:
            if wanted(event):
                alerts.tell(AlertKind.RULE, described(event), level=level_of(event))

        manager.happened.listen(alert)
