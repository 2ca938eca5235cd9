"""Keeps our own requests within the Web API's limits, so that a penalty never begins.

From the public documents: ten requests a second in all, some endpoints far fewer; who passes a
limit is kept out for ten to fifteen minutes. We stay a little below, because our clock and the
broker's do not tick alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.clock import Clock
from bridge.portal.errors import PortalLimitedError

PENALTY_SECONDS = 900.0
PER_SECOND = 8
INTERVALS: tuple[tuple[str, float], ...] = (
    ("/tickle", 1.0),
    ("/sso/validate", 60.0),
    ("/iserver/account/orders", 5.0),
    ("/iserver/account/trades", 5.0),
    ("/iserver/account/pnl/partitioned", 5.0),
    ("/portfolio/accounts", 5.0),
    ("/portfolio/subaccounts", 5.0),
    ("/iserver/marketdata/snapshot", 0.1),
)
MARGIN = 1.05
START_SECONDS = 1.0
"""How long after its start a process waits before its first tickle."""


class Turn:
    """One admitted call. The broker sees it at some moment between its start and its end."""

    def __init__(self, start: float) -> None:
        self.time = start
        self.ended = False

    def seen_by(self, now: float) -> float:
        """The latest moment at which the broker may have seen the call."""
        return self.time if self.ended else max(self.time, now)


class PortalPacer:
    """Admits requests one after the other, waiting as long as the limits demand.

    One for each process: the broker counts by address and user, whatever our settings are. Gaps
    are counted from the end of a call: a first call that takes half a second to connect is seen
    by the broker half a second late.

    Args:
        clock: what is waited on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: deque[Turn] = deque(maxlen=PER_SECOND)
        # A predecessor of this process may have tickled just now.
        self._last: dict[str, Turn] = {"/tickle": Turn(clock.monotonic() - 1.0 + START_SECONDS)}
        self._last["/tickle"].ended = True
        self._closed_until = float("-inf")

    @property
    def penalty_left(self) -> float:
        """Seconds for which nothing may be sent; 0 when the way is free."""
        return max(0.0, self._closed_until - self._clock.monotonic())

    def penalise(self, seconds: float | None = None) -> None:
        """The broker said 429: nothing is sent for `seconds` (fifteen minutes by default)."""
        wait = PENALTY_SECONDS if seconds is None else max(seconds, 1.0)
        self._closed_until = max(self._closed_until, self._clock.monotonic() + wait)

    @asynccontextmanager
    async def turn(self, path: str, timeout: float) -> AsyncIterator[None]:
        """The body runs when the request may be sent, and is the request.

        Raises:
            PortalLimitedError: it would take longer than `timeout` seconds.
        """
        turn = await self._admit(path, timeout)
        try:
            yield
        finally:
            turn.time, turn.ended = self._clock.monotonic(), True

    async def _admit(self, path: str, timeout: float) -> Turn:
        # The place is taken before the wait, so that callers who wait at the same time do not
        # all start at once.
        now = self._clock.monotonic()
        start = max(now, self._earliest(path, now))
        if start - now > timeout:
            raise PortalLimitedError(
                f"the Client Portal's limits leave no room for {path} now",
                retry_after=start - now,
            )
        turn = Turn(start)
        self._recent.append(turn)
        if (endpoint := _limited_endpoint(path)) is not None:
            self._last[endpoint] = turn
        if start > now:
            await self._clock.sleep(start - now)
            self._require_no_penalty(path)  # it may have begun while this call waited
        return turn

    def _require_no_penalty(self, path: str) -> None:
        if (left := self.penalty_left) > 0:
            raise PortalLimitedError(f"the Client Portal keeps us out: {path}", retry_after=left)

    def _earliest(self, path: str, now: float) -> float:
        earliest = self._closed_until
        if len(self._recent) == PER_SECOND:
            earliest = max(earliest, self._recent[0].seen_by(now) + MARGIN)
        endpoint = _limited_endpoint(path)
        if endpoint is not None and (last := self._last.get(endpoint)) is not None:
            earliest = max(earliest, last.seen_by(now) + dict(INTERVALS)[endpoint] * MARGIN)
        return earliest


def _limited_endpoint(path: str) -> str | None:
    return next((endpoint for endpoint, _ in INTERVALS if path.startswith(endpoint)), None)
