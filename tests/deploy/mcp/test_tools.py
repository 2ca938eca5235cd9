"""What the tools promise a model, and the bridge takes otherwise."""

from __future__ import annotations

import pytest

from infrastructure.mcp.tools import zoned


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("2026-11-27T21:00:00", "2026-11-27T21:00:00+00:00"),
        ("2026-11-27", "2026-11-27T00:00:00+00:00"),
        ("2026-11-27T21:00:00-05:00", "2026-11-27T21:00:00-05:00"),
        ("2026-11-27T21:00:00Z", "2026-11-27T21:00:00Z"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, sent: str) -> None:
    """`/history` refuses one; the tool says that it takes it."""
    assert zoned(text) == sent
