"""A worker built from a folder on a real engine: its key, its fences, and that only it changes."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.parts.engine import docker
from tests.engine.parts.stack import Stack

DOCKERFILE = """\
FROM python:3.13-slim-trixie
COPY probe.py /
CMD ["python", "-u", "/probe.py"]
"""
PROBE = """\
import os, socket, time, urllib.error, urllib.request

def ask(path):
    key = open(os.environ["BRIDGE_API_KEY_FILE"]).read().strip()
    asked = urllib.request.Request(os.environ["BRIDGE_URL"] + path, headers={"X-API-KEY": key})
    try:
        return urllib.request.urlopen(asked, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code

def reaches(host, port):
    try:
        socket.create_connection((host, port), 5).close()
        return True
    except OSError:
        return False

def writes(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False

while True:
    print("VERSION", ask("/positions"), ask("/keys"), open(os.environ["HOOK_FILE"]).read(),
          reaches("gateway", 4004), writes("/probe.txt"), writes("/tmp/x"), os.getuid())
    time.sleep(0.5)
"""


def write(stack: Stack, version: str) -> None:
    folder = stack.folder / "probe"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "probe.py").write_text(PROBE.replace("VERSION", version))


def says(stack: Stack, line: str) -> None:
    deadline = time.monotonic() + 90
    while line not in (log := stack.log("probe")):
        assert time.monotonic() < deadline, log
        time.sleep(0.3)


def answers(stack: Stack, key: str) -> int:
    url = f"http://127.0.0.1:{stack.settings['bridge']['port']}/positions"
    try:
        asked = urllib.request.Request(url, headers={"X-API-KEY": key})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def worked(make_stack: Callable[[str], Stack]) -> Stack:
    stack = make_stack("worked")
    write(stack, "one")
    hook = stack.folder / "hook"
    hook.write_text("https://example.org/hook")
    hook.chmod(0o600)
    stack.settings["workers"] = {
        "probe": {
            "build": "probe",
            "api_key": "read",
            "needs": "bridge-ready",
            "memory": 64,
            "secrets": {"hook": {"file": str(hook)}},
        }
    }
    return stack


def test_a_worker_beside_the_bridge(worked: Stack) -> None:
    stack = worked
    assert stack.up("--json").document["healthy"] is True
    says(stack, "one 200 403 https://example.org/hook False False True 1000")
    key_file = stack.base / "data/workers/probe/api-key"
    first = key_file.read_text().strip()
    found: dict[str, Any] = stack.container("probe")
    assert found["HostConfig"]["Memory"] == found["HostConfig"]["MemorySwap"] == 64 << 20
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["HostConfig"]["PortBindings"] in ({}, None)
    shown = json.dumps(found)
    assert first not in shown
    assert "example.org" not in shown
    assert stack.up("--json").document["changed"] is False

    # a changed source: only the worker, with another key; the direct port when it is asked for
    before, container = stack.started(), found["Id"]
    write(stack, "two")
    stack.settings["workers"]["probe"]["tws_client_id"] = 7
    plan = stack.deploy("plan", "--json").document
    assert plan["twoFactorExpected"] is False
    done = stack.deploy("sync", "worker", "probe", "--json")
    assert done.code == 0, done.err
    says(stack, "two 200 403 https://example.org/hook True")
    assert stack.container("probe")["Id"] != container
    assert stack.started() == before
    second = key_file.read_text().strip()
    assert (answers(stack, first), answers(stack, second)) == (401, 200)

    # it goes, and its key with it
    del stack.settings["workers"]
    assert stack.up("--json").document["healthy"] is True
    assert answers(stack, second) == 401
    assert not key_file.exists()
    assert stack.started() == before
    mark = f"label=com.docker.compose.project={stack.project}"
    assert len(docker("ps", "-aq", "--filter", mark).split()) == 3
