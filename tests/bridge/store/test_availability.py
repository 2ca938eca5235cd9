"""The states of the last days, from the kept events."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from bridge.store import diagnostics, migrations
from bridge.store.diagnostics import NOT_RUNNING, StateSince, availability

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def connection() -> sqlite3.Connection:
    found = sqlite3.connect(":memory:", isolation_level=None)
    found.row_factory = sqlite3.Row
    migrations.advance(found)
    return found


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def state(connection: sqlite3.Connection, hours: float, name: str) -> None:
    diagnostics.add(connection, ago(hours), "state", {"previous": "x", "state": name})


def test_nothing_on_record_is_no_availability(connection: sqlite3.Connection) -> None:
    found = availability(connection, NOW, 7)
    assert (found.since, found.availability, found.states) == (None, None, ())


def test_a_loss_has_its_cause_whichever_came_first(connection: sqlite3.Connection) -> None:
    state(connection, 10, "ready")
    diagnostics.add(connection, ago(6), "disconnected", {"reason": "the peer closed"})
    state(connection, 6, "reconnecting")
    state(connection, 5, "ready")
    state(connection, 3, "upstream-lost")
    diagnostics.add(connection, ago(3), "upstream-lost", {"code": 1100, "text": "lost"})
    state(connection, 2, "ready")
    found = availability(connection, NOW, 1)
    assert [(each.state, each.cause) for each in found.states] == [
        ("ready", None),
        ("reconnecting", "the peer closed"),
        ("ready", None),
        ("upstream-lost", "lost"),
        ("ready", None),
    ]
    assert found.availability == 0.8
    assert found.since == ago(10)


def test_what_was_before_the_asked_time_begins_with_it(connection: sqlite3.Connection) -> None:
    state(connection, 70, "connecting")
    state(connection, 60, "ready")
    state(connection, 6, "stalled")
    found = availability(connection, NOW, 1)
    assert found.states == (
        StateSince(at=ago(24), state="ready"),
        StateSince(at=ago(6), state="stalled"),
    )
    assert found.availability == 0.75


def test_while_the_bridge_did_not_run_it_was_not_available(connection: sqlite3.Connection) -> None:
    state(connection, 8, "ready")
    alive = ago(4).isoformat()
    diagnostics.add(connection, ago(2), "bridge-started", {"library": "", "aliveUntil": alive})
    state(connection, 2, "ready")
    found = availability(connection, NOW, 1)
    assert found.states[1] == StateSince(at=ago(4), state="stopped", cause=NOT_RUNNING)
    assert found.availability == 0.75


@pytest.mark.parametrize("alive", [None, "nonsense", "2030-01-01T00:00:00Z"])
def test_without_a_sign_of_life_the_start_is_the_end(
    connection: sqlite3.Connection, alive: str | None
) -> None:
    """A clock that was wrong, or a bridge from before the sign was kept."""
    state(connection, 8, "ready")
    diagnostics.add(connection, ago(2), "bridge-started", {"aliveUntil": alive})
    state(connection, 1, "ready")
    assert [each.at for each in availability(connection, NOW, 1).states] == [ago(8), ago(2), ago(1)]
