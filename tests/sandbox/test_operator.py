"""An operator's commands on the sandbox."""

from __future__ import annotations

import json
import re
import socket
import tarfile
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import segno

from infrastructure.cli.output import QUIET_ZONE
from tests.sandbox.stack import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)


def test_looking_at_a_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "report.tar.gz"
    doctor = sandbox.deploy("doctor", "--json", "--bundle", str(file))
    assert doctor.returncode == 0, doctor.stdout
    assert json.loads(doctor.stdout)["ok"] is True
    with tarfile.open(file) as tar:
        found = [tar.extractfile(name) for name in tar.getnames()]
        assert not any(sandbox.key.encode() in one.read() for one in found if one)
    diagnosis = sandbox.deploy("diagnose", "--connect-once")
    assert diagnosis.returncode == 0, diagnosis.stdout
    assert "All is well" in diagnosis.stdout
    rows = [json.loads(line) for line in sandbox.deploy("logs", "--json").stdout.splitlines()]
    assert {row["service"] for row in rows} == {"gateway", "bridge", "caddy"}
    screen = sandbox.deploy("vnc")
    assert screen.returncode == 1
    assert "has no screen" in screen.stderr
    login = sandbox.deploy("login", "--json")
    assert login.returncode == 0, login.stderr
    assert json.loads(login.stdout)["login"]["state"] == "logged-in"
    shown = sandbox.deploy("login", "--screenshot", str(tmp_path / "window.png"))
    assert shown.returncode == 1
    assert "has no screen" in shown.stderr
    assert sandbox.deploy("login", "--code", "123456").returncode == 2
    assert sandbox.deploy("tunnel", "bridge").stdout.strip() == sandbox.address


def test_only_the_bridge_restarts(sandbox: Sandbox) -> None:
    def since() -> dict[str, str]:
        status = json.loads(sandbox.deploy("status", "--json").stdout)
        return {one["name"]: one["since"] for one in status["services"]}

    before = since()
    done = sandbox.deploy("rebuild", "bridge", "--json")
    assert json.loads(done.stdout)["healthy"] is True
    after = since()
    assert after["bridge"] != before["bridge"]
    assert after["gateway"] == before["gateway"]
    assert json.loads(sandbox.deploy("sync", "bridge", "--json").stdout)["changed"] is False
    assert sandbox.deploy("sync", "gateway").returncode == 2
    assert sandbox.deploy("restart", "bridge").returncode == 0


def test_a_journal_that_was_removed_is_accepted_by_command(sandbox: Sandbox) -> None:
    shown = json.loads(sandbox.deploy("journal", "show", "--json").stdout)
    assert shown["accepted"]
    (journal,) = sandbox.base.rglob("journal.sqlite3")
    for file in journal.parent.glob("journal.sqlite3*"):
        file.unlink()
    assert sandbox.deploy("restart", "bridge").returncode == 0
    shown = json.loads(sandbox.deploy("journal", "show", "--json").stdout)
    assert (shown["accepted"], "removed" in shown["why"]) == (False, True)
    assert sandbox.get("/health")["state"] == "halted"
    accepted = json.loads(sandbox.deploy("journal", "accept", "--json").stdout)
    assert accepted["accepted"]
    assert sandbox.get("/health")["state"] == "ready"


def test_keys(sandbox: Sandbox) -> None:
    made = json.loads(sandbox.deploy("apikey", "create", "phone", "--json").stdout)
    assert sandbox.get("/health", key=made["key"])["status"]
    assert sandbox.deploy("apikey", "revoke", made["id"]).returncode == 0
    assert sandbox.deploy("apikey", "revoke", "nobody").returncode == 1


def test_a_phone_can_read_the_key_from_a_terminal(sandbox: Sandbox) -> None:
    """On a terminal of 60 columns; a file or a pipe gets the key alone, and no log either."""
    shown = sandbox.on_terminal("apikey", "create", "camera", columns=60)
    (key,) = (line for line in shown.splitlines() if re.fullmatch(r"[\w-]{32,}", line))
    lines = [line for line in shown.splitlines() if set(line) & set("█▀▄")]
    assert max(map(len, lines)) <= 60
    light = [[letter in wanted for letter in line] for line in lines for wanted in ("█▀", "█▄")]
    expected = [
        [not dark for dark in row]
        for row in segno.make_qr(key, error="l").matrix_iter(border=QUIET_ZONE)
    ]
    assert light[: len(expected)] == expected
    assert sandbox.get("/health", key=key)["status"]
    piped = sandbox.deploy("apikey", "create", "pipe")
    assert "█" not in piped.stdout + piped.stderr
    asked = sandbox.deploy("apikey", "create", "asked", "--qr")
    assert ("█" in asked.stderr, "█" in asked.stdout) == (True, False)
    logs = sandbox.deploy("logs").stdout
    assert "█" not in logs
    assert not any(made in logs for made in (key, piped.stdout.strip(), asked.stdout.strip()))


def test_a_sandbox_in_ones_own_file_is_a_target_as_any(tmp_path: Path) -> None:
    """`up` on it ends well, also a second time, and its last lines name a key that is taken."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(8)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in probes]
    simulated = ("tws", "portal", "control", "caddy_admin", "caddy_health")
    stack = {
        "host": "local",
        "runtime": "sandbox",
        "folder": str(tmp_path / "there"),
        "bridge": {"port": ports[0]},
        "caddy": {"listen": "127.0.0.1", "http_port": ports[1], "https_port": ports[2]},
        "simulated": {
            f"{name}_port": port for name, port in zip(simulated, ports[3:], strict=True)
        },
    }
    (tmp_path / "stack.yaml").write_text(json.dumps({"targets": {"mine": stack}}))
    own = Sandbox(tmp_path)
    try:
        for said in ("healthy after", "healthy; nothing changed"):
            done = own.deploy("up")
            assert done.returncode == 0, done.stderr
            assert said in done.stderr
            key = re.search(r"^API key +(\S+)$", done.stderr, re.MULTILINE)
            assert key is not None, done.stderr
            request = urllib.request.Request(
                f"http://127.0.0.1:{ports[0]}/health", headers={"X-API-KEY": key[1]}
            )
            with urllib.request.urlopen(request, timeout=15) as answer:
                assert json.load(answer)["connected"] is True
    finally:
        down = own.deploy("down")
    assert down.returncode == 0, down.stderr
