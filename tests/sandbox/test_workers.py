"""Workers as real processes beside a real bridge, brought up, changed and removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.closed_port import free_port
from tests.sandbox.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

SCRIPT = """
import json, os, time, urllib.error, urllib.request

def ask(path, body=None):
    headers = {"X-API-KEY": open(os.environ["BRIDGE_API_KEY_FILE"]).read().strip(),
               "Content-Type": "application/json", "Idempotency-Key": "one"}
    try:
        asked = urllib.request.Request(os.environ["BRIDGE_URL"] + path, body, headers)
        return urllib.request.urlopen(asked, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code

order = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}
secret = open(os.environ["HOOK_FILE"]).read()
while True:
    print("VERSION", ask("/positions"), ask("/order", json.dumps(order).encode()), len(secret))
    time.sleep(0.2)
"""


class Box:
    """A target that runs as processes, with workers of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("tws_port", "portal_port", "control_port", "caddy_admin_port", "caddy_health_port")
        bridge, http, https, *others = (free_port() for _ in range(3 + len(names)))
        self.settings: dict[str, Any] = {
            "host": "local",
            "profile": "standard",
            "runtime": "sandbox",
            "folder": str(folder / "opt"),
            "gateway": {"username": "sandbox", "two_factor": {"asked": False}},
            "bridge": {"port": bridge},
            "caddy": {"listen": "127.0.0.1", "http_port": http, "https_port": https},
            "simulated": dict(zip(names, others, strict=True)),
        }
        self.address = f"http://127.0.0.1:{bridge}"
        (folder / "scanner").mkdir()
        self.write("one")

    def write(self, version: str) -> None:
        (self.folder / "scanner" / "scanner.py").write_text(SCRIPT.replace("VERSION", version))

    def deploy(
        self, *arguments: str, code: int = 0, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "stack.yaml").write_text(yaml.safe_dump({"targets": {"box": self.settings}}))
        done = subprocess.run(
            [sys.executable, str(PROJECT / "deploy.py"), *arguments],
            cwd=self.folder,
            env=dict(os.environ),
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def document(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.deploy(*arguments, "--json", code=code).stdout)
        return found

    def since(self) -> dict[str, str]:
        return {one["name"]: one["since"] for one in self.document("status")["services"]}

    def key(self) -> str:
        return (self.folder / "opt/box/data/workers/scanner/api-key").read_text().strip()

    def answers(self, key: str) -> int:
        asked = urllib.request.Request(f"{self.address}/positions", headers={"X-API-KEY": key})
        try:
            with urllib.request.urlopen(asked, timeout=15) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def says(self, line: str) -> None:
        until(lambda: line in self.deploy("logs", "scanner").stdout)


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    found = Box(tmp_path)
    yield found
    found.deploy("down")


def test_a_worker_from_its_first_start_to_its_end(box: Box) -> None:
    scanner: dict[str, Any] = {
        "build": "scanner",
        "command": "python -u scanner.py",
        "api_key": "read",
        "needs": "bridge-ready",
        "secrets": {"hook": {"stored": "hook"}},
    }
    box.settings["workers"] = {"scanner": scanner}
    box.deploy("secrets", "set", "hook", text="https://example.org/hook\n")
    assert box.document("up", "--yes")["healthy"] is True
    box.says(f"one 200 403 {len('https://example.org/hook')}")
    first = box.key()
    assert box.answers(first) == 200
    listed = box.document("apikey", "list")["keys"]
    assert [(one["label"], one["scope"], one["active"]) for one in listed] == [
        ("stack worker: scanner", "read", True)
    ]

    # only it restarts, with another key
    before = box.since()
    box.write("two")
    done = box.document("sync", "worker", "scanner")
    assert [one["service"] for one in done["changes"] if one["action"] != "unchanged"] == [
        "scanner"
    ]
    box.says("two 200 403")
    after = box.since()
    assert after.pop("scanner") != before.pop("scanner")
    assert after == before
    assert (box.answers(first), box.answers(box.key())) == (401, 200)
    second = box.key()
    box.deploy("restart", "scanner")
    last = box.key()
    assert (box.answers(second), box.answers(last)) == (401, 200)

    # one that ends again and again is named, and fails nothing
    box.settings["workers"]["crash"] = {
        "image": "none:1",
        "command": ["python", "-c", "raise SystemExit('it cannot')"],
    }
    done = box.document("up", "--yes")
    assert (done["healthy"], done["restored"]) == (True, False)
    assert "it cannot" in done["workers"]["crash"]
    again = box.deploy("up", "--yes").stderr
    assert "nothing changed" in again
    assert "but worker crash: ends again and again" in again
    status = box.document("status")
    assert status["healthy"] is True
    assert [one["name"] for one in status["services"] if one.get("worker")] == ["crash", "scanner"]
    assert "worker-ends" in box.deploy("restart", "crash", "--json", code=1).stdout

    # and with it goes its key
    del box.settings["workers"]
    done = box.document("up", "--yes")
    removed = {one["service"] for one in done["changes"] if one["action"] == "remove"}
    assert removed == {"scanner", "crash"}
    assert box.answers(last) == 401
    assert not [one for one in box.document("apikey", "list")["keys"] if one["active"]]
    assert not (box.folder / "opt/box/data/workers/scanner").exists()
    assert box.since() == before
