"""Pages that speak of names in the code, held to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infrastructure.config.gateway import DEAD, OWNED, Gateway, TwoFactor
from infrastructure.render.gateway import HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "gateway-image.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(OWNED))
def test_every_variable_that_we_set_is_described(name: str) -> None:
    assert f"`{name}`" in PAGE
    section, *inner = OWNED[name].removeprefix("gateway.").split(".")
    assert section in Gateway.model_fields
    assert not inner or inner[0] in TwoFactor.model_fields


def test_every_hook_and_dead_name_is_described() -> None:
    for hook in HOOKS:
        assert f"`{hook.rpartition('/')[2]}`" in PAGE
    ours = {"JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CUSTOM_CONFIG"}
    for name in set(DEAD) - ours:
        assert name in PAGE


def test_what_is_rendered_is_what_is_refused_by_hand(make: Callable[..., Target]) -> None:
    """A variable that gangway sets cannot be set twice."""
    from infrastructure.config.gateway import refusal
    from infrastructure.render.gateway import environment

    target = make(profile="small", gateway={"mode": "both", "paper_username": "bob"})
    for name in environment(target, "alice"):
        assert refusal(name) is not None, name
