"""Leaves out, at import, what libraries load for features that the bridge never uses.

The bridge lives beside a gateway on a machine with 1 GB: numpy (eventkit loads it for its array
statistics) and rich (structlog loads it for coloured tracebacks) would take 12 and 6 MB. The
decision record of the bridge's framework in docs/decisions/ has the figures.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Stands for a module until one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def deferred(name: str) -> Iterator[None]:
    """What is imported inside gets a stand-in for that module, which loads it when it is used."""
    if name in sys.modules:
        yield
        return
    stand_in = _Deferred(name)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


@contextmanager
def without(name: str) -> Iterator[None]:
    """What is imported inside finds that this optional module is not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
