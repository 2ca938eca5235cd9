"""Leaves out, at import, what the SSH library loads only for other people's tests.

Fabric's base library imports `unittest.mock`, which loads asyncio: a third of the time that the
import takes, on every command with a host.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "unittest.mock"


@contextmanager
def without_mocks() -> Iterator[None]:
    """What is imported inside gets an empty `Mock`, unless the real one is there already."""
    if NAME in sys.modules:
        yield
        return
    stand_in = ModuleType(NAME)
    stand_in.Mock = type("Mock", (), {})  # type: ignore[attr-defined]
    sys.modules[NAME] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(NAME) is stand_in:
            del sys.modules[NAME]
