"""The simulator's clock: runs with real time and can be wound forward.

Every timer of the simulator hangs on this clock and none on the event loop, so that a wound hour
or week fires what lies in it, in order, each timer seeing the time it was set for.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger("simulator")
EASTERN = ZoneInfo("America/New_York")


class Timer:
    """A callback that is due at `when` (seconds since the epoch); `cancel` it any time."""

    __slots__ = ("callback", "interval", "watches", "when")

    def __init__(
        self,
        when: float,
        callback: Callable[[], object],
        interval: float = 0.0,
        *,
        watches: bool = False,
    ) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback
        self.interval = interval
        self.watches = watches

    def cancel(self) -> None:
        """Forget the callback; harmless when it already fired."""
        self.callback = None


LOOKS = 60
"""How often a timer that watches fires while the clock is wound."""


class Clock:
    """Seconds since the epoch, with timers; `advance` winds it.

    Time never goes back, also not when the machine's own clock is set back.

    Args:
        start: the time to begin at (seconds since the epoch); the machine's own when None.
    """

    def __init__(self, start: float | None = None) -> None:
        self._offset = 0.0 if start is None else start - time.time()
        self._latest = 0.0
        self._started_now = start is None
        self._frozen: float | None = None
        self._target = 0.0
        self._pace = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self._wake: asyncio.TimerHandle | None = None
        self.wound = 0.0
        """Seconds that the clock was wound by, in total."""

    def time(self) -> float:
        """Now, in seconds since the epoch."""
        if self._frozen is not None:
            return self._frozen
        now = time.time() + self._offset
        if now < self._latest:
            return self._latest
        self._latest = now
        return now

    @property
    def ahead(self) -> float:
        """Seconds by which it is ahead of the machine's own clock."""
        return self.time() - time.time()

    def resume(self, reached: float, ahead: float) -> None:
        """Go on where an earlier clock was, before any timer is set; time never goes back.

        Args:
            reached: the latest time that it showed.
            ahead: by how much it was ahead of the machine's clock.
        """
        if self._started_now:
            self._offset = ahead
        self._offset += max(reached - (time.time() + self._offset), 0.0)
        self._latest = max(reached, time.time() + self._offset)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)

    def at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call back once at `when`; at once, but not from within this call, if that has passed."""
        return self._push(Timer(when, callback))

    def later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once in `seconds`."""
        return self.at(self.time() + seconds, callback)

    def every(
        self, seconds: float, callback: Callable[[], object], *, watches: bool = False
    ) -> Timer:
        """Call back every `seconds`.

        Rounds missed while the clock is wound come as one at the end; with `watches` up to `LOOKS`
        come on the way, each at its own time among the other timers, and one at the end.
        """
        return self._push(Timer(self.time() + seconds, callback, seconds, watches=watches))

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock, so that winding it ends the wait."""
        done = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        timer = self.later(seconds, wake)
        try:
            await done
        finally:
            timer.cancel()

    def advance(self, seconds: float) -> None:
        """Wind the clock forward; what is due on the way fires in order."""
        begin = self.time()
        target = self._target = begin + max(seconds, 0.0)
        self._frozen, self._pace = begin, (target - begin) / LOOKS
        rounds: list[Timer] = []
        while self._heap and self._heap[0][0] <= target:
            timer = heapq.heappop(self._heap)[2]
            if timer.interval and not timer.watches:
                rounds.append(timer)
                continue
            self._frozen = max(timer.when, self._frozen)
            self._fire(timer)
        self._frozen = None
        self._latest = target
        self._offset = target - time.time()
        self.wound += seconds
        for timer in rounds:
            self._fire(timer)
        self._arm()

    def close(self) -> None:
        self._heap.clear()
        if self._wake:
            self._wake.cancel()

    def _push(self, timer: Timer) -> Timer:
        heapq.heappush(self._heap, (timer.when, next(self._sequence), timer))
        self._arm()
        return timer

    def _fire(self, timer: Timer) -> None:
        if timer.callback is None:
            return
        if timer.interval:
            timer.when = self._next(timer)
            self._push(timer)
            callback = timer.callback
        else:
            callback, timer.callback = timer.callback, None
        try:
            callback()
        except Exception:  # one timer that fails must not stop the clock for all
            LOG.exception("a timer failed")

    def _next(self, timer: Timer) -> float:
        now = self.time()
        if self._frozen is None or now >= self._target:
            return now + timer.interval
        return min(now + max(timer.interval, self._pace), self._target)

    def _arm(self) -> None:
        if self._frozen is not None:
            return
        if self._wake:
            self._wake.cancel()
            self._wake = None
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        if self._heap:
            wait = max(self._heap[0][0] - self.time(), 0.0)
            self._wake = asyncio.get_running_loop().call_later(wait, self._run_due)

    def _run_due(self) -> None:
        """What is due now; what becomes due meanwhile waits until the loop has looked elsewhere.

        Else lines that take longer than their interval (a busy machine) would never let it.
        """
        self._wake, now = None, self.time()
        while self._heap and self._heap[0][0] <= now:
            self._fire(heapq.heappop(self._heap)[2])
        self._arm()
