"""How long the bridge keeps orders, as stack.yaml says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from bridge.environment import Environment, read
from infrastructure.config.bridge import Journal
from infrastructure.render import bridge
from infrastructure.render.layout import compose_layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target

NAME = "BRIDGE_JOURNAL_KEEP_DAYS"


@pytest.mark.parametrize(("keep", "days"), [("90d", 90), ("1y", 365), ("10y", 3650)])
def test_the_bridge_is_told_in_days(make: Callable[..., Target], keep: str, days: int) -> None:
    target = make(journal={"keep": keep})
    values = bridge.environment(target, compose_layout(target))
    assert values[NAME] == str(days)
    assert read({NAME: values[NAME]}).journal_keep_days == days


def test_the_default_is_the_bridges_own(make: Callable[..., Target]) -> None:
    target = make()
    assert NAME not in bridge.environment(target, compose_layout(target))
    assert target.stack.journal.keep_days == Environment().journal_keep_days


@pytest.mark.parametrize("keep", ["29d", "0y", "2", "two years", "101y"])
def test_what_is_no_such_time_is_refused(keep: str) -> None:
    with pytest.raises(ValidationError):
        Journal(keep=keep)
