"""The gateway's log lines to states: what is waited for, and what is stopped."""

import pytest

from infrastructure.health import login
from infrastructure.health.login import Login

PREFIX = "2026-11-21 03:14:39:375 IBC: "


def follow(*lines: str) -> tuple[Login, list[str]]:
    state = Login()
    told = [text for line in lines if (text := state.feed(PREFIX + line))]
    return state, told


def test_a_plain_login() -> None:
    state, told = follow(
        "Starting Gateway",
        "Login attempt: 1",
        "Click button: I understand and accept",
        "Found Gateway main window",
        "Login has completed",
        "Configuration tasks completed",
    )
    assert state.state == login.DONE
    assert told == ["logging in", "logged in"]


def test_the_main_window_is_not_ready() -> None:
    state, _ = follow("Login attempt: 1", "Found Gateway main window")
    assert state.state == login.LOGGING_IN


def test_waiting_for_2fa_is_said_once() -> None:
    state, told = follow(
        "Login attempt: 1",
        "detected dialog entitled: Second Factor Authentication; event=Opened",
        "Second Factor Authentication initiated",
    )
    assert state.state == login.WAITING
    assert told[1:] == ["waiting for 2FA: approve on IBKR Mobile"]


def test_a_device_list_skips_the_second_line() -> None:
    state, _ = follow("detected dialog entitled: Second Factor Authentication; event=Opened")
    assert state.state == login.WAITING


def test_2fa_that_ran_out_is_tried_again_and_is_no_trouble() -> None:
    state, _ = follow(
        "Login attempt: 1",
        "detected dialog entitled: Second Factor Authentication; event=Opened",
        "detected dialog entitled: Second Factor Authentication; event=Closed",
        "Duration since login: 180 seconds",
        "Re-login after second factor authentication timeout in 5 second",
        "Login attempt: 2",
        "detected dialog entitled: Second Factor Authentication; event=Opened",
    )
    assert state.state == login.WAITING
    assert state.trouble is None


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (
            "detected dialog entitled: Unrecognized Username or Password; event=Opened",
            "bad-credentials",
        ),
        ("Too many failed login attempts. Please wait 900 seconds", "account-locked"),
        ("End this session and let the other session proceed (scenario 4)", "session-taken"),
    ],
)
def test_hopeless_at_once(line: str, code: str) -> None:
    state, _ = follow("Login attempt: 1", line)
    assert state.state == login.FAILED
    assert state.trouble is not None
    assert state.trouble.code == code
    assert state.trouble.stop


def test_one_failed_login_is_not_a_loop_two_are() -> None:
    state, _ = follow("Login attempt: 1", "Login failed", "IBC returned exit status 76")
    assert state.trouble is None
    state.feed(PREFIX + "Login failed")
    assert state.trouble is login.LOOP


def test_a_program_that_ends_again_and_again_is_a_loop() -> None:
    state, _ = follow(*["IBC returned exit status 1"] * 2)
    assert state.trouble is None
    state.feed("IBC returned exit status 1")
    assert state.trouble is login.LOOP


def test_a_missing_login_window_names_its_setting() -> None:
    line = "IBC closing after TWS/Gateway failed to display login dialog"
    state, _ = follow(line, line)
    assert state.trouble is not None
    assert "login_dialog_timeout" in state.trouble.hint


def test_the_nightly_restart_is_no_loop() -> None:
    lines = ["Login attempt: 1", "Login has completed"]
    night = [
        "Re-starting session",
        "IBC returned exit status 0",
        "autorestart file found at /home/x: authentication will not be required",
        "Login has completed",
    ]
    state, _ = follow(*lines, *night * 10)
    assert state.state == login.DONE
    assert state.trouble is None


def test_another_session_left_to_a_person_is_not_stopped() -> None:
    state, _ = follow("User must choose whether to continue with this session")
    assert state.trouble is not None
    assert not state.trouble.stop
