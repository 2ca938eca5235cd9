"""`login`: the words for each state, and whether a person is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.login import states
from infrastructure.cli.commands.login import _types_itself, in_words

LOGGED_IN: Any = {
    "state": "logged-in",
    "session": "live",
    "kind": None,
    "why": None,
    "code": None,
    "window": None,
    "until": None,
    "retryAt": None,
}


def login(**more: Any) -> Any:
    return LOGGED_IN | more


@pytest.mark.parametrize(
    ("more", "told", "hint"),
    [
        ({}, "logged in", ""),
        ({"state": "starting"}, "starting", ""),
        (
            {"state": "starting", "retryAt": "2026-03-04T15:10:00Z"},
            f"{states.SPACED_OUT}; the next attempt is at 2026-03-04T15:10:00Z",
            "",
        ),
        (
            {
                "state": "waiting-broker",
                "code": "broker-no-answer",
                "retryAt": "2026-03-04T15:10:00Z",
            },
            "IBKR does not answer the login; the next attempt is at 2026-03-04T15:10:00Z",
            states.TROUBLES["broker-no-answer"].hint,
        ),
        ({"state": "waiting-2fa", "kind": "code"}, states.TYPED, ""),
        (
            {"state": "waiting-2fa", "kind": "push", "until": "2026-03-04T15:10:00Z"},
            "waiting for 2FA: approve on IBKR Mobile",
            "approve the login on IBKR Mobile until 2026-03-04T15:10:00Z",
        ),
    ],
)
def test_the_words(more: dict[str, Any], told: str, hint: str) -> None:
    assert in_words(login(**more)) == (told, hint)


def test_nobody_is_asked_for_a_code_that_gangway_types() -> None:
    assert _types_itself(login(state="waiting-2fa", kind="code"))
    failed = login(state="waiting-2fa", kind="code", code="second-factor-code")
    assert not _types_itself(failed)
    assert not _types_itself(login(state="waiting-2fa", kind="push"))
