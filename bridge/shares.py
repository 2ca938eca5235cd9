"""How much of something scarce each caller may have at once.

One key cannot take all, one address (a tunnel, a leaked script) cannot, and all keys of the lowest
scope together cannot: something is always left for those who may do more. A key of scope admin is
bounded by what there is alone.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import IntEnum
from typing import Final

from msgspec import Struct

ONE_KEY: Final = 0.6
ONE_ADDRESS: Final = 0.8
LOWEST: Final = 0.8


class Rank(IntEnum):
    """What a holder may do; the numbers are those of `bridge.api.scopes`."""

    READ = 1
    TRADE = 2
    ADMIN = 3
    ORDER_CHECK = 4


class Holder(Struct, frozen=True):
    """Who has a share: the key's id and digest, where it comes from, and its rank."""

    key: str
    address: str = ""
    rank: int = Rank.READ
    digest: bytes = b""


BRIDGE: Final = Holder("", "", Rank.ADMIN)
"""The bridge's own work, that nobody asked for by name."""

ORDER_CHECKS: Final = Holder("order-checks", "", Rank.ORDER_CHECK)
"""Looks at the market before an order is let through."""


class Shares:
    """Counts who holds how many of `capacity`; keeps nothing of those who hold none."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.one_key = math.ceil(capacity * ONE_KEY)
        self.one_address = math.ceil(capacity * ONE_ADDRESS)
        self.lowest = math.ceil(capacity * LOWEST)
        self._keys: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._low = 0
        self.taken = 0

    def held(self, holder: Holder) -> int:
        """How many this key holds."""
        return self._keys[holder.key]

    def over_share(self, holder: Holder) -> str | None:
        """Why this holder gets no more, although there may be some; None: it may have one."""
        if holder.rank >= Rank.ADMIN:
            return None
        if self._keys[holder.key] >= self.one_key:
            return f"this key has its share of {self.one_key} already"
        if holder.address and self._addresses[holder.address] >= self.one_address:
            return f"{holder.address} has its share of {self.one_address} already"
        if holder.rank <= Rank.READ and self._low >= self.lowest:
            return f"keys of scope read have their share of {self.lowest} already"
        return None

    def take(self, holder: Holder) -> None:
        """One more."""
        self.taken += 1
        self._keys[holder.key] += 1
        self._addresses[holder.address] += 1
        self._low += holder.rank <= Rank.READ

    def give(self, holder: Holder) -> None:
        """One fewer."""
        self.taken -= 1
        self._low -= holder.rank <= Rank.READ
        for counter, name in ((self._keys, holder.key), (self._addresses, holder.address)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]
