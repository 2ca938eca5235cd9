"""The limit of messages a second that one client may send."""

from __future__ import annotations

from collections import deque

SECOND = 1.0
STRIKES = 3
"""Seconds over the limit, each answered with error 100, before the connection is closed."""
FORGIVEN_SECONDS = 30.0
WARNING = "Max rate of messages per second has been exceeded:max={limit} rec={count} ({strike})"


class RateLimit:
    """Counts the messages of the last second; times are the event loop's.

    A message is counted at the earliest moment at which it can have come: one that is refused came
    too fast for certain, also when the loop was held up and reads in one go what came in several.

    Args:
        limit: messages a second; 0 is no limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._recent: deque[float] = deque()
        self._strikes: deque[float] = deque()

    def room(self, now: float) -> bool:
        """Whether one more message fits into this second."""
        while self._recent and self._recent[0] <= now - SECOND:
            self._recent.popleft()
        return not self.limit or len(self._recent) < self.limit

    def count(self, came: float) -> None:
        """Count a message that came at that moment, or perhaps after it."""
        if self.limit:
            self._recent.append(came)

    def wait(self, now: float) -> float:
        """Seconds until there is room."""
        return max(self._recent[0] + SECOND - now, 0.0) if self._recent else 0.0

    def strike(self, now: float) -> str:
        """What to tell a client whose message is refused; each second of it is one strike."""
        while self._strikes and self._strikes[0] < now - FORGIVEN_SECONDS:
            self._strikes.popleft()
        if not self._strikes or now - self._strikes[-1] >= SECOND:
            self._strikes.append(now)
        count = max(len(self._recent), self.limit + 1)
        return WARNING.format(limit=self.limit, count=count, strike=len(self._strikes))

    @property
    def ignored(self) -> bool:
        """Whether the client went on after enough warnings."""
        return len(self._strikes) >= STRIKES
