"""Tells about orders that need a person: log, metrics, and whoever listens."""

from __future__ import annotations

from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from bridge.orders.journal import OrderJournal
from bridge.store import Database, orders
from bridge.store.order_status import State
from bridge.store.orders import OrderRecord
from bridge.tws.gateway import Signal

log = structlog.get_logger(__name__)


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
