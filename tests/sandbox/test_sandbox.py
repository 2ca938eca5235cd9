"""A newcomer's first minute, and the sandbox's life after it: real commands, real processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.stack import PROJECT, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(180)


def test_up_ends_with_lines_that_work_when_pasted(sandbox: Sandbox) -> None:
    done = sandbox.deploy("up")
    assert done.returncode == 0
    assert "healthy; nothing changed" in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("curl")]
    assert len(lines) == 3
    for line in lines:
        answer = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=20, cwd=sandbox.folder
        )
        assert answer.returncode == 0, line
        assert "status" in json.loads(answer.stdout) or "bid" in json.loads(answer.stdout)


def test_the_key_is_whole_in_a_narrow_terminal(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    done = sandbox.deploy("up")
    assert f"API key        {sandbox.key}\n" in done.stderr
    assert f"status page    {sandbox.address}/\n" in done.stderr
    assert "…" not in done.stderr


def test_a_second_up_restarts_nothing(sandbox: Sandbox) -> None:
    before = json.loads(sandbox.deploy("--json", "status").stdout)
    done = sandbox.deploy("--json", "up")
    document = json.loads(done.stdout)
    assert document["changed"] is False
    assert document["healthy"] is True
    after = json.loads(sandbox.deploy("--json", "status").stdout)
    assert [item["since"] for item in before["services"]] == [
        item["since"] for item in after["services"]
    ]


def test_plan_says_that_nothing_would_change(sandbox: Sandbox) -> None:
    assert sandbox.deploy("plan", "--check").returncode == 0


def test_status_tells_the_truth_about_a_lost_gateway(sandbox: Sandbox) -> None:
    sandbox.fault("upstream-lost")
    try:
        _until(sandbox, lambda health: health["state"] == "upstream-lost")
        document = json.loads(sandbox.deploy("--json", "status").stdout)
        assert document["healthy"] is False
        assert document["bridge"]["lastIbErrorCode"] == 1100
    finally:
        sandbox.fault(None)
        sandbox.fault("upstream-restored", 1)
    _until(sandbox, lambda health: health["state"] == "ready")


def test_history_is_the_ledger_and_holds_no_secret(sandbox: Sandbox) -> None:
    document = json.loads(sandbox.deploy("--json", "history").stdout)
    assert document["deploys"][0]["result"] == "healthy"
    assert sandbox.key not in json.dumps(document)


def test_no_secret_is_in_an_argument_list_or_a_log(sandbox: Sandbox) -> None:
    key = sandbox.key.encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert key not in path.read_bytes()
        except OSError:
            continue
    for log in (sandbox.base / "run" / "logs").iterdir():
        assert key not in log.read_bytes()


def test_secrets_are_closed_to_others(sandbox: Sandbox) -> None:
    for path in (sandbox.base / "current" / "secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o400
    assert sandbox.base.stat().st_mode & 0o777 == 0o700


def test_down_leaves_nothing_behind(tmp_path: Path) -> None:
    own = Sandbox(tmp_path)
    assert own.deploy("up").returncode == 0
    ports = own.ports
    assert own.deploy("down").returncode == 0
    assert list(tmp_path.iterdir()) == []
    listening = subprocess.run(
        ["sh", "-c", "cat /proc/net/tcp"], capture_output=True, text=True, check=True
    ).stdout
    for port in ports.values():
        assert f"0100007F:{port:04X} 00000000:0000 0A" not in listening


def test_a_broken_bridge_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    """In a copy of the project, so that its sources can be broken."""
    copy = tmp_path / "project"
    for name in ("bridge", "infrastructure", "simulator", "templates"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("deploy.py", "jts.ini.tmpl"):
        shutil.copy(PROJECT / name, copy / name)
    own = Sandbox(tmp_path / "stack", copy)
    own.folder.mkdir()
    assert own.deploy("up").returncode == 0
    served = json.loads(own.deploy("--json", "status").stdout)
    source = copy / "bridge" / "__main__.py"
    source.write_text("raise SystemExit('broken on purpose')\n")
    plan = json.loads(own.deploy("--json", "plan").stdout)
    assert {item["service"]: item["action"] for item in plan["changes"]} == {
        "gateway": "unchanged",
        "bridge": "update",
        "caddy": "unchanged",
    }
    done = own.deploy("--json", "up", "--wait", "20")
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1, done.stdout
    assert json.loads(done.stdout)["restored"] is True
    assert "broken on purpose" in done.stderr
    after = json.loads(own.deploy("--json", "status").stdout)
    assert after["release"] == served["release"]
    assert after["healthy"] is True
    assert own.deploy("down").returncode == 0


def test_make_up_is_the_same_command() -> None:
    done = subprocess.run(
        ["make", "-n", "up"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "./deploy.py --target sandbox up" in done.stdout


def _until(
    sandbox: Sandbox, condition: Callable[[dict[str, Any]], bool], seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while not condition(health := sandbox.get("/health")):
        assert time.monotonic() < deadline, health
        time.sleep(0.1)
