"""`up` over SSH to a healthy stack, and what it leaves on the host."""

import json
import ssl
import stat
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.parts.engine import docker
from tests.engine.parts.stack import Stack, checkout

SECRET = "correct"


def test_first_up_ends_healthy(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("first")
    done = stack.up("--json")
    assert done.document["healthy"] is True
    assert done.document["changed"] is True
    assert {one["action"] for one in done.document["changes"]} == {"create"}
    for words in ("JVM up", "logging in", "logged in", "API answers", "bridge connected", "serves"):
        assert words in done.err
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"https://127.0.0.1:{stack.settings['caddy']['https_port']}/ping"
    with urllib.request.urlopen(url, context=context, timeout=5) as answer:
        assert json.load(answer)["status"] == "ok"


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    before, entries = stack.started(), len(stack.ledger())
    done = stack.up("--json")
    assert done.document["changed"] is False
    assert done.document["healthy"] is True
    assert stack.started() == before
    assert len(stack.ledger()) == entries
    assert "nothing changed" in stack.up().err


def test_a_changed_setting_restarts_only_the_gateway(stack: Stack) -> None:
    before = stack.started()
    stack.settings["gateway"]["jvm"] = {"heap": 300}
    plan = stack.deploy("plan", "--check", "--json")
    assert plan.code == 3
    assert {one["service"]: one["action"] for one in plan.document["changes"]} == {
        "gateway": "update",
        "bridge": "unchanged",
        "caddy": "unchanged",
    }
    assert plan.document["twoFactorExpected"] is True
    stack.up()
    after = stack.started()
    assert after["gateway"] != before["gateway"]
    assert (after["bridge"], after["caddy"]) == (before["bridge"], before["caddy"])
    gateway = stack.container("gateway")["Id"]
    assert "-Xmx300m" in docker("top", gateway, "-eo", "pid,args")
    assert stack.deploy("plan", "--check").code == 0


def test_a_stopped_service_is_started_again(stack: Stack) -> None:
    docker("stop", stack.container("caddy")["Id"])
    plan = stack.deploy("plan", "--json").document
    assert {"service": "caddy", "action": "restart"}.items() <= plan["changes"][2].items()
    before = stack.started()
    stack.up()
    after = stack.started()
    assert after["gateway"] == before["gateway"]
    assert after["caddy"][0] == before["caddy"][0]
    assert stack.container("caddy")["State"]["Running"]


def test_only_touches_one_service(stack: Stack) -> None:
    stack.settings["bridge"]["log_level"] = "debug"
    stack.settings["caddy"]["max_body"] = "2MB"
    before = stack.started()
    done = stack.up("--only", "caddy", "--json")
    after = stack.started()
    assert after["caddy"] != before["caddy"]
    assert (after["gateway"], after["bridge"]) == (before["gateway"], before["bridge"])
    assert done.document["healthy"] is True
    actions = {one["service"]: one["action"] for one in done.document["changes"]}
    assert actions == {"gateway": "unchanged", "bridge": "unchanged", "caddy": "update"}
    assert done.document["twoFactorExpected"] is False
    left = stack.deploy("plan", "--check", "--json")
    assert left.code == 3
    [pending] = [one for one in left.document["changes"] if one["action"] != "unchanged"]
    assert (pending["service"], pending["action"]) == ("bridge", "update")
    assert "left it alone" in pending["cause"]
    again = stack.up("--only", "caddy", "--json")
    assert (again.document["changed"], again.document["healthy"]) == (False, True)
    assert stack.started() == after
    assert stack.deploy("up", "--only", "nobody").code == 2


def test_only_waits_for_nobody_else_and_restores_alone(
    make_stack: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack = make_stack("only")
    first = stack.up("--only", "bridge", "--json")
    assert first.document["healthy"] is True, "it runs, although there is no gateway yet"
    assert len(docker("ps", "-q", "--filter", f"name={stack.project}").split()) == 1
    assert stack.up("--json").document["healthy"] is True
    assert stack.deploy("plan", "--check").code == 0

    before, release = stack.started(), stack.release()
    docker("stop", stack.container("gateway")["Id"])
    stopped = stack.container("gateway")["State"]["FinishedAt"]
    stack.settings["caddy"]["max_body"] = "3MB"
    assert stack.up("--only", "caddy", "--json").document["healthy"] is True
    assert stack.container("gateway")["State"]["FinishedAt"] == stopped
    assert stack.started()["bridge"] == before["bridge"]

    after, release = stack.started(), stack.release()
    stack.product = checkout(tmp_path / "product")
    (stack.product / "bridge" / "clock.py").write_text("raise SystemExit(7)\n")
    failed = stack.deploy("up", "--only", "bridge", "--yes", "--json")
    assert (failed.code, failed.document["restored"]) == (1, True), failed.err
    assert stack.release() == release
    assert stack.container("gateway")["State"]["FinishedAt"] == stopped
    assert stack.container("bridge")["Id"] == after["bridge"][0]
    assert stack.started()["caddy"] == after["caddy"]


def test_secrets_are_files_that_only_their_reader_opens(stack: Stack) -> None:
    current = stack.base / "current"
    assert stat.S_IMODE(current.resolve().stat().st_mode) == 0o700
    assert stat.S_IMODE(stack.base.stat().st_mode) == 0o700
    for path in (current / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        assert path.stat().st_uid == 1000


def test_secrets_are_nowhere_else(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("secret")
    stack.password("Tr0ub4dor-and-3")
    done = stack.up("--json", "-v")
    key = (stack.base / "current/secrets/bridge-admin-key").read_text().strip()
    inspected = json.dumps([stack.container(name) for name in ("gateway", "bridge", "caddy")])
    listed = "".join(
        docker("top", stack.container(name)["Id"], "-eo", "pid,args")
        for name in ("gateway", "bridge")
    )
    logs = "".join(stack.log(name) for name in ("gateway", "bridge", "caddy"))
    ledger = (stack.base / "ledger.jsonl").read_text()
    shown = (stack.base / "current/compose.yaml").read_text()
    for secret in ("Tr0ub4dor-and-3", key):
        for place in (done.out, done.err, inspected, listed, logs, ledger, shown):
            assert secret not in place
        assert secret not in stack.server.logged()


def test_every_port_but_caddys_is_on_loopback(stack: Stack) -> None:
    for service in ("gateway", "bridge"):
        ports = stack.container(service)["NetworkSettings"]["Ports"] or {}
        published = [one for found in ports.values() for one in found or []]
        assert all(one["HostIp"] == "127.0.0.1" for one in published)
    assert not any((stack.container("gateway")["NetworkSettings"]["Ports"] or {}).values())


def test_containers_are_confined(stack: Stack) -> None:
    # Caddy's files are the cap on connections that fits its memory.
    for service, files in (("gateway", 10_000), ("bridge", 10_000), ("caddy", 512)):
        host = stack.container(service)["HostConfig"]
        assert host["Memory"] > 0
        assert host["MemorySwap"] >= host["Memory"]
        assert host["CapDrop"] == ["ALL"]
        assert {"Name": "nofile", "Soft": files, "Hard": files} in host["Ulimits"]
        assert host["PidsLimit"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_status_and_history(stack: Stack) -> None:
    status = stack.deploy("status", "--json").document
    assert status["healthy"] is True
    assert status["login"]["state"] == "logged-in"
    assert status["release"] == stack.release()
    assert {one["name"]: one["state"] for one in status["services"]} == dict.fromkeys(
        ("gateway", "bridge", "caddy"), "running"
    )
    history = stack.deploy("history", "--json").document
    assert history["current"] == stack.release()
    assert history["deploys"][0]["result"] == "healthy"
    assert stack.release() in stack.deploy("history").out


def test_down_keeps_data_and_history(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("down")
    stack.up()
    (stack.base / "data/bridge/kept").write_text("1")
    assert stack.deploy("down", "--yes").code == 0
    assert not docker("ps", "-aq", "--filter", f"name={stack.project}")
    assert stack.deploy("status", "--json").document["healthy"] is False
    stack.up()
    assert (stack.base / "data/bridge/kept").exists()
    assert [entry["command"] for entry in stack.ledger()] == ["up", "down", "up"]


@pytest.mark.parametrize("command", ["plan", "status", "history"])
def test_looking_leaves_nothing_behind(make_stack: Callable[[str], Stack], command: str) -> None:
    stack = make_stack("look")
    assert stack.deploy(command).code == 0
    assert not Path(stack.settings["folder"]).exists()
