"""Market-data lines: a scarce good (100 for most accounts) shared by everyone who looks.

A line is counted by its holders. One that nobody holds stays open for a while, so that the next
reader is answered at once, and is the first to go when another instrument needs a line: the one
unused for longest.

Some lines are kept for looking at the market before an order is let through, some of the others for
keys that trade, and one key never gets them all: who only reads cannot leave an order unchecked.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from bridge.callers import BRIDGE, ORDER_CHECKS, Holder, Scope
from bridge.clock import Clock
from bridge.market.errors import LinesExhaustedError

K = TypeVar("K", bound=Hashable)


class LinePool(Generic[K]):
    """Who holds which line; opens and closes nothing itself.

    Of `capacity` lines, `reserved` are for order checks alone, `for_traders` more for everyone but
    keys of scope read, and one key (below admin) holds `one_key` at most.
    """

    def __init__(
        self,
        capacity: int,
        clock: Clock,
        *,
        linger: float = 60.0,
        reserved: int = 0,
        for_traders: int = 0,
        one_key: int | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError("a pool has at least one line")
        self.capacity = capacity
        self.linger = linger
        self.reserved = reserved
        self._one_key = capacity if one_key is None else one_key
        self._readers = capacity - reserved - for_traders
        self._clock = clock
        self._held: dict[K, Counter[Holder]] = {}
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
        return self._held[key].total() if key in self._held else 0

    def take(self, key: K, holder: Holder = BRIDGE) -> K | None:
        """Adds a holder; returns the key of the idle line that must be closed for it, if any.

        Raises:
            LinesExhaustedError: when every line is held, or this holder has its share; nothing has
                changed then.
        """
        holders = self._held.get(key)
        if holders is None or not any(each.key == holder.key for each in holders):
            self._require_share(holder, new=not self._is_ordinary(key))
        if holders is not None:
            holders[holder] += 1
            return None
        evicted = None
        if self._idle.pop(key, None) is None and self.open >= self.capacity:
            if not self._idle:
                raise self._exhausted(f"all {self.capacity} market-data lines are in use")
            evicted, _ = self._idle.popitem(last=False)
        self._held[key] = Counter({holder: 1})
        return evicted

    def give(self, key: K, holder: Holder = BRIDGE) -> None:
        """Removes a holder; the last one leaves the line idle."""
        holders = self._held.get(key)
        if holders is None or holder not in holders:
            return
        holders[holder] -= 1
        if not holders[holder]:
            del holders[holder]
        if not holders:
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

    def available(self, holder: Holder = BRIDGE) -> int:
        """How many further lines this holder could have now, idle ones given back."""
        free = self.capacity - len(self._held)
        if holder.rank < ORDER_CHECKS.rank:
            free = min(free, self.capacity - self.reserved - self._ordinary())
        if holder.rank <= Scope.READ:
            free = min(free, self._readers - self._read_only())
        if holder.rank < Scope.ADMIN:
            free = min(free, self._one_key - self._of(holder))
        return max(free, 0)

    def spare(self) -> int:
        """How many could be opened without closing an idle one, and without the reserved ones."""
        return self.capacity - self.reserved - self.open

    def _require_share(self, holder: Holder, *, new: bool) -> None:
        if holder.rank < Scope.ADMIN and self._of(holder) >= self._one_key:
            raise self._exhausted(f"this key holds its share of {self._one_key} market-data lines")
        if not new or holder.rank >= ORDER_CHECKS.rank:
            return
        most = self.capacity - self.reserved
        if self._ordinary() >= most:
            raise self._exhausted(f"all {most} market-data lines are in use")
        if holder.rank <= Scope.READ and self._read_only() >= self._readers:
            raise self._exhausted(
                f"all {self._readers} market-data lines for keys of scope read are in use"
            )

    def _exhausted(self, why: str) -> LinesExhaustedError:
        return LinesExhaustedError(why, retry_after=self.linger)

    def _of(self, holder: Holder) -> int:
        return sum(any(each.key == holder.key for each in held) for held in self._held.values())

    def _is_ordinary(self, key: K) -> bool:
        return any(each.rank < ORDER_CHECKS.rank for each in self._held.get(key, ()))

    def _ordinary(self) -> int:
        return sum(self._is_ordinary(key) for key in self._held)

    def _read_only(self) -> int:
        """Lines that nobody looks at but keys of scope read."""
        return sum(
            any(each.rank <= Scope.READ for each in held)
            and not any(Scope.READ < each.rank < ORDER_CHECKS.rank for each in held)
            for held in self._held.values()
        )
