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


def test_a_clock_that_was_ahead_is_no_time_that_has_passed(connection: sqlite3.Connection) -> None:
    state(connection, 10, "ready")
    state(connection, 4, "upstream-lost")  # an hour ahead, until the clock is set
    state(connection, 5, "ready")
    found = availability(connection, NOW, 1)
    assert found.availability == 1.0
    assert [each.at for each in found.states] == [ago(10), ago(5), ago(5)]
    state(connection, -3, "reconnecting")  # ahead of now
    assert availability(connection, NOW, 1).availability == 1.0


@pytest.mark.parametrize("days", [1, 7])
def test_a_machine_that_boots_with_an_old_clock_loses_no_days(
    connection: sqlite3.Connection, days: int
) -> None:
    """Without a clock of its own it has the time of its last image until the network tells."""
    state(connection, 20, "ready")
    alive = ago(8).isoformat()
    detail = {"library": "", "aliveUntil": alive}
    diagnostics.add(connection, ago(24 * 300), "bridge-started", detail)
    state(connection, 24 * 300, "starting")
    state(connection, 6, "ready")
    found = availability(connection, NOW, days)
    assert [(each.at, each.state) for each in found.states] == [
        (ago(20), "ready"),
        (ago(8), "stopped"),
        (ago(8), "starting"),
        (ago(6), "ready"),
    ]
    assert found.availability == 0.9
