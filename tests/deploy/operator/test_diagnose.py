"""`diagnose` refuses what is no key and no address, and repeats no key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infrastructure.diagnose.run import outside, read_key
from infrastructure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target


@pytest.mark.parametrize("text", ["gw_hunter2\nkey k_1: keep it\n", "", "gw_hünter2\n"])
def test_a_file_that_holds_no_key_is_refused_without_its_text(
    make: Callable[..., Target], tmp_path: Path, text: str
) -> None:
    """`apikey create x > bot.key 2>&1` has more than the key in it."""
    file = tmp_path / "bot.key"
    file.write_text(text)
    with pytest.raises(UsageError, match="holds no key") as refused:
        read_key(make(), file)
    assert "nter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://h:99999", "ftp://h", "h:443", "https://", "https://h/below"]
)
def test_what_is_no_address_is_refused(make: Callable[..., Target], url: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        outside(make(), "key", connect_once=False, url=url)
