"""Secrets that are made up where there are none: one each, whoever comes at the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infrastructure.config import secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target


@pytest.mark.parametrize("links", [True, False])
def test_two_first_deploys_make_one_key(
    make: Callable[..., Target], monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """Else the one that serves is not the one that the other's host was given."""
    target = make(host="local", runtime="sandbox", profile="standard")
    new_key, others = secrets.new_key, list[bytes]()

    def slowly() -> bytes:
        key = new_key()
        if links and not others:  # between the look and the writing comes the other deploy
            others.append(key)
            others[0] = secrets.resolve(target)["bridge-admin-key"]
        return key

    def no_links(*_: object) -> None:
        raise PermissionError(1, "this disk knows no links")

    monkeypatch.setattr(secrets, "new_key", slowly)
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    own = secrets.resolve(target)["bridge-admin-key"]
    assert own == secrets.resolve(target)["bridge-admin-key"]
    assert others in ([], [own])
    assert [each.name for each in secrets.folder(target).iterdir()] == ["bridge-admin-key"]


def test_a_link_to_nowhere_is_no_key(make: Callable[..., Target]) -> None:
    target = make(host="local", runtime="sandbox", profile="standard")
    folder = secrets.folder(target)
    folder.mkdir(parents=True)
    (folder / "bridge-admin-key").symlink_to("gone")
    assert secrets.resolve(target)["bridge-admin-key"]
