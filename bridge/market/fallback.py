"""When one instrument's data turns from live to delayed, and when live is tried again.

Pure: it is told what the broker said and answers what to request next.

    LIVE --354, 10089, 10090, 10168, 10186, 10197--> DELAYED --refused too--> NOTHING
      ^                                                 |                        |
      +------------- live data came on a probe ---------+------------------------+

10167 ("displaying delayed market data") needs no new request: the line carries delayed data by
itself, and only the way back is ours. After 10197 another session holds live data, which may end
any minute: live is tried again sooner than after a missing subscription, which lasts until someone
buys it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from bridge.model import MarketDataType

COMPETING: Final = frozenset({10197})
NOT_SUBSCRIBED: Final = frozenset({354, 10089, 10090, 10167, 10168, 10186})
FALLBACK_CODES: Final = COMPETING | NOT_SUBSCRIBED

COMPETING_SECONDS: Final = 30.0
NOT_SUBSCRIBED_SECONDS: Final = 300.0
LONGEST_SECONDS: Final = 3600.0


class Feed(Enum):
    """What an instrument gets now."""

    LIVE = "live"
    DELAYED = "delayed"
    NOTHING = "nothing"


class Fallback:
    """The state of one instrument. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.feed = Feed.LIVE
        self.cause: int | None = None
        self.probe_at: float | None = None
        self._wait = 0.0

    @property
    def wanted(self) -> MarketDataType:
        """The kind to request after a refusal or an interruption."""
        return MarketDataType.LIVE if self.feed is Feed.LIVE else MarketDataType.DELAYED

    def refused(self, code: int | None, now: float) -> bool:
        """The broker refused the line. True: request it again, as `wanted`, at once."""
        self._schedule(code, now)
        if self.feed is Feed.LIVE and code in FALLBACK_CODES:
            self.feed = Feed.DELAYED
            return True
        self.feed = Feed.NOTHING
        return False

    def delivered(self, kind: MarketDataType, now: float) -> None:
        """The line carries data of this kind."""
        if kind in {MarketDataType.LIVE, MarketDataType.FROZEN}:
            self.recovered()
        elif self.feed is Feed.LIVE:
            self.feed = Feed.DELAYED
            self._schedule(10167, now)

    def probe_failed(self, code: int | None, now: float) -> None:
        """Live was tried and refused again: wait longer."""
        self._schedule(code, now)

    def recovered(self) -> None:
        """Live data is there."""
        self.feed = Feed.LIVE
        self.cause = None
        self.probe_at = None
        self._wait = 0.0

    def hurry(self, now: float) -> None:
        """Something changed (the other session ended, a reconnect): try live at the next chance."""
        if self.probe_at is not None:
            self.probe_at = now
            self._wait = 0.0

    def probe_due(self, now: float) -> bool:
        """Whether live is to be tried now; the next time is then a full wait away."""
        if self.probe_at is None or now < self.probe_at:
            return False
        self.probe_at = now + max(self._wait, COMPETING_SECONDS)
        return True

    def _schedule(self, code: int | None, now: float) -> None:
        base = COMPETING_SECONDS if code in COMPETING else NOT_SUBSCRIBED_SECONDS
        self._wait = min(max(self._wait * 2, base), LONGEST_SECONDS)
        self.cause = code
        self.probe_at = now + self._wait
