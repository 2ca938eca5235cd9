"""Builds the stream room; needs the market room."""

from __future__ import annotations

from prometheus_client import Gauge

from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.services import Services
from bridge.stream.service import StreamService


def install(services: Services) -> None:
    """Provides the stream, and counts what it does."""
    service = StreamService(
        services.gateway,
        services[QuoteService],
        services[ContractService],
        services.clock,
        services.environment.max_streams,
    )
    services.provide(StreamService, service)
    services.on_start(service.start)
    services.on_stop(service.stop)
    hub = service.hub
    for name, text, read in (
        ("bridge_streams", "Streams with a client", lambda: hub.attached),
        ("bridge_stream_events", "Events published since the start", lambda: hub.cursor),
        ("bridge_streams_cut_off", "Clients cut off as too slow", lambda: hub.cut_off),
        ("bridge_streams_conflated", "Times that clients were too slow", lambda: hub.conflations),
    ):
        Gauge(name, text, registry=services.metrics).set_function(read)
