"""The limits of what a client may send: messages a second, and history requests.

History requests count over all clients of the login: those for bars of thirty seconds and less are
refused when they break a rule; those for longer bars, whose hard limits the broker has lifted, are
slowed down when there are too many of them.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

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

    def fits(self, now: float) -> bool:
        """Whether one more message fits into this second."""
        while self._recent and self._recent[0] <= now - SECOND:
            self._recent.popleft()
        return not self.limit or len(self._recent) < self.limit

    def count(self, came: float) -> None:
        """Count a message that came at that moment, or perhaps after it."""
        if self.limit:
            self._recent.append(came)

    def wait(self, now: float) -> float:
        """Seconds until one more fits."""
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


VIOLATION = "Historical Market Data Service error message:Historical data request pacing violation"


class Rule(NamedTuple):
    """At most `limit` requests of one kind within `seconds`."""

    seconds: float
    limit: int


IN_ALL = Rule(600.0, 60)
IDENTICAL = Rule(15.0, 1)
ONE_CONTRACT = Rule(2.0, 5)
SLOWED_SECONDS = 0.5
"""Between two answers for longer bars, once there were more than `IN_ALL` allows."""


class HistoryPacing:
    """Counts history requests; times are the simulator's."""

    def __init__(self) -> None:
        self._seen: dict[object, deque[float]] = {}
        self._longer: deque[float] = deque()
        self._turn = 0.0

    def slow(self, now: float) -> float:
        """Count a request for longer bars; gives the seconds that its answer waits."""
        while self._longer and self._longer[0] <= now - IN_ALL.seconds:
            self._longer.popleft()
        crowded = len(self._longer) >= IN_ALL.limit
        if not crowded:
            self._longer.append(now)
            return 0.0
        self._turn = max(self._turn + SLOWED_SECONDS, now)
        return self._turn - now

    def admit(self, contract: object, whole: object, weight: int, now: float) -> bool:
        """Count a request; False when it breaks a rule.

        Args:
            contract: contract, exchange and kind of data.
            whole: everything that makes two requests identical.
            weight: 2 for BID_ASK, which counts twice.
            now: the time of the request.
        """
        rules = (
            (("all",), IN_ALL),
            (("same", whole), IDENTICAL),
            (("kind", contract), ONE_CONTRACT),
        )
        admitted = True
        for key, rule in rules:
            times = self._seen.setdefault(key, deque())
            while times and times[0] <= now - rule.seconds:
                times.popleft()
            count = 1 if rule is IDENTICAL else weight
            admitted = admitted and len(times) + count <= rule.limit
        if admitted:
            for key, rule in rules:
                self._seen[key].extend([now] * (1 if rule is IDENTICAL else weight))
        self._forget(now)
        return admitted

    def _forget(self, now: float) -> None:
        if len(self._seen) > 1_000:
            old = now - IDENTICAL.seconds
            stale = [key for key, times in self._seen.items() if not times or times[-1] < old]
            for key in stale:
                if key != ("all",):
                    del self._seen[key]
