"""Market-data lines: a scarce good (100 for most accounts) shared by everyone who looks.

A line is counted by its holders. One that nobody holds stays open for a while, so that the next
reader is answered at once, and is the first to go when another instrument needs a line: the one
unused for longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from bridge.clock import Clock
from bridge.market.errors import LinesExhaustedError

K = TypeVar("K", bound=Hashable)


class LinePool(Generic[K]):
    """Who holds which line; opens and closes nothing itself."""

    def __init__(self, capacity: int, clock: Clock, *, linger: float = 60.0) -> None:
        if capacity < 1:
            raise ValueError("a pool has at least one line")
        self.capacity = capacity
        self.linger = linger
        self._clock = clock
        self._held: dict[K, int] = {}
        self._idle: OrderedDict[K, float] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._held or key in self._idle

    @property
    def held(self) -> int:
        """Lines that someone holds."""
        return len(self._held)

    @property
    def open(self) -> int:
        """Lines that are open, held or not."""
        return len(self._held) + len(self._idle)

    def holders(self, key: K) -> int:
        """How many hold this line."""
        return self._held.get(key, 0)

    def take(self, key: K) -> K | None:
        """Adds a holder; returns the key of the idle line that must be closed for it, if any.

        Raises:
            LinesExhaustedError: when every line is held; nothing has changed then.
        """
        if key in self._held:
            self._held[key] += 1
            return None
        if self._idle.pop(key, None) is not None:
            self._held[key] = 1
            return None
        evicted = None
        if self.open >= self.capacity:
            if not self._idle:
                raise LinesExhaustedError(
                    f"all {self.capacity} market-data lines are in use", retry_after=self.linger
                )
            evicted, _ = self._idle.popitem(last=False)
        self._held[key] = 1
        return evicted

    def give(self, key: K) -> None:
        """Removes a holder; the last one leaves the line idle."""
        count = self._held.get(key)
        if count is None:
            return
        if count > 1:
            self._held[key] = count - 1
            return
        del self._held[key]
        self._idle[key] = self._clock.monotonic()

    def drop(self, key: K) -> None:
        """Forgets an idle line that was closed for another reason."""
        self._idle.pop(key, None)

    def expired(self) -> list[K]:
        """Takes out the lines that nobody has held for `linger` seconds; they are to be closed."""
        limit = self._clock.monotonic() - self.linger
        keys = [key for key, since in self._idle.items() if since <= limit]
        for key in keys:
            del self._idle[key]
        return keys

    def room(self) -> int:
        """How many further lines could be opened now, idle ones given back."""
        return self.capacity - len(self._held)

    def spare(self) -> int:
        """How many could be opened without closing an idle one."""
        return self.capacity - self.open
