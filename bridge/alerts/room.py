"""Installs the alerts, where an address file is given."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from bridge.alerts.desk import AlertDesk
from bridge.alerts.kinds import AlertKind
from bridge.alerts.sender import Sender
from bridge.alerts.watch import ConditionWatch
from bridge.clock import Clock
from bridge.environment import Environment, EnvironmentProblem
from bridge.orders.alerts import OrderAlerts
from bridge.portal.desk import PortalDesk
from bridge.services import Services
from bridge.store.orders import OrderRecord
from bridge.tws.session import TwsSession
from bridge.tws.waiting import settle


def desk_of(
    environment: Environment, clock: Clock, registry: CollectorRegistry
) -> AlertDesk | None:
    """The desk that the environment asks for; None without an address file.

    Raises:
        EnvironmentProblem: an event in the list is none.
    """
    if environment.alerts_file is None:
        return None
    names = [name.strip() for name in environment.alert_events.split(",") if name.strip()]
    try:
        wanted = frozenset(AlertKind(name) for name in names)
    except ValueError as error:
        known = ", ".join(kind.value for kind in AlertKind)
        raise EnvironmentProblem("BRIDGE_ALERT_EVENTS", str(error), f"use {known}") from None
    return AlertDesk(
        Sender(environment.alerts_file),
        clock,
        registry,
        name=f"gangway ({environment.trading_mode})",
        wanted=wanted,
    )


def order_text(record: OrderRecord) -> str:
    """What a person needs to find the order."""
    terms = record.terms
    return (
        f"{terms.action} {terms.quantity:g} {record.symbol} (id {record.id}, reference"
        f" {record.order_ref}). Look for it in TWS or the Client Portal before you order again."
    )


def install(services: Services) -> None:
    """Provides the desk and begins to watch; does nothing without an address file."""
    environment = services.environment
    desk = desk_of(environment, services.clock, services.metrics)
    if desk is None:
        return
    services.provide(AlertDesk, desk)
    watch = ConditionWatch(
        desk,
        services[TwsSession].link,
        services.clock,
        lost_seconds=environment.alert_lost_minutes * 60.0,
        login_state_file=environment.login_state_file,
    )

    def tell_order(record: OrderRecord) -> None:
        desk.tell(AlertKind.ORDER_UNKNOWN, order_text(record))

    if OrderAlerts in services:
        services[OrderAlerts].order_unknown.listen(tell_order)
    portal = services[PortalDesk]
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        await desk.start()
        tasks.append(asyncio.create_task(watch.run(portal.last_seen), name="alert-watch"))

    async def stop() -> None:
        await settle(*tasks)
        await desk.stop()

    services.on_start(start)
    services.on_stop(stop)
