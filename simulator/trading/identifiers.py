"""The broker's own numbers: permanent order ids and execution ids."""

from __future__ import annotations

import itertools
from zlib import crc32


class Identifiers:
    """Numbers that never come twice, also not from a simulator started later.

    Args:
        start: when the broker's book was opened, seconds since the epoch.
        seed: the market's seed.
    """

    def __init__(self, start: float, seed: int) -> None:
        opened = int(start * 10)
        self._stamp = opened & 0xFFFFFFFF
        self._order = itertools.count(1 + (opened * 7) % 1_900_000_000)
        self._execution = itertools.count((crc32(str(seed).encode()) & 0xFF) + 1)

    def perm_id(self) -> int:
        """A permanent order id; fits 31 bits, as clients below version 191 expect."""
        return next(self._order) & 0x7FFFFFFF

    def exec_id(self) -> str:
        """Such as `0000e0d5.6553d8a1.01.01`; a correction would change the last part only."""
        return f"{next(self._execution):08x}.{self._stamp:08x}.01.01"
