"""Budgets of time that follow what the machine allows. Standard library, Python 3.9.

The kernel counts how long programs had to wait (pressure stall information, Linux 4.20): for a
processor, also where a quota holds them back, for the disk, for memory. What a hypervisor keeps
from the machine is counted elsewhere, as stolen time: on a shared processor that is most of it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

PROC = Path("/proc")
KINDS = ("cpu", "io", "memory")
STOLEN = 8
"""Where `/proc/stat` has the stolen ticks, in the line of all processors."""
STRETCH = 5.0
"""By how much a budget of our own may grow; each is many times what a fast machine takes."""


class Clock(Protocol):
    """What a budget is measured by; the module `time` is one."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""


def stalled(folder: Path = PROC) -> dict[str, float]:
    """Seconds since the machine started in which some program waited, by what it waited for.

    What the kernel does not count is left out.
    """
    found = {}
    for kind in KINDS:
        try:
            some = (folder / "pressure" / kind).read_text().splitlines()[0]
            found[kind] = int(some.rpartition("total=")[2]) / 1e6
        except (OSError, ValueError, IndexError):
            continue
    try:
        line = (folder / "stat").read_text().splitlines()[0]
        found["stolen"] = int(line.split()[STOLEN]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        pass
    return found


class Budget:
    """Seconds for something; time in which the machine let programs wait is not charged.

    `stretch`: by how much it may grow so, at most; a program that never comes to an end is given
    up on any machine. `counted` replaces what the kernel counts (`stalled`).
    """

    def __init__(
        self,
        seconds: float,
        stretch: float = STRETCH,
        *,
        clock: Clock = time,
        counted: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self._clock = clock
        self._counted = counted or stalled
        self._spare = seconds * (stretch - 1)
        self._charged = clock.monotonic()
        self._deadline = self._charged + seconds
        self._stalls = self._counted() if self._spare > 0 else {}

    def add(self, seconds: float) -> None:
        """So much longer, whatever it may have grown."""
        self._deadline += seconds

    def at_least(self, seconds: float) -> None:
        """Something has moved: so much is left from now on, as far as it may grow."""
        granted = min(max(seconds - self.left, 0.0), self._spare)
        self._spare -= granted
        self._deadline += granted

    @property
    def left(self) -> float:
        """Seconds until it is over, as it seems now; not above 0: it is over."""
        now = self._clock.monotonic()
        if self._spare > 0:
            stalls = self._counted()
            waited = max((stalls[kind] - self._stalls.get(kind, stalls[kind]) for kind in stalls),
                         default=0.0)  # fmt: skip
            granted = min(max(waited, 0.0), now - self._charged, self._spare)
            self._stalls, self._charged = stalls, now
            self._spare -= granted
            self._deadline += granted
        return self._deadline - now

    @property
    def over(self) -> bool:
        """Whether it is used up."""
        return self.left < 0
