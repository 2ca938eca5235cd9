"""The broker's pacing rules for historical data, as arithmetic.

At most 60 requests in 10 minutes; no identical one within 15 seconds; fewer than six for the same
contract, exchange and kind within two seconds; BID_ASK counts twice. (The broker's documentation of
historical data limitations. It enforces them for small bars; the bridge keeps them for all.)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_SECONDS, WINDOW_LIMIT = 600.0, 60
IDENTICAL_SECONDS = 15.0
SAME_SECONDS, SAME_LIMIT = 2.0, 5
MARGIN = 1.0  # the gateway counts from when a message arrives, and a busy machine bunches them


@dataclass(frozen=True, slots=True)
class HistoryKey:
    """What makes requests alike.

    ``contract`` for the six-in-two-seconds rule, ``whole`` for identical ones.
    """

    contract: str
    whole: str
    weight: int = 1


class HistoryRules:
    """Remembers what was sent and says how long the next must wait. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._window: deque[float] = deque()
        self._same: dict[str, deque[float]] = {}
        self._whole: dict[str, float] = {}

    def wait(self, key: HistoryKey, now: float) -> float:
        """Seconds until this request would break no rule; 0 when it may go now."""
        self._forget(now)
        wait = 0.0
        over = len(self._window) + key.weight - WINDOW_LIMIT
        if over > 0:
            wait = self._window[over - 1] + WINDOW_SECONDS + MARGIN - now
        same = self._same.get(key.contract)
        if same and len(same) + key.weight > SAME_LIMIT:
            index = min(len(same) - 1, len(same) + key.weight - SAME_LIMIT - 1)
            wait = max(wait, same[index] + SAME_SECONDS + MARGIN - now)
        if key.whole in self._whole:
            wait = max(wait, self._whole[key.whole] + IDENTICAL_SECONDS + MARGIN - now)
        return max(0.0, wait)

    def used(self, now: float) -> int:
        """What counts against the ten minutes' limit at this moment."""
        self._forget(now)
        return len(self._window)

    def sent(self, key: HistoryKey, now: float) -> None:
        """Books a request."""
        for _ in range(key.weight):
            self._window.append(now)
            self._same.setdefault(key.contract, deque()).append(now)
        self._whole[key.whole] = now

    def _forget(self, now: float) -> None:
        while self._window and now - self._window[0] >= WINDOW_SECONDS + MARGIN:
            self._window.popleft()
        for name in [n for n, at in self._whole.items() if now - at >= IDENTICAL_SECONDS + MARGIN]:
            del self._whole[name]
        for name, times in list(self._same.items()):
            while times and now - times[0] >= SAME_SECONDS + MARGIN:
                times.popleft()
            if not times:
                del self._same[name]
