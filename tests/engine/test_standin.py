"""The stand-in for the gateway's image keeps the contract of docs/gateway-image.md."""

import json
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.engine.parts.engine import GATEWAY_IMAGE, docker

BASE = {
    "TRADING_MODE": "paper",
    "TWS_USERID": "demo",
    "TWS_PASSWORD": "x",
    "TWOFA_TIMEOUT_ACTION": "restart",
}
KILLED = 128 + 9
Run = Callable[..., str]


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts a container; `before` is a script that runs in it before the image's own."""
    made: list[str] = []

    def start(*more: str, before: str = "", **variables: str | None) -> str:
        made.append(f"standin-{uuid.uuid4().hex[:8]}")
        values = {key: value for key, value in (BASE | variables).items() if value is not None}
        options = [part for pair in values.items() for part in ("-e", "=".join(pair))]
        script = ("bash", "-c", f"{before}; exec scripts/run.sh") if before else ()
        docker("run", "-d", "--init", "--name", made[-1], *options, *more, GATEWAY_IMAGE, *script)
        return made[-1]

    yield start
    if made:
        docker("rm", "-f", "-v", *made)


def ended(name: str) -> int:
    """The exit code, once it has ended by itself."""
    return int(docker("wait", name, timeout=60))


def until(name: str, words: str) -> str:
    deadline = time.monotonic() + 60
    while words not in (log := docker("logs", name)):
        assert time.monotonic() < deadline, log
        time.sleep(0.2)
    return log


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"TRADING_MODE": "demo"}, 1),
        ({"TRADING_MODE": None}, 1),
        ({"TWOFA_TIMEOUT_ACTION": "maybe"}, 3),
        ({"TWS_PASSWORD_FILE": "/etc/hostname"}, 1),
        ({"CUSTOM_CONFIG": "yes", "TWS_SETTINGS_PATH": "/home/ibgateway/none"}, 5),
        ({"TWS_COLD_RESTART": "late"}, 81),
    ],
)
def test_bad_variables_end_it(run: Run, variables: dict[str, str | None], code: int) -> None:
    assert ended(run(**variables)) == code


def test_a_wrong_flag_stops_java_silently(run: Run) -> None:
    file = "$TWS_PATH/ibgateway/$IB_GATEWAY_VERSION/ibgateway.vmoptions"
    name = run(before=f"echo '-Xmx512mm' >>{file}")
    assert ended(name) != 0
    log = docker("logs", name)
    assert "IBC returned exit status 1" in log
    assert "Invalid maximum heap size" not in log


def test_relay_and_api_port(run: Run) -> None:
    name = run(TWS_USERID="slow-10")
    until(name, "Login attempt: 1")
    relay = ["exec", name, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4004 && echo open"]
    assert docker(*relay).strip() == "open", "the relay accepts before the login"
    direct = ["exec", name, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4002 && echo open"]
    assert docker(*direct, check=False).strip() == ""
    until(name, "Login has completed")
    assert docker(*direct).strip() == "open"


def test_tools_that_are_there_and_not(run: Run) -> None:
    name = run()
    tools = "socat telnet x11vnc Xvfb openssl ps sudo nc ss curl python3 xdotool"
    script = f"for tool in {tools}; do command -v $tool; done; true"
    found = {path.rsplit("/", 1)[-1] for path in docker("exec", name, "bash", "-c", script).split()}
    assert found == {"socat", "telnet", "x11vnc", "Xvfb", "openssl", "ps", "sudo"}
    assert docker("exec", name, "id", "-u").strip() == "1000"


def test_jts_ini_is_written_once_and_then_freezes_the_zone(run: Run) -> None:
    volume = f"standin-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", volume)
    mount = ("-v", f"{volume}:/home/ibgateway/kept", "--user", "0")
    docker(
        "run",
        "--rm",
        *mount,
        "--entrypoint",
        "chown",
        GATEWAY_IMAGE,
        "1000:1000",
        "/home/ibgateway/kept",
    )
    try:
        for zone in ("Europe/Zurich", "America/New_York"):
            name = run(
                "-v",
                f"{volume}:/home/ibgateway/kept",
                TIME_ZONE=zone,
                TWS_SETTINGS_PATH="/home/ibgateway/kept/tws",
            )
            until(name, "Login has completed")
            ini = docker("exec", name, "cat", "/home/ibgateway/kept/tws/jts.ini")
            assert "TimeZone=Europe/Zurich" in ini
            assert "TrustedIPs=127.0.0.1" in ini
            docker("rm", "-f", name)
    finally:
        docker("volume", "rm", "-f", volume)


def test_passwords_are_read_as_java_properties(run: Run) -> None:
    name = run(TWS_PASSWORD="wr\\ong")
    until(name, "Unrecognized Username or Password")


def test_a_soft_restart_needs_no_second_factor(run: Run) -> None:
    edit = "sed -i s/CommandServerPort=0/CommandServerPort=7462/ $IBC_INI_TMPL"
    name = run(TWS_USERID="twofa-2", JAVA_HEAP_SIZE="200", before=edit)
    until(name, "Login has completed")
    assert "-Xmx200m" in docker("top", name, "-eo", "pid,args")
    command = "exec 3<>/dev/tcp/127.0.0.1/7462; echo RESTART >&3; head -n 1 <&3"
    assert docker("exec", name, "bash", "-c", command).startswith("OK")
    until(name, "autorestart file found at")
    deadline = time.monotonic() + 60
    while (log := docker("logs", name)).count("Login has completed") < 2:
        assert time.monotonic() < deadline, log
        time.sleep(0.2)
    assert log.count("Second Factor Authentication initiated") == 1
    assert json.loads(docker("inspect", name))[0]["RestartCount"] == 0


def test_hooks_run_before_anything_is_rendered(run: Run) -> None:
    name = run(START_SCRIPTS="hooks")
    log = until(name, "Login has completed")
    assert "No start scripts defined on /home/ibgateway/hooks" in log
    assert json.loads(docker("inspect", name))[0]["RestartCount"] == 0


def test_both_sessions_play_their_own_scenario(run: Run) -> None:
    name = run(
        TRADING_MODE="both", TWS_USERID="twofa", TWS_USERID_PAPER="demo", TWS_PASSWORD_PAPER="x"
    )
    until(name, "Second Factor Authentication initiated")
    until(name, "Login has completed")
    records = "cat /tmp/standin/live/record; echo; cat /tmp/standin/paper/record"
    live, paper = docker("exec", name, "bash", "-c", records).split("\n\n")
    assert "push sent" in live
    assert "login complete" not in live
    assert "login complete" in paper


def test_the_other_controller_drives_it_too(run: Run) -> None:
    name = run(
        GANGWAY_STANDIN_CONTROLLER="ibcontroller",
        READ_ONLY_API="no",
        TWS_ACCEPT_INCOMING="accept",
        EXISTING_SESSION_DETECTED_ACTION="primary",
    )
    deadline = time.monotonic() + 60
    record = ("exec", name, "cat", "/tmp/standin/paper/record")
    while "login complete" not in docker(*record, check=False):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    direct = ["exec", name, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4002 && echo open"]
    assert docker(*direct).strip() == "open"
    # Its last words depend on what reaches it first: the image ends the display before it.
    docker("stop", "--time", "45", name)
    assert "Received SIGINT or SIGTERM" in docker("logs", name)
    assert json.loads(docker("inspect", name))[0]["State"]["ExitCode"] != KILLED
