"""The connection's diagnostics across restarts of the bridge, without anyone waiting for the disk.

Two tables: the root-cause fields of `/health` (name -> any JSON value), and what happened to the
connection, newest last, of which the file keeps the newest `KEPT`. From these comes how available
the session was over the last days.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from bridge.clock import settle
from bridge.model import ConnectionEvent
from bridge.store.database import Database
from bridge.store.errors import StoreError
from bridge.store.rows import detail, from_milliseconds, readable, to_milliseconds

KEPT: Final = 10_000
"""Events; a month of ordinary days is some hundreds, and a bad week some thousands."""
PAUSE: Final = 0.2  # changes come in bursts; one write takes them all
log = structlog.get_logger(__name__)
STOPPED: Final = "stopped"
NOT_RUNNING: Final = "the bridge was not running"
UP: Final = frozenset({"ready", "halted"})
CAUSES: Final = {
    "disconnected": "reason",
    "connect-failed": "detail",
    "heartbeat-failed": "error",
    "upstream-lost": "text",
}
"""Which member of which event says why the state after it is not ready."""


class DiagnosticsJournal:
    """Collects changes and writes them in the background.

    Safe against a crash, not against a power cut.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._values: dict[str, Any] = {}
        self._events: list[ConnectionEvent] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def save(self, values: dict[str, Any]) -> None:
        self._values.update(values)
        self._changed.set()

    def event(self, event: ConnectionEvent) -> None:
        self._events.append(event)
        self._changed.set()

    async def start(self) -> tuple[dict[str, Any], list[ConnectionEvent]]:
        """Starts keeping; the fields and events that earlier processes kept."""
        values = await self._database.read(load)
        events = await self._database.read(newest)
        self._task = asyncio.create_task(self._run(), name="diagnostics-journal")
        return values, events

    async def stop(self) -> None:
        """Writes what is left."""
        await settle(self._task)
        await self._flush()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(PAUSE)
            await self._flush()

    async def _flush(self) -> None:
        self._changed.clear()
        values, self._values = self._values, {}
        events, self._events = self._events, []
        if not values and not events:
            return

        def work(connection: sqlite3.Connection) -> None:
            save(connection, values)
            for event in events:
                add(connection, event.at, event.kind, event.detail)

        try:
            await self._database.write(work, durable=False)
        except (sqlite3.Error, StoreError, RuntimeError) as error:
            log.warning("diagnostics-not-kept", error=str(error))


def save(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Sets these fields and leaves the others as they are."""
    connection.executemany(
        "INSERT INTO diagnostics VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [(name, msgspec.json.encode(value).decode()) for name, value in values.items()],
    )


def load(connection: sqlite3.Connection) -> dict[str, Any]:
    """All fields that were ever saved."""
    rows = connection.execute("SELECT name, value FROM diagnostics")
    return dict(readable("diagnostics", rows, _value))


def _value(row: sqlite3.Row) -> tuple[str, Any]:
    return row["name"], msgspec.json.decode(row["value"])


def add(connection: sqlite3.Connection, at: datetime, kind: str, detail: dict[str, Any]) -> int:
    """Appends an event, drops those beyond `KEPT`, returns its sequence number."""
    cursor = connection.execute(
        "INSERT INTO connection_events (at, kind, detail) VALUES (?, ?, ?)",
        (to_milliseconds(at), kind, msgspec.json.encode(detail).decode()),
    )
    sequence = int(cursor.lastrowid or 0)
    connection.execute("DELETE FROM connection_events WHERE sequence <= ?", (sequence - KEPT,))
    return sequence


def newest(connection: sqlite3.Connection, limit: int = 100) -> list[ConnectionEvent]:
    """The last `limit` events, oldest of them first."""
    rows = connection.execute(
        "SELECT * FROM connection_events ORDER BY sequence DESC LIMIT ?", (limit,)
    ).fetchall()
    return list(readable("connection_events", reversed(rows), _event))


def events_from(connection: sqlite3.Connection, sequence: int) -> list[ConnectionEvent]:
    """Those with this sequence number or a higher one, oldest first."""
    rows = connection.execute(
        "SELECT * FROM connection_events WHERE sequence >= ? ORDER BY sequence", (sequence,)
    ).fetchall()
    return list(readable("connection_events", rows, _event))


def _event(row: sqlite3.Row) -> ConnectionEvent:
    return ConnectionEvent(
        sequence=row["sequence"],
        at=from_milliseconds(row["at"]),
        kind=row["kind"],
        detail=detail(row["detail"]),
    )


class StateSince(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A state, since when, and why when it is not ready and something said so."""

    at: datetime
    state: str
    cause: str | None = None


class Availability(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The states of the asked time, oldest first.

    `availability` is the part of the recorded time in which orders could be placed, 0 to 1;
    None: nothing is on record. `since` is where the record begins.
    """

    days: int
    since: datetime | None
    availability: float | None
    states: tuple[StateSince, ...]


def availability(connection: sqlite3.Connection, now: datetime, days: int) -> Availability:
    """The last `days` days, up to `now`; what the journal does not hold is not told."""
    start = now - timedelta(days=days)
    events = events_from(connection, _first(connection, start))
    states = _states(_in_order(events, start, now))
    ends = [*(state.at for state in states[1:]), now]
    shown = tuple(
        msgspec.structs.replace(state, at=max(state.at, start))
        for state, end in zip(states, ends, strict=False)
        if end > start
    )
    return Availability(
        days=days,
        since=shown[0].at if shown else None,
        availability=_share(shown, now),
        states=shown,
    )


def _first(connection: sqlite3.Connection, start: datetime) -> int:
    """The last state before the first event of the asked time; by their numbers, not their times.

    A machine without a clock of its own writes an old time into its first events of each boot.
    """
    row = connection.execute(
        "SELECT max(sequence) FROM connection_events WHERE kind = 'state' AND sequence <"
        " coalesce((SELECT min(sequence) FROM connection_events WHERE at >= ?), ?)",
        (to_milliseconds(start), 1 << 62),
    ).fetchone()
    return int(row[0] or 0)


def _in_order(
    events: list[ConnectionEvent], start: datetime, now: datetime
) -> list[ConnectionEvent]:
    """With times that never go back: that a clock was set is no time that has passed.

    What is older than all that is asked for, and came in the middle of it, has the time of what
    came before, or of the last sign of life; what was ahead of its time that of what came next.
    """
    times: list[datetime] = []
    for event in events:
        old = bool(times) and event.at < start <= times[-1]
        times.append(max(times[-1], _alive_before(event)) if old else event.at)
    latest = now
    for place in reversed(range(len(times))):
        latest = times[place] = min(times[place], latest)
    return [msgspec.structs.replace(event, at=at) for event, at in zip(events, times, strict=True)]


def _states(events: list[ConnectionEvent]) -> list[StateSince]:
    found: list[StateSince] = []
    cause: str | None = None
    for event in events:
        if event.kind == "state":
            state = str(event.detail.get("state", "unknown"))
            found.append(StateSince(at=event.at, state=state, cause=_of(state, cause)))
            cause = None
        elif event.kind == "bridge-started":
            found += _away(found, event)
            cause = None
        elif event.kind in CAUSES:
            said = str(event.detail.get(CAUSES[event.kind]) or "")[:200] or None
            last = found[-1] if found else None
            if last and last.cause is None and last.state not in UP | {STOPPED}:
                found[-1] = msgspec.structs.replace(last, cause=said)
            else:
                cause = said
    return found


def _of(state: str, cause: str | None) -> str | None:
    return None if state in UP else cause


def _away(found: list[StateSince], event: ConnectionEvent) -> list[StateSince]:
    """From the last sign of life of the process before to the start of this one."""
    if not found:
        return []
    alive = min(_alive_before(event), event.at)
    return [StateSince(at=max(found[-1].at, alive), state=STOPPED, cause=NOT_RUNNING)]


def _alive_before(event: ConnectionEvent) -> datetime:
    """When the process before this start was last alive; the event's own time where none tells."""
    return _moment(event.detail.get("aliveUntil")) or event.at


def _moment(value: Any) -> datetime | None:
    try:
        return msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None


def _share(states: tuple[StateSince, ...], now: datetime) -> float | None:
    if not states:
        return None
    ends = [*(state.at for state in states[1:]), now]
    spans = [
        ((end - state.at).total_seconds(), state.state in UP)
        for state, end in zip(states, ends, strict=True)
    ]
    whole = sum(seconds for seconds, _ in spans)
    if whole <= 0:
        return None
    return round(sum(seconds for seconds, up in spans if up) / whole, 6)
