"""A cancel and a halt while the journal is in trouble, or in a burst of orders: request to answer.

Each fault is a real one on a real bridge with its data folder on a small tmpfs (root is needed; not
measured without). A cancel that is answered 200 has been confirmed by the simulated broker.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import Figure
from bench.rig.processes import quantile
from tests.bridge.rig import BridgeProcess, SimulatorProcess

CANCELS = 20
BAR_MILLISECONDS = 500
BURST, ORDERS_A_SECOND = 100, 38
BURST_BEGUN_SECONDS, FIRST_PORTION = 0.4, 10
ORDER = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 1.0}


@contextmanager
def full(data: Path) -> Iterator[None]:
    """Not a byte is left."""
    with (data / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    yield


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Another process writes, and does not end."""
    connection = sqlite3.connect(data / "journal.sqlite3", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


@contextmanager
def damaged(data: Path) -> Iterator[None]:
    """Everything in the file and its log is overwritten."""
    for file in data.glob("journal.sqlite3*"):
        if not file.name.endswith("-shm"):
            file.write_bytes(os.urandom(file.stat().st_size))
    yield


@contextmanager
def removed(data: Path) -> Iterator[None]:
    """The files are gone."""
    for file in data.glob("journal.sqlite3*"):
        file.unlink()
    yield


Fault = Callable[[Path], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    "full": full,
    "locked": locked,
    "damaged": damaged,
    "removed": removed,
}


def under(fault: str) -> tuple[list[float], float]:
    """Seconds of each cancel, and of the halt after them."""
    with TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(data)], check=True)
        simulator = SimulatorProcess(Path(folder) / "simulator.log", "--rate-limit", "0")
        bridge: BridgeProcess | None = None
        try:
            bridge = BridgeProcess(Path(folder), simulator.port)
            return _measured(bridge, data, FAULTS[fault])
        finally:
            if bridge is not None:
                bridge.stop()
            simulator.stop()
            subprocess.run(["umount", "-l", str(data)], check=False)


def _measured(bridge: BridgeProcess, data: Path, fault: Fault) -> tuple[list[float], float]:
    bridge.wait_for("ready")
    orders = [_placed(bridge, number) for number in range(CANCELS)]
    cancels: list[float] = []
    with fault(data):
        for order in orders:
            seconds, _ = _timed(bridge, "DELETE", f"/order/{order}")
            cancels.append(seconds)
        halt, said = _timed(bridge, "POST", "/trading/halt")
        if not said["halted"]:
            raise RuntimeError(f"the halt answered {said}")
    return cancels, halt


def _timed(bridge: BridgeProcess, method: str, path: str) -> tuple[float, dict[str, Any]]:
    begun = time.perf_counter()
    answer = bridge.client.request(method, path, json={} if method == "POST" else None)
    seconds = time.perf_counter() - begun
    if answer.status_code != 200:
        raise RuntimeError(f"{method} answered {answer.status_code}: {answer.text[:300]}")
    members: dict[str, Any] = answer.json()
    return seconds, members


def _placed(bridge: BridgeProcess, number: int) -> str:
    answer = bridge.client.post("/order", json=ORDER, headers={"Idempotency-Key": f"b{number}"})
    answer.raise_for_status()
    return str(answer.json()["orderId"])


def in_a_burst() -> list[Figure]:
    """Cancels, then a halt, each in the middle of orders that all come at once.

    The simulated gateway refuses what is more than 50 messages in a second (100).
    """
    with TemporaryDirectory() as folder:
        options = ("--rate-limit", "50", "--pacing", "reject")
        simulator = SimulatorProcess(Path(folder) / "simulator.log", *options)
        bridge: BridgeProcess | None = None
        try:
            bridge = BridgeProcess(Path(folder), simulator.port)
            bridge.wait_for("ready")
            return _in_a_burst(bridge)
        finally:
            if bridge is not None:
                bridge.stop()
            simulator.stop()


def _in_a_burst(bridge: BridgeProcess) -> list[Figure]:
    orders = [_placed(bridge, number) for number in range(CANCELS)]
    with ThreadPoolExecutor(BURST) as pool:
        burst = [pool.submit(_answered, bridge, 1000 + number) for number in range(BURST)]
        time.sleep(BURST_BEGUN_SECONDS)
        cancels = [_timed(bridge, "DELETE", f"/order/{order}")[0] for order in orders]
        under_way = sum(not each.done() for each in burst)
        answered = sorted(each.result() for each in burst)
        later = BURST - FIRST_PORTION
        rate = (later + CANCELS) / (answered[-1] - answered[FIRST_PORTION - 1])
        halted = [pool.submit(_placed, bridge, 2000 + number) for number in range(BURST)]
        time.sleep(BURST_BEGUN_SECONDS)
        halt, said = _timed(bridge, "POST", "/trading/halt")
        wait(halted)
    if not under_way or not said["halted"]:
        raise RuntimeError(f"{under_way} orders were under way, and the halt answered {said}")
    worst = quantile(cancels, 0.99) * 1000
    return [
        Figure("burst of 100 orders: cancel, p99", worst, "ms", BAR_MILLISECONDS),
        Figure("burst of 100 orders: halt", halt * 1000, "ms", BAR_MILLISECONDS),
        Figure("burst: orders and cancels sent", rate, "a second", ORDERS_A_SECOND, least=True),
    ]


def _answered(bridge: BridgeProcess, number: int) -> float:
    """When an order of the burst was answered."""
    _placed(bridge, number)
    return time.perf_counter()


def figures() -> list[Figure]:
    """Cancels and halts in a burst, and under each fault."""
    made = in_a_burst()
    if os.geteuid() != 0:
        return made
    for fault in FAULTS:
        cancels, halt = under(fault)
        name = f"journal {fault}"
        worst = quantile(cancels, 0.99) * 1000
        made.append(Figure(f"{name}: cancel, p99", worst, "ms", BAR_MILLISECONDS))
        made.append(Figure(f"{name}: halt", halt * 1000, "ms", BAR_MILLISECONDS))
    return made
