"""A price path that can be asked for any moment: noise summed over scales from seconds to years.

The path is a function of its key and the time alone, so history, live prices and fills agree, and
a run with the same seed sees the same market.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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


STEP = 0.25
"""Prices move in steps of this many seconds."""
CELLS = (1800.0, 300.0, 60.0, 15.0)
"""Cells of time, each nested in the one before, that bound a course."""


FINEST = CELLS[-1] / 2


def _needed(when: float) -> int:
    """How many kinds of cells bound a moment: not those that are read just there."""
    for level, size in enumerate(CELLS):
        if when % (size / 2) == 0 or (when + STEP) % size == 0:
            return level
    return len(CELLS)


class Stretch:
    """The extremes of a course over a stretch of time, and its mean."""

    __slots__ = ("high", "low", "seconds", "total")

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.total = self.seconds = 0.0

    def take(self, low: float, high: float, mean: float, seconds: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.total += mean * seconds
        self.seconds += seconds

    @property
    def mean(self) -> float:
        """The mean over time; between the extremes."""
        return self.total / self.seconds


class Course:
    """A value over time whose extremes over any stretch are known without reading every step.

    Each cell of time is read at its start, its middle and its last step; between these the value
    never leaves what they span. So a bar of any length, made of cells, and the same bar made of
    its steps have the same high and low.

    Args:
        raw: the value at a moment, before that.
    """

    __slots__ = ("_cells", "_raw")

    def __init__(self, raw: Callable[[float], float]) -> None:
        self._raw = raw
        self._cells: list[tuple[float, float, float, float]] = [(-1.0, 0.0, 0.0, 0.0)] * len(CELLS)

    def at(self, when: float, depth: int = len(CELLS)) -> float:
        """The value at a moment, in seconds since the epoch; `depth` counts the cells obeyed."""
        value = self._raw(when)
        if depth == len(CELLS) and when % FINEST in (0.0, FINEST - STEP):
            depth = _needed(when)
        cells = self._cells
        for level in range(depth):
            index = when // CELLS[level]
            cell = cells[level]
            if cell[0] != index:
                cell = self._cell(level, index)
            if value < cell[1]:
                value = cell[1]
            elif value > cell[2]:
                value = cell[2]
        return value

    def _cell(self, level: int, index: float) -> tuple[float, float, float, float]:
        """Index, low, high and mean of a cell."""
        cell = self._cells[level]
        if cell[0] != index:
            size = CELLS[level]
            begin = index * size
            looks = [self.at(begin + ahead, level) for ahead in (0.0, size / 2, size - STEP)]
            cell = (index, min(looks), max(looks), sum(looks) / 3)
            self._cells[level] = cell
        return cell

    def over(self, start: float, end: float) -> Stretch:
        """The extremes and the mean from `start` up to, not including, `end`; both on steps."""
        found = Stretch()
        self._over(found, start, end, 0)
        return found

    def _over(self, found: Stretch, start: float, end: float, level: int) -> None:
        if level == len(CELLS):
            while start < end:
                value = self.at(start)
                found.take(value, value, value, STEP)
                start += STEP
            return
        size = CELLS[level]
        first = math.ceil(start / size)
        last = math.floor(end / size)
        if last <= first:
            self._over(found, start, end, level + 1)
            return
        if start < first * size:
            self._over(found, start, first * size, level + 1)
        for index in range(first, last):
            _, low, high, mean = self._cell(level, float(index))
            found.take(low, high, mean, size)
        if last * size < end:
            self._over(found, last * size, end, level + 1)
