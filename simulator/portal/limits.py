"""The Web API's request rates, and the penalty for passing them.

From the public documents: ten requests a second in all; `/tickle` once a second, `/sso/validate`
once a minute, `/iserver/account/trades`, `/iserver/account/orders` and `/portfolio/accounts` once
in five seconds.  Who passes a rate is answered with 429 and kept out for ten minutes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PENALTY_SECONDS = 600.0
GLOBAL_PER_SECOND = 10
ENDPOINT_INTERVALS: Mapping[str, float] = {
    "/tickle": 1.0,
    "/sso/validate": 60.0,
    "/iserver/account/orders": 5.0,
    "/iserver/account/trades": 5.0,
    "/portfolio/accounts": 5.0,
}
"""Seconds that must lie between two calls of an endpoint."""


class RequestLimits:
    """Counts requests over the simulator's clock.

    Args:
        now: the clock, in seconds.
        per_second: requests allowed in any second over all endpoints.
    """

    def __init__(self, now: Callable[[], float], *, per_second: int = GLOBAL_PER_SECOND) -> None:
        self._now = now
        self._recent: deque[float] = deque(maxlen=per_second)
        self._last: dict[str, float] = {}
        self._penalty_until = float("-inf")

    def admit(self, endpoint: str) -> float:
        """Counts one call; returns 0.0 when allowed, else the seconds of penalty left."""
        now = self._now()
        if now < self._penalty_until:
            return self._penalty_until - now
        if self._too_fast(endpoint, now):
            self._penalty_until = now + PENALTY_SECONDS
            return PENALTY_SECONDS
        self._recent.append(now)
        if endpoint in ENDPOINT_INTERVALS:
            self._last[endpoint] = now
        return 0.0

    def penalise(self, seconds: float = PENALTY_SECONDS) -> None:
        """Puts the caller into the penalty box without a cause (a fault)."""
        self._penalty_until = self._now() + seconds

    def forgive(self) -> None:
        """Ends a penalty early."""
        self._penalty_until = float("-inf")

    def _too_fast(self, endpoint: str, now: float) -> bool:
        if len(self._recent) == self._recent.maxlen and now - self._recent[0] < 1.0:
            return True
        interval = ENDPOINT_INTERVALS.get(endpoint)
        return interval is not None and now - self._last.get(endpoint, float("-inf")) < interval
