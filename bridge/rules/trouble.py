"""What one holding has trouble with: it concerns that holding alone, and people are told once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from bridge.clock import Clock
from bridge.errors import BridgeError, Kind
from bridge.orders.errors import OrderRefusedByRulesError
from bridge.orders.exposure import NOT_CLOSING
from bridge.orders.risk import CODES_OF_SETTINGS

PATIENCE_SECONDS: Final = 10.0
"""After which people are told of what may pass by itself."""
REST_SECONDS: Final = 10.0
"""How long what was refused is left alone: it would be refused again at once."""
CLOSED_SECONDS: Final = 60.0
"""The same of a market that is closed and of what settings forbid: that lasts for hours."""
_CLOSED: Final = "market-closed"
_PASSES: Final = frozenset({NOT_CLOSING.code, _CLOSED})
"""What an order may break now and not in a while: what is held and works changes, markets open."""


@dataclass(kw_only=True, eq=False)
class Troubles:
    """Since when there is trouble with what, and whether somebody was told."""

    clock: Clock
    _began: dict[Hashable, float] = field(default_factory=dict)
    _again: dict[Hashable, float] = field(default_factory=dict)
    _told: set[Hashable] = field(default_factory=set)

    def add(self, key: Hashable, *, lasting: bool) -> bool:
        """There is trouble with this; whether people are to be told of it now."""
        now = self.clock.monotonic()
        began = self._began.setdefault(key, now)
        if lasting:
            self.rest(key)
        return key not in self._told and (lasting or now - began >= PATIENCE_SECONDS)

    def rest(self, key: Hashable, seconds: float = REST_SECONDS) -> None:
        """Leaves this alone for a while; a longer one that was begun before goes on."""
        until = self.clock.monotonic() + seconds
        self._again[key] = max(until, self._again.get(key, until))

    def told(self, key: Hashable) -> None:
        """People know of it."""
        self._told.add(key)

    def rests(self, key: Hashable) -> bool:
        """Whether it is too early to try that again."""
        return self.clock.monotonic() < self._again.get(key, 0.0)

    def over(self, key: Hashable) -> bool:
        """It is well again; whether people were told that it is not."""
        self._began.pop(key, None)
        self._again.pop(key, None)
        known = key in self._told
        self._told.discard(key)
        return known

    def of(self) -> tuple[Hashable, ...]:
        """With what there is trouble."""
        return tuple(self._began)


def lasting(error: Exception) -> bool:
    """Whether the same would be refused again, also in a while."""
    if isinstance(error, OrderRefusedByRulesError):
        return any(each.code not in _PASSES for each in error.violations)
    kinds = {Kind.INVALID, Kind.REFUSED, Kind.FORBIDDEN, Kind.CONFLICT}
    return not isinstance(error, BridgeError) or error.kind in kinds


def forbidden(error: Exception) -> bool:
    """Whether the bridge's settings refuse it: it may pass once they are others."""
    return not _codes(error).isdisjoint(CODES_OF_SETTINGS)


def pause(error: Exception) -> float:
    """For how many seconds what was refused so is left alone."""
    return CLOSED_SECONDS if _CLOSED in _codes(error) or forbidden(error) else REST_SECONDS


def _codes(error: Exception) -> set[str]:
    if not isinstance(error, OrderRefusedByRulesError):
        return set()
    return {each.code for each in error.violations}


def reason(error: Exception) -> str:
    """Why, for people."""
    if isinstance(error, BridgeError):
        return error.detail
    return "an error of the bridge; see its log"
