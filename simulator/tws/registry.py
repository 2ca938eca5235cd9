"""Which function answers which request.

A module of `simulator.tws` registers its handlers at import; the server imports every module that
`MODULES` names. A handler gets the session and the fields behind the message id.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.tws.wire import Reader

if TYPE_CHECKING:
    from simulator.tws.session import Session

Handler = Callable[["Session", Reader], None]

MODULES = [
    "system",
    "contracts",
    "market_data",
    "history",
    "history_ticks",
    "realtime",
    "depth",
    "refused",
    "orders",
    "executions",
    "account",
]
"""Modules of `simulator.tws` that register handlers."""

HANDLERS: dict[int, Handler] = {}
UPSTREAM: set[int] = set()
"""Requests that the broker's servers answer: nothing comes while the link to them is lost."""


def handles(message_id: int, *, upstream: bool = False) -> Callable[[Handler], Handler]:
    """Register the decorated function as the answer to a request.

    Args:
        message_id: the request.
        upstream: only the broker's servers can answer it.
    """

    def register(handler: Handler) -> Handler:
        if message_id in HANDLERS:
            raise RuntimeError(f"two handlers for message {message_id}")
        HANDLERS[message_id] = handler
        if upstream:
            UPSTREAM.add(message_id)
        return handler

    return register


def load() -> dict[int, Handler]:
    """Import every module and give the complete register."""
    for name in MODULES:
        importlib.import_module(f"simulator.tws.{name}")
    return HANDLERS
