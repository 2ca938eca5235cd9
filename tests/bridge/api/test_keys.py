"""Keys come and go, those of workers and agents by the thousand; a request is looked up as ever."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from bridge.api.auth import KeyRing
from bridge.api.problems import UnauthorizedError
from bridge.callers import Scope
from bridge.clock import SystemClock
from bridge.store import Database

FILE = "first-key-of-the-tests-0123456789"


async def test_what_is_revoked_costs_no_request_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(FILE)
    (tmp_path / "key").chmod(0o600)
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return compare(one, other)

    database = await Database.open(tmp_path / "data", None)
    try:
        ring = KeyRing(database, SystemClock(), tmp_path / "key")
        await ring.load()
        kept, key = await ring.create("kept", Scope.READ)
        ended = [await ring.create(f"agent {number}", Scope.READ) for number in range(5)]
        for _, each in ended:
            await ring.revoke(each.id)
        monkeypatch.setattr(hmac, "compare_digest", counted)
        assert ring.verify(kept, "here").key_id == key.id
        assert len(compared) == 2, "the one that is left, and the file's"
        with pytest.raises(UnauthorizedError):
            ring.verify(ended[0][0], "here")
        assert len(await ring.everything()) == 6
        assert ring.holds(ring.verify(kept, "here").holder("here"))
        assert [ring.exists(each.id) for _, each in ended] == [False] * 5
        assert ring.exists(key.id)
        assert ring.exists("admin-key-file")
    finally:
        await database.close()
