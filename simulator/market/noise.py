"""A price path that can be asked for any moment: noise summed over scales from seconds to years.

The path is a function of its key and the time alone, so history, live prices and fills agree, and
a run with the same seed sees the same market.
"""

from __future__ import annotations

import math

YEAR = 365.0 * 86_400
LONGEST = 2 * YEAR
SCALES = tuple(LONGEST / 4**step for step in range(14))
"""Periods in seconds, from two years down to about one second."""
MASK = (1 << 64) - 1


def mixed(key: int, index: int) -> int:
    """64 bits that look random and depend on both numbers only."""
    value = (index * 0x9E3779B97F4A7C15 + key) & MASK
    value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 & MASK
    value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 & MASK
    return value ^ value >> 32


def uniform(key: int, index: int) -> float:
    """A number from 0 up to 1."""
    return mixed(key, index) / 2.0**64


class Path:
    """A zero-centred path whose spread over any stretch of time is that of the volatility.

    Args:
        key: what makes this path differ from others.
        volatility: the yearly standard deviation.
    """

    __slots__ = ("_cells", "_keys", "_weights")

    def __init__(self, key: int, volatility: float) -> None:
        self._keys = [mixed(key, number) for number in range(len(SCALES))]
        self._weights = [volatility * math.sqrt(scale / YEAR) * 0.75 for scale in SCALES]
        self._cells: list[tuple[int, float, float]] = [(-1, 0.0, 0.0)] * len(SCALES)

    def at(self, when: float) -> float:
        """The path's value at a time in seconds since the epoch."""
        total = 0.0
        cells = self._cells
        for number, scale in enumerate(SCALES):
            place = when / scale
            index = int(place)
            cell = cells[number]
            if cell[0] != index:
                key = self._keys[number]
                cell = (index, uniform(key, index) * 2 - 1, uniform(key, index + 1) * 2 - 1)
                cells[number] = cell
            part = place - index
            part = part * part * (3 - 2 * part)
            total += self._weights[number] * (cell[1] + (cell[2] - cell[1]) * part)
        return total
