"""`logs gateway --explain`: saved logs of every kind, told apart and explained; nothing leaks."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from infrastructure.diagnose.timeline import Timeline, explain, lines_for_people, of_sessions
from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

LOGS = PROJECT / "tests" / "deploy" / "login_logs"
SECRETS = ("U1234567", "203.0.113.9", "dabcdef0123", "mistral")
IBC = (LOGS / "ibc.log").read_text()
IBCONTROLLER = (LOGS / "ibcontroller.log").read_text()
LAUNCHER = (LOGS / "launcher.log").read_text()


def states(found: dict[str, Any]) -> list[str]:
    return [one["state"] for one in found["events"]]


def test_ibc() -> None:
    found = explain(IBC.splitlines()).shown()
    assert found["source"] == "ibc"
    assert states(found) == [
        *("starting", "logging-in", "waiting-broker"),
        *("starting", "logging-in", "waiting-2fa", "logging-in", "logged-in"),
        *("restarting", "restarting"),  # as planned; then its saved session is refused
        *("starting", "logging-in", "held"),
    ]
    assert found["events"][9]["detail"] == "IBKR no longer takes the saved session"
    assert found["state"] == "held"
    assert found["trouble"]["code"] == "bad-credentials"
    assert found["trouble"]["held"] is True
    assert found["attempts"] == 3
    assert found["events"][0]["at"] == "2026-11-24T10:14:30"
    assert set(found) == {"source", "events", "state", "trouble", "attempts"}
    assert all(set(one) == {"at", "state", "detail"} for one in found["events"])


def test_ibcontroller() -> None:
    found = explain(IBCONTROLLER.splitlines()).shown()
    assert found["source"] == "ibcontroller"
    assert states(found) == [
        *("logging-in", "waiting-broker", "logging-in"),
        *("waiting-2fa", "logged-in"),
    ]
    assert found["trouble"] is None
    assert found["attempts"] == 2


def test_launcher_log() -> None:
    found = explain(LAUNCHER.splitlines()).shown()
    assert found["source"] == "launcher.log"
    assert states(found) == ["starting", "logging-in", "waiting-2fa"]
    assert found["state"] == "waiting-2fa"
    assert found["attempts"] == 1


@pytest.mark.parametrize("log", [IBC, IBCONTROLLER, LAUNCHER])
def test_nothing_of_the_file_is_shown_but_what_has_a_name(log: str) -> None:
    found = explain(log.splitlines()).shown()
    text = json.dumps(found) + "\n".join(lines_for_people(found))
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize(
    "wrap",
    [
        "2026-11-24T15:14:39.123456789Z {}",
        "2026-11-24T15:14:39 {}",
        "2026-11-24T15:14:39 gateway  {}",
        "gateway-1  | 2026-11-24T15:14:39.1Z {}",
        '{{"service": "gateway", "time": "2026-11-24T15:14:39.1Z", "line": "{}"}}',
    ],
)
def test_the_engines_own_times_come_first(wrap: str) -> None:
    line = "2026-11-24 10:14:39:375 IBC: Login attempt: 1"
    found = explain([wrap.format(line)]).shown()
    assert found["events"][-1]["at"] == "2026-11-24T15:14:39Z"
    assert found["state"] == "logging-in"


@pytest.mark.parametrize(
    "line",
    [
        "2026-13-45T99:99:99Z gateway IBC: Login attempt: 1",
        "0000-00-00 00:00:00.000 INFO  [x] - Received CHALLENGE",
        "9999-12-31 23:59:59.999 INFO  [x] - Received CHALLENGE",
        "0001-01-01 00:00:00.000 INFO  [x] - Received CHALLENGE",
        "٢٠٢٦-٠١-٠١T٠٠:٠٠:٠٠ IBC: Login failed",
        " IBC: Starting IBC version 3 on 2026-99-99 at 99:99:99",
        '{"service": "gateway", "time": "yesterday", "line": "x"}',
        '{"service": 1, "time": null, "line": 3}',
    ],
)
def test_a_damaged_time_is_no_time(line: str) -> None:
    found = explain(["2026-11-24 10:14:39:375 IBC: Login attempt: 1", line], "Asia/Tokyo").shown()
    assert found["attempts"] >= 1
    json.dumps(found)
    list(lines_for_people(found))


RECORDED = PROJECT / "tests" / "login" / "logs"


@pytest.mark.parametrize("name", ["ibc", "ibcontroller", "launcher"])
def test_a_cut_log_does_not_blame_the_password_for_a_refused_token(name: str) -> None:
    lines = (RECORDED / f"token-refused.{name}.log").read_text().splitlines()
    for start in range(len(lines)):
        trouble = explain(lines[start:]).shown()["trouble"] or {"code": ""}
        assert trouble["code"] in {"", "token-refused", "refused-unclear"}, (start, trouble)


@pytest.mark.parametrize("name", ["ibc", "ibcontroller", "launcher"])
def test_a_cut_log_of_a_refused_password_is_right_from_the_attempt_on(name: str) -> None:
    lines = (RECORDED / f"wrong-password.{name}.log").read_text().splitlines()
    codes = [(explain(lines[at:]).shown()["trouble"] or {}).get("code") for at in range(len(lines))]
    assert set(codes) <= {"bad-credentials", "refused-unclear", None}
    assert codes[0] == "bad-credentials"


def test_a_saved_log_needs_no_stack_and_no_host(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text(IBC)
    done = run(tmp_path, "--json", "logs", "gateway", "--explain", "--file", "x.log")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "held"
    done = run(tmp_path, "logs", "--explain", "--file", "x.log")
    assert "what to do: correct gateway.username or the password" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["logs", "--file", "x"], "--file goes with --explain"),
        (["logs", "--explain", "-f"], "--explain shows what there is"),
        (["logs", "--explain", "-n", "5"], "--explain takes all lines"),
        (["logs", "--explain", "--file", "x", "--since", "1h"], "--since is for what runs"),
        (["logs", "bridge", "--explain"], "--explain is for the gateway"),
        (["logs", "--explain", "--file", "none"], "cannot be read"),
        (["logs", "--explain", "--file", "other.txt"], "is no log of a gateway's login"),
    ],
)
def test_what_cannot_be_explained(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "other.txt").write_text("127.0.0.1 localhost\n")
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint: " in done.stderr or "cannot be read" in said


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "deploy.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_two_sessions_of_one_container_have_one_timeline() -> None:
    facts = {
        "live": "100 by ibc\n101 launch password\n103 attempt 1\n110 push\n",
        "paper": "100 by ibc\n102 launch password\n104 attempt 1\n120 login\nnonsense\n",
    }
    found = of_sessions(facts, 130)
    assert [(one["at"], one["detail"]) for one in found["events"]] == [
        ("1970-01-01T00:01:41Z", "live: starting"),
        ("1970-01-01T00:01:42Z", "paper: starting"),
        ("1970-01-01T00:01:43Z", "live: logging in"),
        ("1970-01-01T00:01:44Z", "paper: logging in"),
        ("1970-01-01T00:01:50Z", "live: waiting for 2FA: approve on IBKR Mobile"),
        ("1970-01-01T00:02:00Z", "paper: logged in"),
    ]
    assert (found["state"], found["attempts"], found["source"]) == ("waiting-2fa", 2, "ibc")


def test_a_log_without_a_login_says_so() -> None:
    found = explain(["listening on port 4002"]).shown(0.0)
    assert list(lines_for_people(found)) == [
        "now: unknown, after 0 login attempts (no login controller has said anything)"
    ]


@pytest.mark.parametrize(("totp", "code"), [(True, None), (False, "second-factor-code")])
def test_a_code_that_gangway_types_is_asked_of_nobody(*, totp: bool, code: str | None) -> None:
    timeline = Timeline(totp=totp)
    for said in (
        "Login attempt: 1",
        "detected dialog entitled: Second Factor Authentication; event=Opened",
        "Selected second factor device: Mobile Authenticator app",
    ):
        timeline.add(f"2026-11-24 10:14:39:375 IBC: {said}")
    asked = datetime(2026, 11, 24, 15, 14, 39, tzinfo=UTC).timestamp()
    found = timeline.shown(asked + 20)
    assert found["state"] == "waiting-2fa"
    assert (found["trouble"] or {"code": None})["code"] == code
    assert timeline.shown(asked + 600)["trouble"]["code"] == "second-factor-code"
