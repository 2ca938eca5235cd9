"""What orders say of themselves: in `/health`, as needs of a person, in metrics and alerts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.orders.halt import HaltSwitch
from bridge.orders.journal import OrderJournal
from bridge.orders.reconcile import Reconciler
from bridge.orders.rules import TradingRules
from bridge.services import HealthOverlay, Need, Services
from bridge.store import Database, orders
from bridge.store.condition import JournalCondition
from bridge.store.orders import OrderRecord, State
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import READ_ONLY_ACTION
from bridge.tws.events import Signal

log = structlog.get_logger(__name__)


def install(
    services: Services,
    halt: HaltSwitch,
    reconciler: Reconciler,
    alerts: OrderAlerts,
    rules: TradingRules,
) -> None:
    """Adds them to what the whole bridge says."""
    condition = services.journal
    services.metrics.register(JournalCollector(condition))
    services.health_overlays += [
        lambda: _journal(condition, halt),
        lambda: _halted(halt, condition),
        lambda: _read_only(reconciler, rules),
        lambda: _unanswered(reconciler),
    ]
    services.needs += [
        lambda: _unknown_need(alerts.unknown),
        lambda: _as_need("halted", "Trading is halted", _halted(halt, condition)),
        lambda: _as_need("journal", "The journal needs you", _journal(condition, halt)),
        lambda: _quarantine_need(condition),
        lambda: _as_need("read-only", "The gateway refuses orders", _read_only(reconciler, rules)),
    ]


def _unknown_need(unknown: int) -> Need | None:
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


def _read_only(reconciler: Reconciler, rules: TradingRules) -> HealthOverlay | None:
    """A gateway that refuses every order is not ready for them, unless that is what is wanted."""
    if not reconciler.gateway_read_only or rules.read_only or rules.gateway_read_only:
        return None
    return HealthOverlay(state=ConnectionState.READ_ONLY, next_action=READ_ONLY_ACTION)


def _halted(halt: HaltSwitch, condition: JournalCondition) -> HealthOverlay | None:
    if halt.halt is None:
        return None
    if halt.halt.not_accepted:
        action = f"Trading is halted, because {halt.halt.reason}. {halt.halt.next_step}"
    else:
        action = "Trading is halted on purpose; DELETE /trading/halt lets orders through again"
    if not halt.survives_restart:
        action = f"Do not restart the bridge: it would forget that trading is halted. {action}"
    if condition.trouble is not None:
        action = f"{condition.trouble.what}: {condition.trouble.next_step}. {action}"
    return HealthOverlay(state=ConnectionState.HALTED, next_action=action)


def _journal(condition: JournalCondition, halt: HaltSwitch) -> HealthOverlay | None:
    """Before a halt: that is wanted, and this is not. What to do tells of both."""
    trouble, halted = condition.trouble, _halted(halt, condition)
    if trouble is None:
        return None
    action = halted.next_action if halted else f"{trouble.what}: {trouble.next_step}"
    return HealthOverlay(state=ConnectionState.STALLED, next_action=action)


def _unanswered(reconciler: Reconciler) -> HealthOverlay | None:
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
        condition = self._condition
        for name, text, value in (
            ("writable", "Whether the journal takes what is written", float(condition.writable)),
            ("queue_age_seconds", "Wait of the oldest message", condition.queue_age),
            ("quarantined", "Messages that could not be kept", float(condition.quarantined)),
        ):
            yield GaugeMetricFamily(f"gangway_journal_{name}", text, value=value)


class OrderAlerts:
    """Follows the journal. `order_unknown` is emitted once each time an order becomes unknown."""

    def __init__(
        self, database: Database, journal: OrderJournal, metrics: CollectorRegistry
    ) -> None:
        self.order_unknown: Signal[[OrderRecord]] = Signal("order-unknown")
        self._database = database
        self._unknown: set[str] = set()
        self._gauge = Gauge(
            "gangway_orders_unknown",
            "Orders that may or may not have reached the broker",
            registry=metrics,
        )
        self._ended = Counter(
            "gangway_orders_ended", "Orders by how they ended", ["status"], registry=metrics
        )
        self._executions = Counter(
            "gangway_executions", "Executions, and later changes to them", registry=metrics
        )
        journal.order_changed.listen(self._changed)
        journal.execution_changed.listen(lambda _: self._executions.inc())

    @property
    def unknown(self) -> int:
        """How many orders may or may not have reached the broker."""
        return len(self._unknown)

    async def load(self) -> None:
        """Takes over what the last process left."""
        found = await self._database.read(orders.open_orders)
        self._unknown = {record.id for record in found if record.state is State.UNKNOWN}
        self._gauge.set(len(self._unknown))

    def _changed(self, record: OrderRecord) -> None:
        if record.state is State.TERMINAL:
            self._ended.labels(record.status).inc()
        if record.state is State.UNKNOWN:
            if record.id not in self._unknown:
                self._tell(record)
            self._unknown.add(record.id)
        else:
            self._unknown.discard(record.id)
        self._gauge.set(len(self._unknown))

    def _tell(self, record: OrderRecord) -> None:
        log.error("order-fate-unknown", **described(record))
        self.order_unknown.emit(record)


def described(record: OrderRecord) -> dict[str, Any]:
    """An order in the words of an event."""
    return {
        "orderId": record.id,
        "symbol": record.symbol,
        "action": record.terms.action,
        "quantity": record.terms.quantity,
        "nextStep": "Look in TWS or the Client Portal, then settle it",
    }
