"""The broker's own numbers: permanent order ids and execution ids."""

from __future__ import annotations

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
        self._order = 1 + (opened * 7) % 1_900_000_000
        self._execution = (crc32(str(seed).encode()) & 0xFF) + 1

    def perm_id(self) -> int:
        """A permanent order id; fits 31 bits, as clients below version 191 expect."""
        self._order += 1
        return (self._order - 1) & 0x7FFFFFFF

    def exec_id(self) -> str:
        """Such as `0000e0d5.6553d8a1.01.01`; a correction would change the last part only."""
        self._execution += 1
        return f"{self._execution - 1:08x}.{self._stamp:08x}.01.01"

    def numbers(self) -> list[int]:
        """What `go_on` takes, in a later run."""
        return [self._stamp, self._order, self._execution]

    def go_on(self, numbers: list[int]) -> None:
        """Go on from the numbers of an earlier run."""
        self._stamp, self._order, self._execution = numbers
