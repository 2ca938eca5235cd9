"""Puts the order room together and gives it its place in the life of the bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.auditing import Auditor
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.orders.alerts import OrderAlerts, described
from bridge.orders.executions import ExecutionService, ExecutionView, execution_view
from bridge.orders.halt import JOURNAL, HaltSwitch
from bridge.orders.journal import OrderJournal
from bridge.orders.journal_service import JournalService
from bridge.orders.modify import OrderModifier
from bridge.orders.order_ids import NumberSequence, OrderNumbers
from bridge.orders.other_clients import OtherClientsOrders
from bridge.orders.prepare import Preparer
from bridge.orders.reconcile import Reconciler
from bridge.orders.reference import DeskReferences
from bridge.orders.rules import TradingRules, load
from bridge.orders.sender import OrderSender
from bridge.orders.service import OrderService
from bridge.orders.silence import SilenceWatch
from bridge.orders.submit import OrderSubmitter
from bridge.orders.views import OrderView, order_view
from bridge.orders.worker import Tools
from bridge.services import HealthOverlay, Need, Services
from bridge.settings.profile import Profile
from bridge.settings.service import SettingsService
from bridge.store import Database
from bridge.store.condition import JournalCondition
from bridge.store.identity import ACCEPT
from bridge.store.probe import Probe
from bridge.store.urgent import Urgent
from bridge.stream.service import StreamService
from bridge.stream.subscriber import EXECUTIONS, ORDERS, Topic
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import READ_ONLY_ACTION
from bridge.tws.session import ClientIds, TwsSession

log = structlog.get_logger(__name__)

MARK_SECONDS: Final = 1.25
"""How soon a mark that somebody has left is obeyed for the orders that are open."""


def install(services: Services) -> None:
    """Needs the journal, the contracts and the quotes."""
    database, gateway, clock = services[Database], services.gateway, services.clock
    rules = load(services.environment.trading_file)
    preparer = Preparer(
        gateway,
        services[ContractService],
        DeskReferences(services[QuoteService]),
        clock,
        rules,
        services.environment.trading_mode,
        services.environment.restarts,
    )
    condition = services.journal
    condition.identity = database.identity
    journal = services.provide(OrderJournal, OrderJournal(database, gateway, clock, condition))
    urgent = services[Urgent]
    halt = services.provide(HaltSwitch, HaltSwitch(database, clock, urgent))
    auditor = services[Auditor]
    numbers = OrderNumbers(gateway)
    tools = Tools(
        database=database,
        gateway=gateway,
        preparer=preparer,
        journal=journal,
        halt=halt,
        auditor=auditor,
        clock=clock,
    )
    sender = OrderSender(tools, numbers)
    placement, changes = OrderSubmitter(tools, sender), OrderModifier(tools)
    others = OtherClientsOrders(
        tools, ClientIds(services[TwsSession]).borrowed if TwsSession in services else None
    )
    sequence = NumberSequence(database, gateway, clock)
    reconciler = Reconciler(
        database, gateway, journal, sender, changes, halt, sequence, rules, clock
    )
    service = OrderService(database, gateway, placement, sender, changes, halt, auditor, others)
    services.provide(OrderService, service)
    services.provide(JournalService, JournalService(database, condition, auditor, clock))
    services.provide(ExecutionService, ExecutionService(database))
    alerts = services.provide(OrderAlerts, OrderAlerts(database, journal, services.metrics))

    note = services[TwsSession].context.diagnostics.note if TwsSession in services else _unnoted
    silence = services.provide(
        SilenceWatch,
        SilenceWatch(
            rules.cancel_when_silent,
            services.environment.data_dir,
            clock,
            auditor,
            changes.cancel_opening,
            note,
        ),
    )
    services.needs.append(silence.need)
    probe = services.provide(Probe, Probe(database, condition, urgent))
    watching: list[asyncio.Task[None]] = []

    async def start() -> None:
        await halt.load()
        await numbers.load(database)
        await alerts.load()
        await journal.start()
        await reconciler.start()
        watching.append(asyncio.create_task(probe.run(clock), name="journal-probe"))
        if rules.cancel_when_silent is not None:
            silence.load()
            watching.append(asyncio.create_task(silence.run(), name="silence-watch"))
        watching.append(asyncio.create_task(_watch_mark(reconciler, clock), name="halt-mark-watch"))

    async def stop() -> None:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await reconciler.stop()
        await sender.settle_down()
        await journal.stop()
        await urgent.stop()

    services.on_start(start)
    services.on_stop(stop)
    services.on_last_words(journal.give_up)
    gateway.add_reconciler("orders", reconciler.reconcile, required=True)
    gateway.add_reconciler("orders-clear-up", reconciler.clear_up)
    services.health_overlays.append(lambda: _health(halt, condition))
    services.health_overlays.append(lambda: _journal_health(condition))
    services.health_overlays.append(lambda: _read_only_health(reconciler, rules))
    services.health_overlays.append(lambda: _silence(reconciler))
    services.needs += [
        lambda: _need(alerts.unknown),
        lambda: _as_need("halted", "Trading is halted", _health(halt, condition)),
        lambda: _as_need("journal", "The journal needs you", _journal_health(condition)),
        lambda: _quarantine_need(condition),
        lambda: _as_need(
            "read-only", "The gateway refuses orders", _read_only_health(reconciler, rules)
        ),
    ]
    services.metrics.register(JournalCollector(condition))
    _tell_others(services, journal, alerts)
    _follow_settings(services, preparer)


def _follow_settings(services: Services, preparer: Preparer) -> None:
    """Read-only and the usual account come from the connection settings, where they are kept."""

    async def follow(profile: Profile, _: object) -> None:
        preparer.adopt(read_only=profile.read_only, account=profile.account)

    if SettingsService in services:
        services[SettingsService].on_apply(follow)


def _tell_others(services: Services, journal: OrderJournal, alerts: OrderAlerts) -> None:
    """Streams and connection events, where those rooms are installed."""
    if StreamService in services:
        hub = services[StreamService].hub
        journal.order_changed.listen(
            lambda record: hub.publish(Topic(ORDERS), _json(order_view(record)))
        )
        journal.execution_changed.listen(
            lambda row: hub.publish(Topic(EXECUTIONS), _json(execution_view(row)))
        )
    if TwsSession in services:
        diagnostics = services[TwsSession].context.diagnostics
        services[TwsSession].context.brakes.append(journal.behind)
        alerts.order_unknown.listen(
            lambda record: diagnostics.note("order-fate-unknown", **described(record))
        )


def _json(view: OrderView | ExecutionView) -> str:
    return msgspec.json.encode(view).decode()


def _need(unknown: int) -> Need | None:
    if not unknown:
        return None
    orders = "1 order needs" if unknown == 1 else f"{unknown} orders need"
    return Need(
        code="orders-unknown",
        message=f"{orders} you: they may or may not have reached the broker"
        if unknown > 1
        else f"{orders} you: it may or may not have reached the broker",
        next_step="Look in TWS or the Client Portal, then settle each: on the status page, or"
        " POST /order/{id}/settle",
    )


def _quarantine_need(condition: JournalCondition) -> Need | None:
    count = condition.quarantined
    if not count:
        return None
    return Need(
        code="quarantine",
        message=f"{count} messages of the broker's could not be kept",
        next_step="GET /journal shows them: compare them with TWS",
    )


def _as_need(code: str, message: str, overlay: HealthOverlay | None) -> Need | None:
    if overlay is None:
        return None
    return Need(code=code, message=message, next_step=overlay.next_action)


def _read_only_health(reconciler: Reconciler, rules: TradingRules) -> HealthOverlay | None:
    """A gateway that refuses every order is not ready for them, unless that is what is wanted."""
    if not reconciler.gateway_read_only or rules.read_only or rules.gateway_read_only:
        return None
    return HealthOverlay(state=ConnectionState.READ_ONLY, next_action=READ_ONLY_ACTION)


def _unnoted(kind: str, **_: object) -> None:
    """Where no session keeps a history."""


async def _watch_mark(reconciler: Reconciler, clock: Clock) -> None:
    """Each send looks by itself; this is for what is open when somebody leaves a mark."""
    while True:
        try:
            await reconciler.obey_mark()
        except BridgeError as error:
            log.warning("halt-mark-postponed", reason=error.detail)  # the next connect repeats it
        await clock.sleep(MARK_SECONDS)


def _health(halt: HaltSwitch, condition: JournalCondition) -> HealthOverlay | None:
    if halt.halt is None:
        return None
    if halt.halt.by == JOURNAL:
        action = f"Trading is halted, because {halt.halt.reason}. {ACCEPT}"
    else:
        action = "Trading is halted on purpose; DELETE /trading/halt lets orders through again"
    if not halt.survives_restart:
        action = f"Do not restart the bridge: it would forget that trading is halted. {action}"
    if condition.trouble is not None:
        action = f"{condition.trouble.what}: {condition.trouble.next_step}. {action}"
    return HealthOverlay(state=ConnectionState.HALTED, next_action=action)


def _journal_health(condition: JournalCondition) -> HealthOverlay | None:
    trouble = condition.trouble
    if trouble is None:
        return None
    return HealthOverlay(
        state=ConnectionState.STALLED, next_action=f"{trouble.what}: {trouble.next_step}"
    )


def _silence(reconciler: Reconciler) -> HealthOverlay | None:
    if not reconciler.silent:
        return None
    said = ", ".join(
        f"{name} got no answer since {since:%H:%M:%S} UTC"
        for name, since in reconciler.silent.items()
    )
    action = (
        f"{said}: they are asked for again; new orders go through, and an order whose fate is"
        " unknown stays so until they come. Restart the gateway if it lasts"
    )
    return HealthOverlay(state=ConnectionState.READY, next_action=action)


class JournalCollector(Collector):
    """The journal's condition at the moment of the scrape."""

    def __init__(self, condition: JournalCondition) -> None:
        self._condition = condition

    def collect(self) -> Iterable[Metric]:
        """Its figures."""
        condition = self._condition
        for name, text, value in (
            ("writable", "Whether the journal takes what is written", float(condition.writable)),
            ("queue_age_seconds", "Wait of the oldest message", condition.queue_age),
            ("quarantined", "Messages that could not be kept", float(condition.quarantined)),
        ):
            yield GaugeMetricFamily(f"gangway_journal_{name}", text, value=value)
