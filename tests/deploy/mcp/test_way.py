"""The key that the server makes for itself: renewed when it is over, not when it was taken away."""

from __future__ import annotations

from typing import Any, cast

import pytest

from infrastructure.errors import GangwayError
from infrastructure.mcp.bridge import Tunnel


class Played(Tunnel):
    """A way whose host is played."""

    def __init__(self, *keys: dict[str, Any], status: int = 200) -> None:
        super().__init__(cast("Any", None), cast("Any", None), "trade", None)
        self._made = "mine"
        self._played = status, {"keys": list(keys)}

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        assert (method, path) == ("GET", "/keys")
        return self._played


def test_a_key_that_somebody_has_revoked_is_not_made_anew() -> None:
    """It is how an owner stops an agent."""
    way = Played({"id": "mine", "revokedAt": "2026-11-30T07:00:00Z"})
    with pytest.raises(GangwayError) as refused:
        way.refused()
    assert refused.value.code == "key-revoked"


@pytest.mark.parametrize(
    "way",
    [
        Played({"id": "mine", "revokedAt": None}),
        Played({"id": "another", "revokedAt": "2026-11-30T07:00:00Z"}),
        Played(status=0),
    ],
    ids=["over", "forgotten", "away"],
)
def test_one_that_is_over_or_not_known_is(way: Played) -> None:
    way.refused()
