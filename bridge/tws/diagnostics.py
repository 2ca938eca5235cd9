"""What happened to the connection, for ``/health`` and ``GET /connection/events``.

Kept across restarts of the bridge by a ``Storage`` (``bridge.store`` has one on SQLite). Nothing
here waits.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from msgspec import Struct, convert, to_builtins

from bridge.clock import TimerClock
from bridge.model import ConnectionEvent

KEPT_EVENTS = 100
DAY = timedelta(hours=24)
SIGN_OF_LIFE = timedelta(seconds=60)
"""How often the record is kept while nothing happens; it tells how long the bridge was away."""
FLOOD = timedelta(seconds=2)  # that many events within so little time tell nothing
log = structlog.get_logger(__name__)


class Record(Struct, rename="camel", kw_only=True):
    """The root-cause fields of ``/health``; saved as they are."""

    last_disconnect_at: datetime | None = None
    last_disconnect_reason: str | None = None
    last_ib_error_at: datetime | None = None
    last_ib_error_code: int | None = None
    last_ib_error_message: str | None = None
    last_reconnect_attempt_at: datetime | None = None
    last_reconnect_error: str | None = None
    reconnect_attempts: int = 0
    reconnect_failures: int = 0
    last_heartbeat_at: datetime | None = None
    last_heartbeat_error: str | None = None
    heartbeat_failures: int = 0
    total_connections: int = 0
    total_disconnections: int = 0
    failed_connections: int = 0
    ready_spans: list[tuple[datetime, datetime]] = []
    observed_since: datetime | None = None


class Storage(Protocol):
    """Where diagnostics are kept. Both calls return at once and never raise."""

    def save(self, values: dict[str, Any]) -> None: ...

    def event(self, event: ConnectionEvent) -> None: ...


class NoStorage:
    """Forgets everything at the end of the process."""

    def save(self, values: dict[str, Any]) -> None: ...

    def event(self, event: ConnectionEvent) -> None: ...


class Diagnostics:
    """The record, the last events, and the two derived figures."""

    def __init__(self, clock: TimerClock, storage: Storage | None = None) -> None:
        self._clock = clock
        self._storage: Storage = storage or NoStorage()
        self.record = Record(observed_since=clock.now())
        self.events: deque[ConnectionEvent] = deque(maxlen=KEPT_EVENTS)
        self.suppressed = 0
        self.farms: dict[str, str] = {}
        self._connected_at: float | None = None
        self.heartbeat_milliseconds: float | None = None
        self._ready_at: datetime | None = None
        self._sequence = 0
        self._saved_at = clock.now()
        self.alive_until: str | None = None
        """The last sign of life of the process before this one, ISO 8601."""

    def restore(
        self, storage: Storage, values: dict[str, Any], events: list[ConnectionEvent]
    ) -> None:
        """Takes over what an earlier process kept; call it before the first connection."""
        self._storage = storage
        observed = self.record.observed_since
        alive = values.get("aliveAt")
        self.alive_until = alive if isinstance(alive, str) else None
        try:
            self.record = convert(values, Record)
        except ValueError as error:
            log.warning("diagnostics-not-restored", error=str(error))
        self.record.observed_since = self.record.observed_since or observed
        newer = list(self.events)
        self.events.clear()
        self.events.extend(events)
        self._sequence = max((event.sequence for event in events), default=0)
        for event in newer:
            self.note(event.kind, **event.detail)

    def away_since(self) -> datetime | None:
        """When the process before this one gave its last sign of life; None: not known."""
        try:
            return convert(self.alive_until, datetime)
        except ValueError:
            return None

    def note(self, kind: str, **detail: Any) -> None:
        """Adds an event and keeps the record; a flood of them is counted, not kept."""
        now = self._clock.now()
        many = len(self.events) == KEPT_EVENTS
        if many and timedelta(0) <= now - self.events[0].at < FLOOD:  # not a clock set back
            self.suppressed += 1
            return
        self._sequence += 1
        event = ConnectionEvent(sequence=self._sequence, at=now, kind=kind, detail=detail)
        self.events.append(event)
        self._storage.event(event)
        self.save()
        log.info("connection-event", kind=kind, **detail)

    def save(self) -> None:
        """Hands the record to the storage."""
        self._saved_at = self._clock.now()
        values: dict[str, Any] = to_builtins(self.record)
        values["aliveAt"] = to_builtins(self._saved_at)
        if self._ready_at:
            values["readySpans"] = to_builtins(
                [*self._spans(), (self._ready_at, self._clock.now())]
            )
        self._storage.save(values)

    # what the supervisor reports --------------------------------------------------------------

    def attempted(self) -> None:
        """A connect attempt begins."""
        self.record.last_reconnect_attempt_at = self._clock.now()
        self.record.reconnect_attempts += 1
        self._show_life()

    def attempt_failed(self, problem: str, detail: str, *, expected: bool) -> None:
        """It failed; only what is new becomes an event, not every try."""
        new = self.record.last_reconnect_error != detail
        self.record.last_reconnect_error = detail
        self.record.reconnect_failures += 1
        self.record.failed_connections += 1
        if new:
            self.note("connect-failed", problem=problem, detail=detail, expected=expected)

    def connected(self, **detail: Any) -> None:
        """The session has been started."""
        self._connected_at = self._clock.monotonic()
        self.record.total_connections += 1
        self.record.last_reconnect_error = None
        self.note("connected", **detail)

    def disconnected(self, reason: str, *, expected: bool) -> None:
        """The socket is gone."""
        self._connected_at = None
        self.record.total_disconnections += 1
        self.record.last_disconnect_at = self._clock.now()
        self.record.last_disconnect_reason = reason
        self.note("disconnected", reason=reason, expected=expected)

    def broker_said(self, code: int, text: str) -> None:
        """A code that is worth showing."""
        self.record.last_ib_error_at = self._clock.now()
        self.record.last_ib_error_code = code
        self.record.last_ib_error_message = text

    def heartbeat(self, error: str | None, seconds: float | None = None) -> None:
        """A heartbeat was answered (None) after so many seconds, or not."""
        if error is None:
            self.heartbeat_milliseconds = None if seconds is None else round(seconds * 1000, 2)
            self.record.last_heartbeat_at = self._clock.now()
            self.record.last_heartbeat_error = None
            self._show_life()
            return
        self.record.last_heartbeat_error = error
        self.record.heartbeat_failures += 1
        self.note("heartbeat-failed", error=error)

    def _show_life(self) -> None:
        """Now and then, also while there is no gateway to be heard, or the clock was set back."""
        passed = self._clock.now() - self._saved_at
        if passed > SIGN_OF_LIFE or passed < timedelta(0):
            self.save()

    def ready(self, is_ready: bool) -> None:
        """The state became ready, or stopped being so."""
        if is_ready and self._ready_at is None:
            self._ready_at = self._clock.now()
        elif not is_ready and self._ready_at is not None:
            self.record.ready_spans = [*self._spans(), (self._ready_at, self._clock.now())]
            self._ready_at = None

    # derived ----------------------------------------------------------------------------------

    def uptime_seconds(self) -> float | None:
        """How long this connection has lasted; None while there is none."""
        if self._connected_at is None:
            return None
        return self._clock.monotonic() - self._connected_at

    def availability(self) -> float:
        """The ready share of the last 24 hours (of the time since the first start, if shorter)."""
        now = self._clock.now()
        start = max(now - DAY, self.record.observed_since or now)
        watched = (now - start).total_seconds()
        if watched <= 0:
            return 1.0 if self._ready_at else 0.0
        spans = self._spans()
        if self._ready_at:
            spans.append((self._ready_at, now))
        ready = sum(max(0.0, (end - max(begin, start)).total_seconds()) for begin, end in spans)
        return round(min(1.0, ready / watched), 6)

    def _spans(self) -> list[tuple[datetime, datetime]]:
        since = self._clock.now() - DAY
        return [span for span in self.record.ready_spans if span[1] > since][-500:]
