"""A typed list of listeners; one that fails is logged and harms no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec

import structlog

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
