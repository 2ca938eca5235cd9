"""Prometheus metrics: of the requests, and of the session as it is at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.readiness import readiness
from bridge.services import Services
from bridge.tws.breaker import BreakerState
from bridge.tws.connection_context import ConnectionContext
from bridge.tws.connection_state import ConnectionState
from bridge.tws.session import TwsSession

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class HttpMetrics:
    """Counts and times by path template, so that ids never become labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "gangway_http_requests",
            "HTTP requests",
            ("method", "path", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "gangway_http_request_seconds",
            "Time to answer",
            ("path",),
            buckets=BUCKETS,
            registry=registry,
        )

        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def finished(self, method: str, path: str, status: int, seconds: float) -> None:
        """One request was answered."""
        known = self._known.get((method, path, status))
        if known is None:
            known = self._requests.labels(method, path, str(status)), self._seconds.labels(path)
            self._known[method, path, status] = known
        requests, times = known
        requests.inc()
        times.observe(seconds)


class SessionCollector(Collector):
    """Reads the session when it is scraped; keeps nothing."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._context: ConnectionContext = services[TwsSession].context

    def collect(self) -> Iterable[Metric]:
        """All figures of the session."""
        context, record = self._context, self._context.diagnostics.record
        found = readiness(self._services)
        yield _gauge("gangway_ready", "Whether orders can be placed", found.takes_orders)
        state = GaugeMetricFamily("gangway_state", "1 for the present state", labels=("state",))
        for each in ConnectionState:
            state.add_metric((each.value,), float(each is found.state))
        yield state
        yield _gauge("gangway_connections", "Sessions started", record.total_connections)
        yield _gauge("gangway_disconnections", "Sessions lost", record.total_disconnections)
        yield _gauge("gangway_connect_failures", "Failed attempts", record.failed_connections)
        yield _gauge("gangway_heartbeat_failures", "Lost heartbeats", record.heartbeat_failures)
        yield _gauge(
            "gangway_availability_24h_ratio",
            "Ready share of a day",
            context.diagnostics.availability(),
        )
        yield _gauge("gangway_requests_pending", "Asked and not answered", len(context.requests))
        queue = GaugeMetricFamily("gangway_queue", "Waiting for their turn", labels=("lane",))
        for lane, depth in context.pacer.depth().items():
            queue.add_metric((lane,), depth)
        yield queue
        circuits = GaugeMetricFamily("gangway_circuit_open", "1 while open", labels=("kind",))
        for kind, word in context.breakers.shown().items():
            circuits.add_metric((kind,), float(word == BreakerState.OPEN.value))
        yield circuits


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
