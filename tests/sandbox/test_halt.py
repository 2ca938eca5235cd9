"""The kill switch of the command line: through the bridge, and around one that is stuck."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infrastructure.runtime.sandbox.runtime import SandboxRuntime
from tests.sandbox.stack import Sandbox

pytestmark = pytest.mark.timeout(120)
SOON = 3.0 + 12.0
"""Seconds: the bridge's three, and what the command itself takes on a busy machine."""


def place(sandbox: Sandbox) -> str:
    """An order far below the market, which stays open."""
    price = round(sandbox.get("/quote/AAPL")["bid"]["value"] * 0.92, 2)
    order = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "tif": "GTC"}
    return str(sandbox.post("/order", {**order, "limitPrice": price})["orderId"])


def working(sandbox: Sandbox) -> int:
    """How many orders the broker itself has open: the simulator's own record."""
    import urllib.request

    address = f"http://127.0.0.1:{sandbox.ports['control']}/book"
    with urllib.request.urlopen(address, timeout=15) as answer:
        book = json.load(answer)
    return sum(order["status"] in {"Submitted", "PreSubmitted"} for order in book["orders"])


def bridge_of(sandbox: Sandbox) -> int:
    """The bridge's process."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0")
            variables = (entry / "environ").read_bytes()
        except OSError:
            continue
        if line[1:3] == [b"-m", b"bridge"] and str(sandbox.base).encode() in variables:
            return int(entry.name)
    raise AssertionError("no bridge runs")


@contextmanager
def stalled(sandbox: Sandbox) -> Iterator[None]:
    process = bridge_of(sandbox)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@contextmanager
def stopped(sandbox: Sandbox) -> Iterator[None]:
    runtime = SandboxRuntime(sandbox.base)
    bridge = next(item for item in runtime.containers() if item.service == "bridge")
    runtime.stop([bridge])
    try:
        yield
    finally:
        runtime.start([bridge])


@contextmanager
def full(sandbox: Sandbox) -> Iterator[None]:
    """Stalled, and no room in its data folder for a byte more."""
    folder = sandbox.base / "data" / "bridge"
    with stalled(sandbox):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], check=True)
        try:
            (folder / "filler").write_bytes(b"x" * 4096)
            yield
        finally:
            subprocess.run(["umount", folder], check=True)


@pytest.fixture(autouse=True)
def _resumed(sandbox: Sandbox) -> Iterator[None]:
    yield
    until(lambda: health(sandbox).get("state") in {"ready", "halted"})
    sandbox.deploy("resume", "--yes")
    until(lambda: health(sandbox).get("state") == "ready")


def health(sandbox: Sandbox) -> dict[str, Any]:
    try:
        found: dict[str, Any] = sandbox.get("/health")
    except OSError:
        return {}
    return found


def until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def halted(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["halted"] is True, done.stderr
    return found


def test_through_the_bridge(sandbox: Sandbox) -> None:
    place(sandbox)
    done = sandbox.deploy("--json", "halt", "--reason", "the bot is mad")
    assert done.returncode == 0, done.stderr
    assert halted(done)["way"] == "bridge"
    assert sandbox.get("/trading/halt")["reason"] == "the bot is mad"
    until(lambda: working(sandbox) == 0)
    again = sandbox.deploy("resume", "--yes")
    assert (again.returncode, sandbox.get("/trading/halt")["halted"]) == (0, False)


def test_keep_orders_cancels_nothing(sandbox: Sandbox) -> None:
    place(sandbox)
    before = working(sandbox)
    done = sandbox.deploy("--json", "halt", "--keep-orders")
    assert done.returncode == 0, done.stderr
    assert halted(done)["bridge"]["cancel"] == "none"
    assert working(sandbox) == before > 0
    sandbox.deploy("halt", "--all")


@pytest.mark.parametrize("broken", [stalled, stopped], ids=["stalled", "stopped"])
def test_around_a_bridge_that_does_not_answer(sandbox: Sandbox, broken: Any) -> None:
    place(sandbox)
    with broken(sandbox):
        begun = time.monotonic()
        done = sandbox.deploy("--json", "halt", "--all", "--reason", "no answer")
        assert time.monotonic() - begun < SOON
        assert done.returncode == 0, done.stderr
        found = halted(done)
        assert (found["way"], found["mark"]) == ("gateway", "left")
        assert found["globalCancel"]["left"] == 0
        assert working(sandbox) == 0
        assert "straight from the host to the gateway" in done.stderr
    until(lambda: health(sandbox).get("state") == "halted")
    assert sandbox.get("/trading/halt")["reason"] == "no answer"


def test_it_cannot_tell_protective_orders_apart_and_asks(sandbox: Sandbox) -> None:
    place(sandbox)
    with stalled(sandbox):
        done = sandbox.deploy("--json", "halt")  # nobody is there to answer
        assert done.returncode == 4
        assert halted(done)["globalCancel"] is None
        assert working(sandbox) == 1
        assert "halt --all cancels every open order" in done.stderr
        kept = sandbox.deploy("--json", "halt", "--keep-orders")
        assert (kept.returncode, working(sandbox)) == (0, 1)
    until(lambda: health(sandbox).get("state") == "halted")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a full disk needs root")
def test_with_a_full_disk_the_mark_is_empty_and_halts_all_the_same(sandbox: Sandbox) -> None:
    place(sandbox)
    with full(sandbox):
        done = sandbox.deploy("--json", "halt", "--all")
        assert done.returncode == 0, done.stderr
        found = halted(done)
        assert (found["mark"], found["globalCancel"]["left"]) == ("empty", 0)
        assert working(sandbox) == 0


def test_a_gateway_that_is_away_is_said_and_the_halt_holds(sandbox: Sandbox) -> None:
    sandbox.fault("port-closed")
    try:
        with stalled(sandbox):
            done = sandbox.deploy("halt", "--all")
            assert done.returncode == 1
            assert "NO order was cancelled" in done.stderr
            assert "call the broker" in done.stderr
    finally:
        sandbox.fault(None)
    until(lambda: health(sandbox).get("state") == "halted")


def test_what_excludes_each_other_is_refused(sandbox: Sandbox) -> None:
    done = sandbox.deploy("halt", "--all", "--keep-orders")
    assert (done.returncode, sandbox.get("/trading/halt")["halted"]) == (2, False)
