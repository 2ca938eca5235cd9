"""What one running bridge is made of, found by type.

Each part has a function ``install(services)`` (called once, from ``bridge.compose``, which says
where it is), which builds its services from what earlier parts provided, and registers them:

    def install(services: Services) -> None:
        orders = OrderService(services.gateway, services[OrderJournal], services.clock)
        services.provide(OrderService, orders)
        services.on_start(orders.start)  # in this order, before the gateway is dialled
        services.on_stop(orders.stop)  # in reverse, within the 5 s of SIGTERM
        services.health_overlays.append(orders.health)  # may turn `ready` into `halted`

A start hook must not wait for the gateway: the bridge serves whether or not there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from msgspec import Struct
from prometheus_client import CollectorRegistry

from bridge.clock import Clock
from bridge.environment import Environment
from bridge.store.condition import JournalCondition
from bridge.tws.connection_state import ConnectionState
from bridge.tws.gateway import Gateway

T = TypeVar("T")
Hook = Callable[[], Awaitable[None]]


class HealthOverlay(Struct, frozen=True, kw_only=True):
    """A part's say in ``/health``.

    It replaces state and next action while the session itself is ready.
    """

    state: ConnectionState
    next_action: str


class Need(Struct, frozen=True, kw_only=True, rename="camel"):
    """Something that only a person can mend; it stays until it is mended."""

    code: str
    message: str
    next_step: str


class Services:
    """The container; one for each process (and for each test)."""

    def __init__(self, environment: Environment, gateway: Gateway, clock: Clock) -> None:
        self.environment = environment
        self.gateway = gateway
        self.clock = clock
        self.journal = JournalCondition()
        self.metrics = CollectorRegistry(auto_describe=True)
        self.health_overlays: list[Callable[[], HealthOverlay | None]] = []
        self.needs: list[Callable[[], Need | None]] = []
        self.start_hooks: list[Hook] = []
        self.stop_hooks: list[Hook] = []
        self.last_words: list[Callable[[], None]] = []
        self.health_answer: tuple[float, bytes] = (float("-inf"), b"")
        """Until when (`time.monotonic`) the answer of `/health` holds, and its bytes."""
        self._provided: dict[type[Any], Any] = {}

    def something_changed(self) -> None:
        """What `/health` said a moment ago is not said again."""
        self.health_answer = (float("-inf"), b"")

    def provide(self, kind: type[T], instance: T) -> T:
        """Registers an instance under its type."""
        if kind in self._provided:
            raise ValueError(f"{kind.__name__} is provided twice")
        self._provided[kind] = instance
        return instance

    def __getitem__(self, kind: type[T]) -> T:
        """The instance of this type; ``LookupError`` when its part is not installed."""
        try:
            return cast("T", self._provided[kind])
        except KeyError:
            raise LookupError(f"{kind.__name__} is not provided; see bridge.compose") from None

    def get(self, kind: type[T]) -> T | None:
        """The instance of this type; None when its part is not installed, as in some tests."""
        return cast("T | None", self._provided.get(kind))

    def __contains__(self, kind: type[Any]) -> bool:
        """Whether a part has provided this type."""
        return kind in self._provided

    def on_start(self, hook: Hook) -> None:
        """Adds work for the start of the process."""
        self.start_hooks.append(hook)

    def on_last_words(self, hook: Callable[[], None]) -> None:
        """Adds work for the moment when whoever waits has to be answered, before the end."""
        self.last_words.append(hook)

    def on_stop(self, hook: Hook) -> None:
        """Adds work for its end; run in reverse order."""
        self.stop_hooks.append(hook)
