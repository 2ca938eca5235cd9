"""The logins of a container: each session's own, and what outranks what was written down."""

from __future__ import annotations

import time
from typing import Any

import pytest

from infrastructure.health.login import Logins, excerpt, moment, of_container
from infrastructure.runtime.base import Container

STAMP = "2026-11-21 03:14:39:375 IBC: "
STARTED = "2026-11-21T08:00:00.123456789Z"
AT = int(moment(STARTED))


def facts(*events: str, at: int = AT) -> str:
    return "".join(f"{at + 5 * number} {event}\n" for number, event in enumerate(events))


def gateway(**more: Any) -> Container:
    values = {"state": "running", "health": "starting", "since": STARTED, **more}
    return Container("gateway", "gateway-1", **values)


LOGGED_IN = facts("by ibc", "launch password", "attempt 1", "login")
WAITS = facts("by ibc", "launch password", "attempt 1", "push")
HELD = facts("by ibc", "launch password", "attempt 1", "refused", "held bad-credentials")


def test_both_sessions_have_each_their_own_login() -> None:
    texts = {"live": WAITS, "paper": LOGGED_IN}
    found = of_container(gateway(), texts, (), ("live", "paper"))
    assert [(one.session, one.state) for one in found] == [
        ("live", "waiting-2fa"),
        ("paper", "logged-in"),
    ]
    logins = Logins(("live", "paper"), AT)
    logins.read(texts)
    assert logins.worst(time.time()).state == "waiting-2fa", "not healthy while live waits"


def test_one_session_that_has_written_nothing_is_not_logged_in() -> None:
    logins = Logins(("live", "paper"), AT)
    logins.read({"paper": LOGGED_IN})
    assert logins.worst(time.time()).state == "unknown"


@pytest.mark.parametrize(
    ("container", "text", "state", "code"),
    [
        (None, "", "stopped", None),
        (None, LOGGED_IN, "stopped", None),
        (gateway(state="exited"), WAITS, "stopped", None),
        (gateway(state="exited"), HELD, "held", "bad-credentials"),
        (gateway(state="exited", exit_code=77), "", "held", "bad-credentials"),
        (gateway(state="exited", exit_code=78), "", "held", "configuration"),
        (gateway(), HELD, "held", "bad-credentials"),
        (gateway(), WAITS, "waiting-2fa", None),
        (gateway(health="healthy"), WAITS, "logged-in", None),
        (gateway(health="healthy"), "", "logged-in", None),
        (gateway(), "", "logging-in", None),
    ],
)
def test_the_login_of_a_container(
    container: Container | None, text: str, state: str, code: str | None
) -> None:
    texts = {"paper": text} if text else {}
    log = [STAMP + "Login attempt: 1"]
    (found,) = of_container(container, texts, log, ("paper",))
    assert (found.state, found.code) == (state, code)


def test_a_login_that_began_since_the_last_check_is_believed() -> None:
    """The gateway has restarted inside its container, which is still called healthy."""
    again = ("exit 0", "launch password", "attempt 1", "push")
    for ago, state in ((60, "waiting-2fa"), (120, "logged-in")):
        text = LOGGED_IN + facts(*again, at=int(time.time()) - ago)
        (found,) = of_container(gateway(health="healthy"), {"paper": text}, [], ("paper",))
        assert found.state == state, ago


def test_what_an_earlier_container_wrote_down_does_not_count() -> None:
    logins = Logins(("paper",), AT)
    logins.read({"paper": facts("launch password", "refused", "held bad-credentials", at=AT - 60)})
    assert not logins.written
    logins.read({"paper": HELD})
    assert logins.written


def test_a_soft_restart_is_logged_in_only_when_it_is_again() -> None:
    logins = Logins(("paper",), AT, kept=True)
    assert logins.worst(AT).state == "restarting"
    logins.feed("IBC returned exit status 0", AT)
    assert logins.worst(AT).trouble is None
    logins.read({"paper": facts("exit 0", "token", "launch token", "resumes")})
    assert logins.worst(AT).state == "restarting"
    logins.read({"paper": facts("exit 0", "token", "launch token", "resumes", "login")})
    assert logins.worst(AT).state == "logged-in"


def test_an_excerpt_shows_what_explains() -> None:
    noise = ["The XKEYBOARD keymap compiler (xkbcomp) reports: > Warning: x"] * 400
    log = [
        *noise,
        "gangway: JVM options are -Xmx256m",
        STAMP + "Login attempt: 1",
        STAMP + "detected dialog entitled: Unrecognized Username or Password; event=Opened",
        *noise,
        "gangway: the login is held: bad-credentials; nothing is tried until a person acts",
    ]
    assert excerpt("\n".join(log)).splitlines() == [log[400], log[401], log[402], log[-1]]
    assert excerpt("\n".join(f"x {n}" for n in range(50))).splitlines()[0] == "x 25"


@pytest.mark.parametrize("stamp", ["\u0661\u0662\u0663", "x12", "12x", "", "-5"])
def test_a_line_without_a_time_counts_for_nothing(stamp: str) -> None:
    logins = Logins(("paper",))
    logins.read({"paper": f"{stamp} held bad-credentials\n"})
    assert not logins.written


@pytest.mark.parametrize(("code", "state"), [(0, "stopped"), (79, "stopped"), (77, "held")])
def test_since_when_it_has_ended_is_when_the_container_did(code: int, state: str) -> None:
    (login,) = of_container(gateway(state="exited", exit_code=code), {}, (), ("paper",))
    assert (login.state, login.since) == (state, moment(STARTED))
    (gone,) = of_container(None, {}, (), ("paper",))
    assert gone.since is None


def test_a_time_of_any_length_is_compared() -> None:
    since = 10_000_000_005  # of the year 2286
    for at, counts in ((since - 1, False), (since, True)):
        logins = Logins(("paper",), float(since))
        logins.read({"paper": f"{at} held bad-credentials\n"})
        assert logins.written is counts
    logins = Logins(("paper",), 1.9)
    logins.read({"paper": f"1 launch\n{'9' * 5000} held bad-credentials\n"})
    assert logins.written, "in the same second, and however odd"


def test_a_moment_is_in_seconds_since_1970() -> None:
    assert moment("1970-01-01T00:01:05.9Z") == 65.0
    assert [moment(text) for text in ("", "yesterday", "2026-13-01T00:00:00Z")] == [0.0, 0.0, 0.0]
