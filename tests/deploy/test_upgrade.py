"""`upgrade`: what is newer, and how it is said."""

from __future__ import annotations

import pytest

from infrastructure.apply.protocol.documents import ImageState, Newer
from infrastructure.cli.commands.upgrade import is_newer, line
from infrastructure.runtime.compose import repository_of

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def newer(runs: str, found: str, name: str = "g:stable", **more: str) -> Newer:
    return Newer(
        "gateway",
        ImageState("g:stable", "id", runs, "10.37.1m", "2026-01-02"),
        ImageState(name, digest=found),
        **more,
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (newer(OLD, NEW), True),
        (newer(OLD, OLD), False),
        (newer(OLD, OLD, "g:10.45.1j"), True),
        (newer(OLD, ""), False),
        (newer("", NEW), True),
    ],
)
def test_newer_is_another_digest_or_another_name(one: Newer, expected: bool) -> None:
    assert is_newer(one) is expected


def test_the_lines() -> None:
    assert line(newer(OLD, OLD)) == (
        "gateway: 10.37.1m (aaaaaaaaaaaa, 2026-01-02) is what g:stable stands for"
    )
    assert line(newer(OLD, NEW, refused="2026-01-03: it ended")) == (
        "gateway: 10.37.1m (aaaaaaaaaaaa, 2026-01-02) -> g:stable (bbbbbbbbbbbb);"
        " did not become healthy here, 2026-01-03: it ended"
    )
    assert line(newer(OLD, "", why="denied")) == (
        "gateway: the registry does not tell about g:stable: denied"
    )


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("caddy:2", "caddy"),
        ("localhost:5000/me/gateway:stable", "localhost:5000/me/gateway"),
        ("localhost:5000/me/gateway", "localhost:5000/me/gateway"),
        (f"ghcr.io/me/gateway:1@{OLD}", "ghcr.io/me/gateway"),
    ],
)
def test_a_port_is_no_tag(image: str, repository: str) -> None:
    assert repository_of(image) == repository
