"""What `apikey list` says of a key's end."""

from __future__ import annotations

import pytest

from infrastructure.cli.commands.apikey import _until


@pytest.mark.parametrize(
    ("expires_at", "said"),
    [
        (None, "for ever"),
        ("2028-01-01T00:00:00Z", "until 2027-12-31 24:00"),  # --expires 2027-12-31
        ("2027-12-31T15:30:00Z", "until 2027-12-31 15:30"),
    ],
)
def test_the_last_day_is_the_one_that_was_asked_for(expires_at: str | None, said: str) -> None:
    """In UTC, as it was given."""
    assert _until(expires_at) == said
