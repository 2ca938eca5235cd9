"""Another bridge to compare with: `qx-ibbridge`, which is FastAPI over ib_async.

It keeps no journal, answers an order before the broker has, and serves whoever asks: what it takes
is what such a bridge takes without any of that.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bench.rig.load import request_of
from bench.rig.processes import ROOT, BridgeProcess, free_port, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PYTHON = ROOT / ".venv-peer/bin/python"
NAME = "qx-ibbridge"
BESIDE = f" {NAME}"
_CLIENT_ID = "901"
_ORDER = {
    "contract": {
        "secType": "STK",
        "symbol": "AAPL",
        "exchange": "SMART",
        "currency": "USD",
        "conId": 265598,
    },
    "order": {"action": "BUY", "totalQuantity": 1, "orderType": "LMT", "lmtPrice": 1.0},
}


@contextmanager
def peer_bridge(gateway_port: int) -> Iterator[BridgeProcess | None]:
    """The other bridge, connected; None where its environment cannot be set up."""
    if not PYTHON.exists():
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([ROOT / "scripts/setup", "peer"], check=True, capture_output=True)
    if not PYTHON.exists():
        yield None
        return
    port = free_port()
    command = [str(PYTHON), "-m", "uvicorn", "server.main:app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "warning"]
    variables = {"IB_HOST": "127.0.0.1", "IB_PORT": str(gateway_port), "IB_CLIENT_ID": _CLIENT_ID}
    with process(command, variables) as child:
        _wait_until_connected(port)
        yield BridgeProcess(child.pid, port)


def _wait_until_connected(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer,
        ):
            if json.load(answer)["connected"]:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{NAME} was not connected within {seconds} s")


def peer_orders(many: int) -> Callable[[], bytes | None]:
    """So many orders that rest at the broker, for `load`."""
    request = request_of("/place-order", "POST", json.dumps(_ORDER).encode(), "X-Session-Id: bench")
    left = iter(range(many))
    return lambda: request if next(left, None) is not None else None
