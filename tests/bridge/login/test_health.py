"""`/health` tells the login of each session, in the contract's shape, and what to do about it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bridge.login import states
from tests.bridge.portal.running import running

FIELDS = {
    *("state", "since", "kind", "why", "until", "retryAt", "window", "code", "controller"),
    "session",
}


def facts(*events: str) -> str:
    at = int(time.time()) - 60
    return "".join(f"{at + place} {event}\n" for place, event in enumerate(events))


BEGUN = ("by ibc", "launch password", "attempt 1")


async def test_both_sessions_are_told(tmp_path: Path) -> None:
    own, other = tmp_path / "login-paper", tmp_path / "login-live"
    own.write_text(facts(*BEGUN, "login"))
    other.write_text(facts(*BEGUN, "push"))
    async with running(tmp_path, login_state_file=own, other_login_file=other) as bridge:
        await bridge.ready()
        health = (await bridge.client.get("/health")).json()
        assert set(health["login"]) == FIELDS
        assert health["login"]["state"] == "logged-in"
        assert [(one["session"], one["state"]) for one in health["logins"]] == [
            ("paper", "logged-in"),
            ("live", "waiting-2fa"),
        ]
        assert health["logins"][1]["kind"] == "push"
        assert health["logins"][1]["until"] > health["logins"][1]["since"]


@pytest.mark.parametrize(
    ("events", "state", "connection", "said"),
    [
        (("refused", "held bad-credentials"), "held", "waiting-for-gateway", "user name or"),
        (("push",), "waiting-2fa", "waiting-2fa", "Approve the login on IBKR Mobile"),
        (("code",), "waiting-2fa", "waiting-2fa", "type the code"),
        (("failed", "pause 60"), "waiting-broker", "waiting-for-gateway", "next attempt at"),
        (("blocker Login Messages",), "blocked", "waiting-for-gateway", "(Login Messages)"),
        ((), "logging-in", "waiting-for-gateway", "logging in"),
    ],
)
async def test_the_next_step_is_true_in_the_state_in_which_it_is_given(
    tmp_path: Path, events: tuple[str, ...], state: str, connection: str, said: str
) -> None:
    own = tmp_path / "login-paper"
    own.write_text(facts(*BEGUN, *events))
    async with running(tmp_path, login_state_file=own) as bridge:
        bridge.simulator.world.faults.start("port-closed")
        await bridge.client.post("/connection/reconnect")
        deadline = time.monotonic() + 20
        health = (await bridge.client.get("/health")).json()
        while health["state"] != connection and time.monotonic() < deadline:
            health = (await bridge.client.get("/health")).json()
        assert health["state"] == connection
        assert health["login"]["state"] == state
        assert said in health["nextAction"]
        assert "just been started" not in health["nextAction"]


async def test_without_a_file_nothing_is_known_but_what_the_session_shows(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        await bridge.ready()
        health = (await bridge.client.get("/health")).json()
        assert health["login"]["state"] == states.LOGGED_IN
        assert health["logins"] == [health["login"]]


async def test_without_a_file_a_guess_has_the_same_word(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        bridge.simulator.world.faults.start("waiting-2fa")
        await bridge.client.post("/connection/reconnect")
        deadline = time.monotonic() + 30
        health = (await bridge.client.get("/health")).json()
        while health["state"] != "waiting-2fa" and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            health = (await bridge.client.get("/health")).json()
        assert health["state"] == health["login"]["state"] == "waiting-2fa"
        assert health["login"]["kind"] is None
