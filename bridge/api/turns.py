"""Whose request is begun next: orders at once, what only reads a few in each pass of the loop.

A read takes half a millisecond of the loop. Hundreds that came in one moment would all be begun in
one pass, and whatever an order has to wait for (its journal, its turn) comes a pass later each
time. So reads stand in line: a few are begun in a pass, fewer while an order is on its way. Each
kind of read has a line of its own, and the lines take turns: who looks at positions does not wait
for hundreds of histories.

Where a machine gives its processor in portions (a quarter of a core is 25 ms, then 75 without),
readers that use up a portion make the next order wait for the following one. Two such standstills
behind one another are noticed, and reads then leave a part of what there is to orders.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from bridge.clock import Handle, SystemClock, TimerClock

AT_ONCE: Final = 4
"""Reads that are begun in one pass of the loop."""

HURRY_SECONDS: Final = 0.05
"""So long after an order has come reads are held back, if it is not answered before."""
HURRY_APART: Final = 0.002
"""They go on meanwhile, so far apart: whoever orders without pause starves nobody."""

STANDSTILL, PAUSED = 0.02, 1.0
"""Seconds in which a busy process got no processor. Of more than the latter nothing follows: a
machine that was put to sleep gives no portions."""
PORTION_SECONDS: Final = 0.5
"""Two standstills within this time are those of portions."""
ENOUGH: Final = 0.6
"""Of a core: who gets as much is not held to portions that an order would notice."""
LEAST: Final = 0.1
FOR_READS: Final = 0.6
"""Of what the machine gives. An order takes some 4 ms, which has to be left of a portion."""
BURST_SECONDS: Final = 0.02
BELIEVED_LESS: Final = 1.1
"""A second makes the believed portion so much larger: a machine may have become faster."""


class Pace:
    """How much of the processor reads may take; all of it, until standstills tell of portions."""

    def __init__(self, processor: Callable[[], float] = time.process_time) -> None:
        self._processor = processor
        self._share: float | None = None
        self._learnt = 0.0
        self._left = 0.0
        self._seen: tuple[float, float] | None = None
        """When it was last looked, and the processor's time used by then."""
        self._stood: tuple[float, float] | None = None
        """The same, at the end of the last standstill."""

    def look(self, now: float, *, busy: bool) -> None:
        """Once in each pass; `busy`: the loop has had something to do since the last look."""
        used = self._processor()
        seen, self._seen = self._seen, (now, used)
        if seen is None:
            return
        passed, worked = now - seen[0], used - seen[1]
        if busy and STANDSTILL <= passed - worked <= PAUSED:
            self._stood_still(now, used)
        rate = self._rate(now)
        if rate is not None:
            most = rate * BURST_SECONDS
            # What orders took is not held against reads for ever.
            self._left = max(-5 * most, min(most, self._left + passed * rate - worked))

    def wait(self, now: float) -> float:
        """Seconds until a read may be begun."""
        rate = self._rate(now)
        return 0.0 if rate is None or self._left > 0 else 0.0005 - self._left / rate

    def _stood_still(self, now: float, used: float) -> None:
        before, self._stood = self._stood, (now, used)
        if before is None or now - before[0] > PORTION_SECONDS:
            return
        share = (used - before[1]) / (now - before[0])
        if share < ENOUGH:
            self._share, self._learnt = max(LEAST, share), now

    def _rate(self, now: float) -> float | None:
        """Of a core, for reads; None: as much as they like."""
        if self._share is None:
            return None
        share: float = self._share * BELIEVED_LESS ** (now - self._learnt)
        if share >= ENOUGH:
            self._share = None
            return None
        return share * FOR_READS


class Lines:
    """What waits, by kind; the kinds take turns."""

    def __init__(self) -> None:
        self._kinds: dict[str, deque[Callable[[], None]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def append(self, kind: str, begin: Callable[[], None]) -> None:
        """To the end of its kind's line."""
        self._kinds.setdefault(kind, deque()).append(begin)

    def pop(self) -> Callable[[], None]:
        """The first of the kind whose turn it is. Raises StopIteration when nothing waits."""
        kind = next(iter(self._kinds))
        line = self._kinds.pop(kind)
        begin = line.popleft()
        if line:
            self._kinds[kind] = line
        return begin


class Turns:
    """The lines of one server's requests; all of it belongs to the event loop."""

    def __init__(self, clock: TimerClock | None = None, pace: Pace | None = None) -> None:
        self._clock = clock or SystemClock()
        self._pace = pace or Pace()
        self._lines = Lines()
        self._begun = 0
        self._last = float("-inf")
        self._hurried = 0
        self._hurry_until = float("-inf")
        self._next: asyncio.Handle | None = None
        self._timer: Handle | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, begin: Callable[[], None], kind: str = "") -> None:
        """Begins a request that only reads: now, if it may, else in the turn of its kind."""
        if self._next is None and self._timer is None:
            self._pace.look(self._clock.monotonic(), busy=False)
        self._lines.append(kind, begin)
        if self._timer is None:
            self._go_on()

    def hurry(self) -> None:
        """An order (or a cancel) is on its way."""
        self._hurried += 1
        self._hurry_until = self._clock.monotonic() + HURRY_SECONDS

    def calm(self) -> None:
        """It has its answer."""
        self._hurried -= 1
        if not self._hurried:
            self._hurry_until = float("-inf")

    def _pass(self) -> None:
        self._next, self._begun = None, 0
        self._pace.look(self._clock.monotonic(), busy=True)
        self._go_on()

    def _due(self) -> None:
        self._timer, self._begun = None, 0
        self._pace.look(self._clock.monotonic(), busy=False)
        self._go_on()

    def _go_on(self) -> None:
        """Begins what may be begun; the rest in the next pass, or when its time has come."""
        now = self._clock.monotonic()
        wait = 0.0
        while self._lines and self._begun < AT_ONCE and not (wait := self._wait(now)):
            self._begun += 1
            self._last = now
            self._lines.pop()()
        if wait and self._timer is None:
            self._timer = self._clock.call_later(wait, self._due)
        if self._begun and self._next is None:
            # Behind what was just begun, and after the loop has looked what else has come.
            self._next = asyncio.get_running_loop().call_soon(self._pass)

    def _wait(self, now: float) -> float:
        apart = self._last + HURRY_APART - now if now < self._hurry_until else 0.0
        return max(0.0, apart, self._pace.wait(now))
