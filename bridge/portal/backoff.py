"""Spaces recoveries out when they follow one another, as with a session that flaps."""

from __future__ import annotations

from typing import Final

from bridge.clock import Clock

DELAYS: Final = (0.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds between the starts of an attempt and the next, by attempts so far."""

STABLE_SECONDS: Final = 120.0
"""A session that held this long begins anew."""


class RecoveryBackoff:
    """Counts attempts, successful or not, until the session has held for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts = 0
        self._last_attempt = float("-inf")
        self._connected_since: float | None = None

    def attempted(self) -> None:
        """An attempt begins."""
        self._settle()
        self._attempts += 1
        self._last_attempt = self._clock.monotonic()

    def connected(self) -> None:
        """The session was seen connected."""
        self._settle()
        if self._connected_since is None:
            self._connected_since = self._clock.monotonic()

    def lost(self) -> None:
        """The session was seen not connected."""
        self._settle()
        self._connected_since = None

    def wait(self) -> float:
        """Seconds until the next automatic attempt may begin."""
        delay = DELAYS[min(self._attempts, len(DELAYS) - 1)]
        return max(0.0, self._last_attempt + delay - self._clock.monotonic())

    def _settle(self) -> None:
        """Forgets the attempts of a session that held; what was last known counts until now."""
        since = self._connected_since
        if since is not None and self._clock.monotonic() - since >= STABLE_SECONDS:
            self._attempts = 0
