"""How available the session was over the last days, from the kept events of the connection."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from bridge.model import ConnectionEvent
from bridge.store.diagnostics import events_from
from bridge.store.rows import to_milliseconds

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
    before = connection.execute(
        "SELECT sequence FROM connection_events WHERE at < ? AND kind = 'state'"
        " ORDER BY sequence DESC LIMIT 1",
        (to_milliseconds(start),),
    ).fetchone()
    first = before["sequence"] if before else 0
    states = _states(events_from(connection, first))
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
    alive = _moment(event.detail.get("aliveUntil")) or event.at
    return [
        StateSince(at=max(found[-1].at, min(alive, event.at)), state=STOPPED, cause=NOT_RUNNING)
    ]


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
