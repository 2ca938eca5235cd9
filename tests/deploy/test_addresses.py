"""Where the page, the API and the first key are, for every kind of target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infrastructure.cli.commands.up import links
from infrastructure.config import load
from infrastructure.render.caddy import public

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target


@pytest.mark.parametrize(
    ("sections", "address"),
    [
        ({"host": "me@vm"}, "https://vm"),
        ({"host": "me@vm", "caddy": {"domain": "trade.example.org"}}, "https://trade.example.org"),
        ({"host": "me@vm", "caddy": {"names": ["inside"]}}, "https://inside"),
        ({"host": "me@[2001:db8::1]"}, "https://[2001:db8::1]"),
        ({"host": "local", "caddy": {"https_port": 8443}}, "https://localhost:8443"),
    ],
)
def test_one_address_for_all(
    make: Callable[..., Target], sections: dict[str, Any], address: str
) -> None:
    assert public(make(**sections)) == address


@pytest.mark.parametrize(
    "key", ["{stored: bridge-admin-key}", "{command: [echo, k]}", "{file: gone}"]
)
def test_a_sandbox_of_ones_own_names_a_key_that_is_there(tmp_path: Path, key: str) -> None:
    file = tmp_path / "stack.yaml"
    file.write_text(
        "targets:\n  mine:\n    runtime: sandbox\n    host: local\n"
        f"    folder: {tmp_path}/there\n    bridge: {{admin_key: {key}}}\n"
    )
    target = load(str(file), "mine")
    release = tmp_path / "there/mine/current/secrets/bridge-admin-key"
    assert links(target)["keyFile"] == str(release)
    if "stored" in key:
        stored = tmp_path / ".gangway/secrets/mine/bridge-admin-key"
        stored.parent.mkdir(parents=True)
        stored.write_text("k")
        assert links(target)["keyFile"] == str(stored)
