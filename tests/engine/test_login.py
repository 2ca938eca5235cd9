"""The gateway's login: a person is waited for, and a hopeless login is stopped at once."""

import time
from collections.abc import Callable

import pytest

from tests.engine.parts.engine import docker
from tests.engine.parts.stack import Stack


def test_2fa_is_waited_for_and_nothing_is_torn_down(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("twofa")
    stack.settings["gateway"] |= {"username": "twofa", "two_factor": {"wait": 10}}
    done = stack.up("--json", code=4)
    assert "waiting for 2FA: approve on IBKR Mobile" in done.err
    assert "nothing was torn down" in done.err
    assert stack.deploy("status", "--json").document["login"]["state"] == "waiting-2fa"
    before = stack.started()
    assert stack.ledger()[-1]["result"] == "waiting-2fa"
    again = stack.up(code=4)
    assert "waiting for 2FA" in again.err
    assert stack.started() == before
    docker("exec", before["gateway"][0], "touch", "/tmp/approved")
    done = stack.up("--json")
    assert done.document["healthy"] is True
    assert stack.started() == before
    assert stack.log("gateway").count("Login attempt") == 1


def test_2fa_that_is_approved_in_time(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("approve")
    stack.settings["gateway"] |= {"username": "twofa-4", "two_factor": {"wait": 60}}
    done = stack.up()
    assert "waiting for 2FA" in done.err
    assert "logged in" in done.err


def test_bad_credentials_stop_the_gateway_after_one_attempt(stack: Stack) -> None:
    before = stack.started()
    stack.password("wrong")
    done = stack.up("--json", code=1)
    assert done.document["error"] == "bad-credentials"
    assert "IBKR does not accept the user name or password" in done.err
    gateway = stack.container("gateway")
    assert not gateway["State"]["Running"], "no gateway makes another attempt"
    assert gateway["Id"] == before["gateway"][0]
    assert stack.started()["bridge"] == before["bridge"]
    stack.password("correct")
    assert stack.up("--json").document["healthy"] is True


@pytest.mark.parametrize(
    ("user", "code", "attempts"),
    [("locked", "account-locked", 1)],
)
def test_hopeless_logins_are_stopped(
    make_stack: Callable[[str], Stack], user: str, code: str, attempts: int
) -> None:
    stack = make_stack(user)
    stack.settings["gateway"]["username"] = user
    done = stack.up("--json", code=1)
    assert done.document["error"] == code
    gateway = stack.container("gateway")
    assert gateway["State"]["Running"], "held by its own container"
    assert "java" not in docker("top", gateway["Id"], "-eo", "pid,comm")
    assert stack.deploy("status", "--json").document["login"]["code"] == code
    assert gateway["RestartCount"] == 0
    assert 1 <= stack.log("gateway").count("Login attempt") <= attempts + 1


def test_a_login_that_the_broker_refuses_for_now_is_spaced_out(
    make_stack: Callable[[str], Stack],
) -> None:
    stack = make_stack("failed")
    stack.settings["gateway"]["username"] = "failed"
    done = stack.up("--json", "--wait", "45", code=1)
    assert done.document["error"] == "gateway-unhealthy"
    assert "IBKR refuses logins without a reason" in done.err
    gateway = stack.container("gateway")
    assert gateway["State"]["Running"]
    assert gateway["RestartCount"] == 0
    assert stack.log("gateway").count("Login attempt") == 1
    login = stack.deploy("status", "--json").document["login"]
    assert (login["state"], login["why"]) == ("waiting-broker", "maintenance")
    assert login["retryAt"]


def test_a_session_elsewhere_is_taken_over(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("taken")
    stack.settings["gateway"]["username"] = "taken"
    stack.up()
    assert "scenario 3" in stack.log("gateway")


def test_a_login_that_fails_weeks_later_is_not_tried_again(
    make_stack: Callable[[str], Stack],
) -> None:
    stack = make_stack("later")
    stack.up()
    before = stack.started()["gateway"]
    play = "printf 'tokenrefused\\nrefused\\n' >/tmp/standin/paper/script"
    docker("exec", before[0], "bash", "-c", play)
    aged = "cd state; awk '{ $1 -= 86400; print }' login-paper >/tmp/a; cat /tmp/a >login-paper"
    docker("exec", before[0], "bash", "-c", aged)
    restart = "exec 3<>/dev/tcp/127.0.0.1/14004; echo RESTART >&3; read -t 5 answer <&3"
    docker("exec", before[0], "bash", "-c", restart)
    word = stack.base / "data/state/login-paper"
    deadline = time.monotonic() + 120  # a refused token means one full login, spaced out
    while time.monotonic() < deadline and (
        "held bad-credentials" not in word.read_text()
        or "java" in docker("top", before[0], "-eo", "pid,comm")
    ):
        time.sleep(0.2)
    time.sleep(2)
    assert stack.deploy("status", "--json").document["login"]["code"] == "bad-credentials"
    assert "java" not in docker("top", before[0], "-eo", "pid,comm")
    assert stack.started()["gateway"] == before, "the engine did not start it again"
    assert stack.log("gateway").count("Login attempt") == 2
    docker("exec", before[0], "rm", "/tmp/standin/paper/script")
    began = time.monotonic()
    assert stack.deploy("restart", "gateway", "--cold", "--yes").code == 0
    assert time.monotonic() - began < 60
    assert stack.deploy("status", "--json").document["login"]["state"] == "logged-in"


def test_a_code_is_typed_and_the_window_shown_without_vnc(
    make_stack: Callable[[str], Stack],
) -> None:
    stack = make_stack("code")
    stack.settings["gateway"] |= {"username": "code-123456", "two_factor": {"wait": 10}}
    done = stack.up("--json", code=4)
    assert "a code has to be typed (./deploy.py login)" in done.err
    asked = stack.deploy("--json", "login")
    assert asked.code == 4
    assert asked.document["login"]["kind"] == "code"
    assert "type the code" in asked.document["hint"]
    picture = stack.folder / "window.png"
    assert stack.deploy("login", "--screenshot", str(picture)).code == 4
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_mode & 0o777 == 0o600
    assert stack.deploy("login", "--code", "123456").code == 2
    typed = stack.fed("123 456\n", "--json", "login", "--code", "-")
    assert typed.code == 0, typed.err
    assert typed.document["login"]["state"] == "logged-in"
    gateway = stack.container("gateway")["Id"]
    assert "x11vnc" not in docker("top", gateway, "-eo", "pid,comm")
    assert "123456" not in docker("logs", gateway).replace("code-123456", "")
    assert "no code is asked for" in stack.fed("123456\n", "login", "--code", "-").err


SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def test_codes_of_a_seed_need_no_person_and_the_seed_is_nowhere(
    make_stack: Callable[[str], Stack],
) -> None:
    stack = make_stack("totp")
    stack.settings["gateway"] |= {
        "username": f"totp-{SEED}",
        "two_factor": {"totp": {"i_accept_one_factor": True}, "wait": 90},
    }
    stored = stack.fed("jbsw y3dp ehpk 3pxp jbsw y3dp ehpk 3pxp\n", "secrets", "set", "totp-seed")
    assert stored.code == 0, stored.err
    done = stack.up("--json")
    assert done.document["healthy"] is True
    assert "gangway types the code" in done.err

    def hidden(text: str) -> bool:
        return SEED not in text.replace(f"totp-{SEED}", "")  # the user's name is the script

    holding = [
        path.relative_to(stack.base)
        for path in stack.base.rglob("*")
        if path.is_file() and not path.is_symlink() and not hidden(path.read_text(errors="replace"))
    ]
    assert {path.name for path in holding} == {"totp-seed"}
    for service in ("gateway", "bridge", "caddy"):
        identity = stack.container(service)["Id"]
        assert hidden(docker("inspect", identity))
        assert hidden(docker("logs", identity))
    assert "totp-seed" not in docker("inspect", stack.container("bridge")["Id"])


def test_a_new_container_goes_on_with_the_session(make_stack: Callable[[str], Stack]) -> None:
    """A changed setting, then a rollback: the second factor is asked for once, at the beginning."""
    stack = make_stack("kept")
    stack.settings["gateway"] |= {"mode": "live", "username": "twofa-3"}
    stack.settings["gateway"]["two_factor"] = {"wait": 60}
    assert "2FA: approval expected" in stack.up().err
    first = stack.container("gateway")["Id"]
    stack.settings["gateway"]["two_factor"] = {"wait": 61, "exit_interval": 61}
    plan = stack.deploy("plan")
    assert "2FA: no approval expected (token)" in plan.out
    done = stack.up("--json")
    assert done.document["twoFactorExpected"] is False
    assert "the gateway ends and keeps its session" in done.err
    assert "waiting for 2FA" not in done.err
    second = stack.container("gateway")["Id"]
    assert second != first
    seen = docker("exec", second, "cat", "/tmp/standin/live/record")
    assert "token accepted" in seen
    assert "typed" not in seen
    back = stack.deploy("rollback")
    assert back.code == 0, back.err
    assert "no approval expected (token)" in back.err
    third = stack.container("gateway")["Id"]
    assert "typed" not in docker("exec", third, "cat", "/tmp/standin/live/record")
    stopped = stack.deploy("down", "--yes")
    assert "the gateway ends and logs off" in stopped.err, stopped.err
