import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from bridge.store import diagnostics, keys, migrations, rows, settings

NOON = datetime(2026, 2, 13, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    opened.row_factory = sqlite3.Row
    migrations.advance(opened)
    yield opened
    opened.close()


def _key(name: str, **changes: object) -> keys.ApiKey:
    fields: dict = {
        "id": name,
        "label": f"{name} phone",
        "digest": name.encode() * 8,
        "scope": "trade",
        "created_at": NOON,
    }
    return keys.ApiKey(**(fields | changes))


def test_keys_come_back_as_they_were(connection: sqlite3.Connection) -> None:
    first, second = _key("a"), _key("b", expires_at=NOON + timedelta(days=1))
    keys.add(connection, first)
    keys.add(connection, second)
    assert keys.everything(connection) == [first, second]


def test_the_same_key_cannot_be_added_twice(connection: sqlite3.Connection) -> None:
    keys.add(connection, _key("a"))
    with pytest.raises(sqlite3.IntegrityError):
        keys.add(connection, _key("c", digest=_key("a").digest))


def test_revoked_and_expired_keys_open_nothing(connection: sqlite3.Connection) -> None:
    keys.add(connection, _key("a"))
    keys.add(connection, _key("b"))
    assert keys.revoke(connection, "a", NOON)
    assert not keys.revoke(connection, "a", NOON)
    assert keys.expire(connection, "b", NOON + timedelta(hours=1))
    assert not keys.expire(connection, "nobody", NOON)
    revoked, expiring = keys.everything(connection)
    assert not revoked.active(NOON)
    assert expiring.active(NOON)
    assert not expiring.active(NOON + timedelta(hours=1))


def test_a_bound_key_is_unknown_to_a_bridge_without_bounds(
    connection: sqlite3.Connection,
) -> None:
    bounds = keys.KeyBounds(
        accounts=("DU1",), symbols=("SPY",), max_notional=500.0, networks=("192.0.2.0/24",)
    )
    free, bound = _key("a"), _key("b", bounds=bounds)
    keys.add(connection, free)
    keys.add(connection, bound)
    assert keys.everything(connection) == [free, bound]
    assert [row["id"] for row in connection.execute("SELECT * FROM api_keys")] == ["a"]
    assert keys.expire(connection, "b", NOON + timedelta(hours=2))
    assert keys.expire(connection, "b", NOON + timedelta(hours=9))
    assert keys.everything(connection)[1].expires_at == NOON + timedelta(hours=2)
    assert keys.revoke(connection, "b", NOON)
    assert not keys.everything(connection)[1].active(NOON)


def test_settings_are_replaced_and_forgotten(connection: sqlite3.Connection) -> None:
    assert settings.get(connection, "host") is None
    settings.put(connection, "host", b"one", NOON)
    settings.put(connection, "host", b"two", NOON)
    assert settings.get(connection, "host") == b"two"
    assert settings.remove(connection, "host")
    assert not settings.remove(connection, "host")


def test_diagnostics_keep_what_is_not_saved_again(connection: sqlite3.Connection) -> None:
    diagnostics.save(connection, {"lastIbErrorCode": 1100, "lastDisconnectReason": "socket closed"})
    diagnostics.save(connection, {"lastIbErrorCode": None})
    assert diagnostics.load(connection) == {
        "lastIbErrorCode": None,
        "lastDisconnectReason": "socket closed",
    }


def test_connection_events_are_bounded(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "KEPT", 5)
    for number in range(12):
        diagnostics.add(connection, NOON, "lost", {"number": number})
    assert [event.detail["number"] for event in diagnostics.newest(connection, 3)] == [
        9,
        10,
        11,
    ]
    assert len(diagnostics.newest(connection, 100)) == 5


def test_times_keep_their_milliseconds() -> None:
    assert rows.from_milliseconds(rows.to_milliseconds(NOON)) == NOON
    assert rows.optional_from_milliseconds(None) is None
    with pytest.raises(ValueError, match="zone"):
        rows.to_milliseconds(NOON.replace(tzinfo=None))
