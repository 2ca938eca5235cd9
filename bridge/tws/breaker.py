"""A circuit breaker for each kind of request: history may be dead while contracts answer.

Closed: everything passes. After ``threshold`` deadlines in a row without one answer it opens and
refuses at once. After ``pause`` seconds one probe passes (half-open): an answer closes it, a
deadline opens it anew. Orders and cancels never pass through a breaker.
"""

from __future__ import annotations

from enum import StrEnum

from bridge.clock import TimerClock
from bridge.tws.errors import CircuitOpenError


class BreakerState(StrEnum):
    """The words shown in ``/health`` and ``/metrics``."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """One kind of request."""

    def __init__(
        self, kind: str, clock: TimerClock, *, threshold: int = 5, pause: float = 10.0
    ) -> None:
        self.kind = kind
        self.state = BreakerState.CLOSED
        self._clock = clock
        self._threshold = threshold
        self._pause = pause
        self._failures = 0
        self._opened_at = 0.0

    def enter(self) -> None:
        """Lets a request pass, or raises ``CircuitOpenError``."""
        if self.state is BreakerState.CLOSED:
            return
        waited = self._clock.monotonic() - self._opened_at
        if self.state is BreakerState.OPEN and waited >= self._pause:
            self.state = BreakerState.HALF_OPEN
            self._opened_at = self._clock.monotonic()
            return
        raise CircuitOpenError(
            f"{self._failures} {self.kind} requests in a row got no answer",
            retry_after=max(1.0, self._pause - waited),
        )

    @property
    def shown(self) -> BreakerState:
        """Open only while it refuses: when the pause is over the next request decides."""
        waited = self._clock.monotonic() - self._opened_at
        over = self.state is BreakerState.OPEN and waited >= self._pause
        return BreakerState.HALF_OPEN if over else self.state

    def answered(self) -> None:
        """The gateway answered, be it with a refusal."""
        self._failures = 0
        self.state = BreakerState.CLOSED

    def timed_out(self) -> None:
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._threshold:
            self.state = BreakerState.OPEN
            self._opened_at = self._clock.monotonic()

    def abandoned(self) -> None:
        """The request ended without telling anything (cancelled, or the connection was lost)."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN

    def reset(self) -> None:
        """A new connection starts with a clean slate."""
        self.answered()


class Breakers:
    """All of them, made when first needed."""

    def __init__(self, clock: TimerClock) -> None:
        self._clock = clock
        self._by_kind: dict[str, Breaker] = {}

    def __getitem__(self, kind: str) -> Breaker:
        """The breaker of one kind."""
        if kind not in self._by_kind:
            self._by_kind[kind] = Breaker(kind, self._clock)
        return self._by_kind[kind]

    def reset(self) -> None:
        for breaker in self._by_kind.values():
            breaker.reset()

    def shown(self) -> dict[str, str]:
        """Kind -> state, for ``/health``."""
        return {kind: breaker.shown.value for kind, breaker in sorted(self._by_kind.items())}
