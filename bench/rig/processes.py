"""Real processes of the product, each on free ports, ended by their ids."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
KEY = "gwk_a-key-for-the-bench"
limits: list[tuple[str, ...]] = []
"""What is put before the command of each bridge, to hold it to a share of a core."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def process(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Runs a command; its standard output is a pipe, the rest goes nowhere."""
    child = subprocess.Popen(
        list(command),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()


@contextmanager
def simulator(*options: str, module: str = "simulator") -> Iterator[dict[str, int]]:
    """A simulated gateway: the ports that it printed, and `pid`."""
    command = [sys.executable, "-m", module, "--port", "0", "--portal-port", "0"]
    with process([*command, "--control-port", "0", *options]) as child:
        assert child.stdout is not None
        ports: dict[str, int] = json.loads(child.stdout.readline())
        yield {**ports, "pid": child.pid}


class BridgeProcess:
    """A running bridge."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def get(self, path: str) -> Any:
        """A JSON answer, whatever its status."""
        address = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(address, headers={"X-API-KEY": KEY})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def wait_until_ready(self, seconds: float = 30) -> float:
        """Seconds that it took until `/ready` said so."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            try:
                if self.get("/ready").get("ready"):
                    return time.monotonic() - begun
            except OSError:
                pass
            time.sleep(0.01)
        raise TimeoutError(f"the bridge was not ready within {seconds} s")


@contextmanager
def bridge(
    gateway_port: int,
    *,
    ready: bool = True,
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
    module: str = "bridge",
) -> Iterator[BridgeProcess]:
    """`python -m bridge` over a gateway on this port; `data` is a data folder that is there."""
    with TemporaryDirectory(prefix="gangway-bench-") as folder:
        key_file = Path(folder) / "key"
        key_file.write_text(KEY)
        key_file.chmod(0o600)
        port = free_port()
        variables = {
            "BRIDGE_LISTEN": f"127.0.0.1:{port}",
            "BRIDGE_TWS_PORT": str(gateway_port),
            "BRIDGE_DATA_DIR": str(data or folder),
            "BRIDGE_ADMIN_KEY_FILE": str(key_file),
            "BRIDGE_LOG_LEVEL": "warning",
            **(environment or {}),
        }
        before = [word for limit in limits for word in limit]
        with process([*before, sys.executable, "-m", module], variables) as child:
            running = BridgeProcess(child.pid, port)
            if ready:
                running.wait_until_ready()
            yield running


def resident_megabytes(pid: int) -> float:
    """Resident memory now, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert match is not None
    return int(match[1]) / 1024


def processor_seconds(pid: int) -> float:
    """Processor time used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
