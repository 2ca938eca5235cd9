"""What a session says by itself: signals, and who listens to them.

Listeners run on the event loop, must not block, and are plain functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec

import structlog

from bridge.model import (
    CommissionReport,
    Execution,
    OpenOrder,
    OrderStatus,
    Position,
    Unreadable,
)
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import TwsError

P = ParamSpec("P")
log = structlog.get_logger(__name__)


class Signal(Generic[P]):
    """Plain callables, called in the order of registration, on the event loop, without await."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._listeners: list[Callable[P, None]] = []

    def listen(self, listener: Callable[P, None]) -> Callable[[], None]:
        """Adds a listener; returns what removes it again (harmless when called twice)."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Calls every listener, whatever the others do."""
        for listener in tuple(self._listeners):
            try:
                listener(*args, **kwargs)
            except Exception:
                log.exception("listener-failed", signal=self.name)


class GatewayEvents:
    """Signals of the session. Order messages arrive in the order of the wire."""

    def __init__(self) -> None:
        self.state: Signal[[ConnectionState, ConnectionState]] = Signal("state")  # (old, new)
        self.ready: Signal[[]] = Signal("ready")  # orders can be placed from now on
        self.lost: Signal[[str]] = Signal("lost")  # reason; the socket is gone
        self.upstream_lost: Signal[[]] = Signal("upstream-lost")  # 1100, 2110
        self.farm: Signal[[str, bool]] = Signal("farm")  # a data farm, and whether it is well
        self.open_order: Signal[[OpenOrder]] = Signal("open-order")
        self.order_status: Signal[[OrderStatus]] = Signal("order-status")
        self.execution: Signal[[Execution]] = Signal("execution")  # live and re-requested alike
        self.commission: Signal[[CommissionReport]] = Signal("commission")
        self.position: Signal[[Position]] = Signal("position")  # as it changes, and in lists
        self.positions_listed: Signal[[]] = Signal("positions-listed")  # a whole list has come
        self.position_unreadable: Signal[[str]] = Signal("position-unreadable")  # what it is of
        self.unreadable: Signal[[Unreadable]] = Signal("unreadable")  # refused at the border
        self.order_error: Signal[[int, TwsError]] = Signal("order-error")  # order id, typed error
