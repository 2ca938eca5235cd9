"""Installs the watches, and the alerts where an address file is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from prometheus_client import CollectorRegistry

from bridge.alerts.host_watch import HostWatch
from bridge.alerts.messages import AlertKind
from bridge.alerts.service import AlertService, alerts_of
from bridge.alerts.watch import ConditionWatch
from bridge.clock import Clock, settle
from bridge.environment import Environment
from bridge.orders.cancel import CancelResult
from bridge.orders.health import OrderAlerts
from bridge.orders.journal import OrderJournal
from bridge.orders.silence import SilenceWatch
from bridge.portal.service import PortalService
from bridge.services import Services
from bridge.store.orders import OrderRecord
from bridge.store.quarantine import Entry
from bridge.tws.session import TwsSession


def order_text(record: OrderRecord) -> str:
    """What a person needs to find the order."""
    terms = record.terms
    return (
        f"{terms.action} {terms.quantity:g} {record.symbol} (id {record.id}, reference"
        f" {record.order_ref}). Look for it in TWS or the Client Portal before you order again."
    )


def silence_text(key: str, result: CancelResult) -> str:
    """What a person needs to look after the client."""
    cancelled, kept = len(result.requested), len(result.kept)
    return (
        f"No heartbeat of the key {key} came in time. Cancelled: {cancelled} open orders; {kept}"
        " that only close a position stay, and trading goes on. The client's next heartbeat, or"
        " DELETE /trading/heartbeat with its key, ends this."
    )


def set_aside_text(entry: Entry) -> str:
    """What a person needs to find out what the message was."""
    return (
        f"{entry.kind} {entry.name[:80]}: {entry.cause[:200]}. Everything else goes on."
        " GET /journal shows it; compare the order and its fills with TWS, then"
        " DELETE /journal/quarantine."
    )


def host_watch_of(
    environment: Environment, alerts: AlertService | None, clock: Clock, registry: CollectorRegistry
) -> HostWatch:
    """The watch over disk and certificate that the environment asks for."""
    address = environment.tls_address
    return HostWatch(
        alerts,
        clock,
        registry,
        folder=environment.data_dir,
        least_megabytes=environment.alert_disk_megabytes,
        address=address,
        name=environment.tls_name or (address[0] if address else ""),
    )


def install(services: Services) -> None:
    """Watches disk and certificate; with an address file, provides the alerts and tells."""
    environment = services.environment
    alerts = alerts_of(environment, services.clock, services.metrics)
    host_watch = host_watch_of(environment, alerts, services.clock, services.metrics)
    work: list[Callable[[], Coroutine[None, None, None]]] = [
        host_watch.watch_disk,
        host_watch.watch_backups,
    ]
    if environment.tls_address is not None:
        work.append(host_watch.watch_certificate)
    if alerts is not None:
        services.provide(AlertService, alerts)
        work.append(_conditions(services, alerts))
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        if alerts is not None:
            await alerts.start()
        tasks.extend(asyncio.create_task(each(), name="alert-watch") for each in work)

    async def stop() -> None:
        await settle(*tasks)
        if alerts is not None:
            await alerts.stop()

    services.on_start(start)
    services.on_stop(stop)


def _conditions(
    services: Services, alerts: AlertService
) -> Callable[[], Coroutine[None, None, None]]:
    """The watch over the sessions, not yet begun; orders are told of as they come."""
    environment = services.environment
    watch = ConditionWatch(
        alerts,
        services[TwsSession].context,
        services.clock,
        lost_seconds=environment.alert_lost_minutes * 60.0,
        journal=services.journal,
    )

    def tell_set_aside(entry: Entry) -> None:
        alerts.tell(AlertKind.MESSAGE_SET_ASIDE, set_aside_text(entry))

    if OrderJournal in services:
        services[OrderJournal].set_aside.listen(tell_set_aside)

    def tell_order(record: OrderRecord) -> None:
        alerts.tell(AlertKind.ORDER_UNKNOWN, order_text(record))

    if OrderAlerts in services:
        services[OrderAlerts].order_unknown.listen(tell_order)

    def tell_silence(key: str, result: CancelResult) -> None:
        alerts.tell(AlertKind.CLIENT_SILENT, silence_text(key, result))

    if SilenceWatch in services:
        services[SilenceWatch].fell_silent.listen(tell_silence)
    portal = services[PortalService]
    return lambda: watch.run(portal.last_seen)
