"""An operator's commands on a stack that runs, over a real SSH server and a real engine."""

import asyncio
import json
import shutil
import signal
import socket
import tarfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import asyncvnc
import pytest

from infrastructure.apply.host.store import KEEP_RELEASES
from infrastructure.release_files import HOOKS_FOLDER
from infrastructure.runtime.containers import mounted_releases
from tests.engine.parts.engine import docker
from tests.engine.parts.relay import Relay
from tests.engine.parts.stack import Stack, checkout
from tests.engine.parts.watch import Watch

EXPIRES = "gangway_certificate_expires_timestamp_seconds"
SERVED_AGAIN = 9.0
"""Seconds; the bar is 3 on a quiet machine (`python -m bench deploy`), and tests share theirs."""


@pytest.fixture
def edited(stack: Stack, tmp_path: Path) -> Path:
    """The stack's product with one changed source of the bridge."""
    stack.product = checkout(tmp_path / "product")
    source = stack.product / "bridge" / "clock.py"
    source.write_text(source.read_text() + "# changed\n")
    return source


def test_sync_replaces_only_the_bridge(stack: Stack, edited: Path) -> None:
    before, release = stack.started(), stack.release()
    with (
        Relay(stack.server.port, delay=0.025) as relay,
        Watch(stack.settings["bridge"]["port"]) as watch,
    ):
        known = stack.known_hosts.read_text()
        stack.known_hosts.write_text(stack.server.known_hosts_line(relay.port))
        stack.settings["host"]["port"] = relay.port
        try:
            done = stack.deploy("sync", "bridge", "--json")
        finally:
            stack.known_hosts.write_text(known)
            stack.settings["host"]["port"] = stack.server.port
    assert done.code == 0, done.err
    assert done.document["healthy"] is True
    after = stack.started()
    assert after["bridge"] != before["bridge"]
    assert (after["gateway"], after["caddy"]) == (before["gateway"], before["caddy"])
    assert relay.connections == 1
    assert relay.turns <= 16
    assert watch.answers > 20
    assert watch.longest < SERVED_AGAIN
    assert stack.release() != release
    current = (stack.base / "current").resolve()
    assert (current / "image/bridge/clock.py").read_text().endswith("# changed\n")
    for path in (current / "secrets").iterdir():
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o400, 1000)
    assert stack.ledger()[-1]["command"] == "sync"
    again = stack.deploy("sync", "bridge", "--json")
    assert again.document["changed"] is False
    assert stack.started() == after

    back = stack.deploy("rollback", "--yes", "--json")
    assert back.code == 0, back.err
    assert back.document["release"] == release
    assert back.document["twoFactorExpected"] is False
    assert stack.release() == release
    assert stack.started()["gateway"] == before["gateway"]
    assert not (stack.base / "current/image/bridge/clock.py").read_text().endswith("# changed\n")


def test_the_gateway_keeps_its_files_through_many_syncs(stack: Stack, edited: Path) -> None:
    gateway = stack.container("gateway")
    [mounted] = mounted_releases([gateway["State"]["Pid"]]) or set()
    for number in range(KEEP_RELEASES):
        shutil.copytree(stack.base / "releases" / mounted, stack.base / f"releases/later{number}")
    for number in range(2):
        edited.write_text(f"{edited.read_text()}# again {number}\n")
        done = stack.deploy("sync", "bridge")
        assert done.code == 0, done.err
    assert stack.container("gateway")["State"]["StartedAt"] == gateway["State"]["StartedAt"]
    left = {path.name for path in (stack.base / "releases").iterdir()}
    assert mounted in left
    assert len(left) < KEEP_RELEASES + 3, "others went"
    docker("exec", gateway["Id"], "test", "-s", f"{HOOKS_FOLDER}/healthcheck.sh")
    [mine] = mounted_releases([stack.container("bridge")["State"]["Pid"]]) or set()
    assert mine == stack.release()


def test_rebuild_builds_every_layer_and_replaces_only_the_bridge(stack: Stack) -> None:
    before, release = stack.started(), stack.release()
    logins = stack.log("gateway").count("Login has completed")
    image = stack.container("bridge")["Image"]
    layers = _layers(image)
    known = stack.known_hosts.read_text()
    with (
        Relay(stack.server.port, delay=0.025) as relay,
        Watch(stack.settings["bridge"]["port"]) as watch,
    ):
        stack.known_hosts.write_text(stack.server.known_hosts_line(relay.port))
        stack.settings["host"]["port"] = relay.port
        try:
            done = stack.deploy("rebuild", "bridge", "--json")
        finally:
            stack.known_hosts.write_text(known)
            stack.settings["host"]["port"] = stack.server.port
    assert done.code == 0, done.err
    assert done.document["healthy"] is True
    actions = {one["service"]: one["action"] for one in done.document["changes"]}
    assert actions == {"gateway": "unchanged", "bridge": "update", "caddy": "unchanged"}
    steps = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert [one["step"] for one in steps if one["event"] == "build"][:2] == [1, 2]
    after = stack.started()
    assert after["bridge"] != before["bridge"]
    assert (after["gateway"], after["caddy"]) == (before["gateway"], before["caddy"])
    assert stack.log("gateway").count("Login has completed") == logins
    fresh = _layers(stack.container("bridge")["Image"])
    own = [one for one in fresh if one not in layers]
    assert len(own) >= 3, "dependencies, sources and their bytecode were built anew"
    assert not docker("image", "ls", "--quiet", "--no-trunc").count(image), "the old one went"
    assert (relay.connections, relay.turns <= 16) == (1, True)
    assert watch.longest < SERVED_AGAIN
    assert stack.release() == release
    assert stack.ledger()[-1]["command"] == "rebuild"
    assert stack.deploy("plan", "--check").code == 0


def _layers(image: str) -> list[str]:
    found: list[str] = json.loads(
        docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image)
    )
    return found


def test_a_broken_bridge_is_put_back(stack: Stack, edited: Path) -> None:
    edited.write_text("raise SystemExit(7)\n")
    before, release = stack.started(), stack.release()
    done = stack.deploy("sync", "bridge", "--json")
    assert done.code == 1
    assert done.document["restored"] is True
    after = stack.started()
    assert {name: one[0] for name, one in after.items()} == {
        name: one[0] for name, one in before.items()
    }
    assert after["gateway"] == before["gateway"]
    assert stack.release() == release
    assert stack.deploy("rollback", "no-such-release").code == 1


def test_the_gateway_restarts_softly_or_cold(stack: Stack) -> None:
    before = stack.started()
    logins = stack.log("gateway").count("Login has completed")
    done = stack.deploy("restart", "gateway", "--json")
    assert done.code == 0, done.err
    assert done.document["sessionKept"] is True
    assert stack.started() == before, "no container was restarted"
    log = stack.log("gateway")
    assert log.count("Login has completed") == logins + 1
    assert "authentication will not be required" in log
    cold = stack.deploy("restart", "gateway", "--cold", "--yes", "--json")
    assert cold.code == 0, cold.err
    assert cold.document["sessionKept"] is False
    after = stack.started()
    assert after["gateway"][0] == before["gateway"][0]
    assert after["gateway"][1] != before["gateway"][1]
    assert [entry["command"] for entry in stack.ledger()[-2:]] == ["restart gateway"] * 2
    assert stack.deploy("restart", "nobody").code == 1
    assert stack.deploy("restart", "caddy", "--cold").code == 2


def test_logs_and_a_full_status(stack: Stack) -> None:
    rows = [json.loads(line) for line in stack.deploy("logs", "--json").out.splitlines()]
    assert {row["service"] for row in rows} == {"gateway", "bridge", "caddy"}
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert any("Login has completed" in row["line"] for row in rows)
    assert stack.deploy("logs", "bridge", "--since", "2099-01-01T00:00:00Z").out == ""
    following = stack.start("logs", "-f", "bridge", "--json", "-n", "1")
    try:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["service"] == "bridge"
    finally:
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=20)
    assert following.returncode == 130
    status = stack.deploy("status", "--json").document
    assert status["gateway"]["api"] is True
    assert "-Xmx256m" in status["gateway"]["flags"]
    assert status["gateway"]["residentKb"] > 50_000
    assert status["gateway"]["missingFlags"] == []
    assert status["host"]["diskKb"]["free"] > 0
    assert status["certificate"]["names"]
    metrics = stack.metrics()
    deadline = time.monotonic() + 75
    while not float(metrics[EXPIRES]) and time.monotonic() < deadline:
        time.sleep(1)  # Caddy may start after the first look; the next is a minute off
        metrics = stack.metrics()
    ends = float(metrics[EXPIRES])
    assert ends == datetime.fromisoformat(status["certificate"]["notAfter"]).timestamp()
    assert float(metrics["gangway_disk_free_bytes"]) > 0
    assert status["nextRestart"]["at"]
    shown = stack.deploy("status").out
    for word in ("JVM", "certificate", "memory", "swap", "disk", "next planned"):
        assert word in shown


def test_keys_and_diagnose(stack: Stack, tmp_path: Path) -> None:
    made = stack.deploy("apikey", "create", "phone", "--days", "2")
    key = made.out.strip()
    assert made.code == 0
    assert key not in made.err
    file = tmp_path / "key"
    file.write_text(key)
    address = f"http://127.0.0.1:{stack.settings['bridge']['port']}/options/chain?symbol=AAPL"
    asked = urllib.request.Request(address, headers={"X-API-KEY": key})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        assert json.load(answer)["expirations"], "the key reads, the bridge asks the gateway"
    fine = stack.deploy("diagnose", "--connect-once", "--api-key-file", str(file), "--json")
    assert fine.document["ok"] is True, fine.out
    steps = [step["step"] for step in fine.document["ways"][0]["steps"]]
    assert steps == ["name", "tcp", "tls", "ping", "connect", "health", "executions"]
    [found] = [
        one for one in stack.deploy("apikey", "list", "--json").document["keys"] if one["active"]
    ]
    assert found["label"] == "phone"
    assert key not in stack.deploy("apikey", "list").out
    assert stack.deploy("apikey", "revoke", found["id"]).code == 0
    refused = stack.deploy("diagnose", "--api-key-file", str(file))
    assert refused.code == 1
    assert "does not accept the key" in refused.out
    docker("stop", stack.container("caddy")["Id"])
    try:
        half = stack.deploy("diagnose")
        assert half.code == 1
        assert "answers on its host, but not from outside" in half.out
    finally:
        docker("start", stack.container("caddy")["Id"])


def test_doctor_and_its_bundle(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "report.tar.gz"
    done = stack.deploy("doctor", "--json", "--bundle", str(file))
    states = {one["check"]: one["state"] for one in done.document["checks"]}
    for name in (
        "config",
        "connection",
        "docker",
        "jvm",
        "settings",
        "release",
        "login",
        "gateway",
    ):
        assert states[name] == "ok", done.out
    key = (stack.base / "current/secrets/bridge-admin-key").read_text().strip()
    with tarfile.open(file) as tar:
        texts = {one.name: tar.extractfile(one) for one in tar.getmembers()}
        content = {name: found.read().decode() for name, found in texts.items() if found}
    assert {"gangway-report/doctor.json", "gangway-report/logs/gateway.log"} <= content.keys()
    assert not any(key in text for text in content.values())
    assert '"username": "demo"' not in content["gangway-report/config.json"]
    docker("stop", stack.container("bridge")["Id"])
    try:
        broken = stack.deploy("doctor")
        assert broken.code == 1
        assert "fail  bridge" in broken.out
        assert "./deploy.py logs bridge" in broken.out
    finally:
        docker("start", stack.container("bridge")["Id"])
    stack.settings["host"]["port"] = 1
    unreached = stack.deploy("doctor")
    stack.settings["host"]["port"] = stack.server.port  # nothing to put back on the host
    assert unreached.code == 1
    assert "fail  connection" in unreached.out
    assert "ok    tools" in unreached.out


def _vnc_runs(stack: Stack) -> bool:
    return "x11vnc" in docker("top", stack.container("gateway")["Id"], "-eo", "pid,args")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
async def test_the_screen_is_seen_through_the_tunnel(stack: Stack, end: signal.Signals) -> None:
    before = stack.started()
    assert not _vnc_runs(stack)
    process = stack.start("vnc", "--json", "--no-viewer")
    try:
        assert process.stdout is not None
        found = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert found["url"] == f"vnc://127.0.0.1:{found['port']}"
        assert found["password"] not in docker(
            "top", stack.container("gateway")["Id"], "-eo", "pid,args"
        )
        async with asyncvnc.connect("127.0.0.1", found["port"], password=found["password"]) as one:
            picture = await asyncio.wait_for(one.screenshot(), 20)
        assert picture.shape[:2] == (768, 1024)
        assert _vnc_runs(stack)
    finally:
        process.send_signal(end)
        await asyncio.to_thread(process.communicate, timeout=30)
    deadline = time.monotonic() + 20
    while _vnc_runs(stack) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    assert not _vnc_runs(stack)
    assert stack.started() == before


def test_tunnels_lead_to_the_api_and_the_bridge(stack: Stack) -> None:
    process = stack.start("tunnel", "api", "--json")
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", port), 5) as api:
            api.sendall(b"API\0\0\0\0\x09v157..178")
            api.settimeout(10)
            assert len(api.recv(4)) == 4
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0
