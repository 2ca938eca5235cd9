"""The kill switch on a real engine, over SSH: the bridge paused, and stopped."""

import json
import time
from collections.abc import Callable

import pytest

from tests.engine.parts.engine import docker
from tests.engine.parts.stack import Stack


@pytest.fixture(scope="module")
def running(make_stack: Callable[[str], Stack]) -> Stack:
    stack = make_stack("halting")
    stack.up()
    return stack


@pytest.mark.parametrize(("breaks", "mends"), [("pause", "unpause"), ("stop", "start")])
def test_around_a_bridge_that_does_not_answer(running: Stack, breaks: str, mends: str) -> None:
    bridge = running.container("bridge")["Id"]
    docker(breaks, bridge)
    try:
        done = running.deploy("--json", "halt", "--all", "--reason", "engine")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert (found["halted"], found["way"], found["mark"]) == (True, "gateway", "left")
        assert found["globalCancel"]["left"] == 0
    finally:
        docker(mends, bridge)
    for _ in range(60):
        status = json.loads(running.deploy("--json", "status").out)
        if (status["bridge"] or {}).get("state") == "halted":  # None until it answers
            break
        time.sleep(0.5)
    assert status["bridge"]["state"] == "halted"
    assert running.deploy("resume", "--yes").code == 0
