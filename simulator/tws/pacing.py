"""The pacing rules of the history service, over all clients of the login.

Requests for bars of thirty seconds and less are refused when they break a rule; those for longer
bars, whose hard limits the broker has lifted, are slowed down when there are too many of them.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

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
