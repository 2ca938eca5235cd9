"""A simulator and a bridge as processes of their own, as a user would start them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
ADMIN_KEY = "gwk_test-admin-key-of-the-suite"
START_SECONDS = 40.0
STOP_SECONDS = 30.0


async def eventually(
    check: Callable[[], Any], seconds: float = 30.0, *, every: float = 0.01
) -> Any:
    """The first true value of `check` (plain or async); fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(every)


class Process:
    """A child process whose first stdout line, or whose port, says that it is up."""

    BEFORE: tuple[str, ...] = ()
    """A command that runs the interpreter in its own place (`exec`), such as one that limits it."""

    def __init__(self, module: str, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        self._stderr = log.open("ab")
        self._earlier = log.stat().st_size  # of another process with the same log
        self.process = subprocess.Popen(
            [*self.BEFORE, sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Sends a signal (if it still runs) and gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._stderr.close()
        return code

    def resident_megabytes(self) -> float:
        """VmRSS."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def open_files(self) -> int:
        """How many file descriptors it has."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


class SimulatorProcess(Process):
    """`python -m simulator`."""

    def __init__(self, log: Path, *arguments: str, port: int = 0) -> None:
        ports = ["--port", str(port), "--portal-port", "0", "--control-port", "0"]
        super().__init__("simulator", [*ports, *arguments], {}, log)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the simulator did not start: {log.read_text()}"
        ready = json.loads(line)
        self.port: int = ready["port"]
        self.portal_port: int = ready["portalPort"]
        self.control = httpx.Client(base_url=f"http://127.0.0.1:{ready['controlPort']}", timeout=30)

    def fault(self, name: str, seconds: float | None = None, **more: Any) -> None:
        """Begins a fault."""
        body = {"fault": name, **({"seconds": seconds} if seconds else {}), **more}
        self.control.post("/faults", json=body).raise_for_status()

    def clear(self, name: str = "") -> None:
        """Ends one fault, or all."""
        self.control.delete(f"/faults/{name}".rstrip("/")).raise_for_status()

    def advance(self, seconds: float) -> None:
        """Winds its clock."""
        self.control.post("/clock", json={"advance": seconds}).raise_for_status()

    def book(self) -> dict[str, Any]:
        """Its own record."""
        found: dict[str, Any] = self.control.get("/book").json()
        return found

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Ends it."""
        self.control.close()
        return super().stop(number, seconds)


class BridgeProcess(Process):
    """`python -m bridge` on a free port, with an admin key."""

    MODULE = "bridge"

    def __init__(self, folder: Path, tws_port: int, **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        key_file = folder / "admin.key"
        key_file.write_text(ADMIN_KEY)
        key_file.chmod(0o600)
        listen = env.pop("BRIDGE_LISTEN", "127.0.0.1:0")
        variables = {
            "BRIDGE_LISTEN": listen,
            "BRIDGE_TWS_PORT": str(tws_port),
            "BRIDGE_DATA_DIR": str(folder / "data"),
            "BRIDGE_ADMIN_KEY_FILE": str(key_file),
            **env,
        }
        super().__init__(self.MODULE, [], variables, folder / "bridge.log")
        self.folder = folder
        self.url = f"http://127.0.0.1:{self._port()}"
        self.client = httpx.Client(
            base_url=self.url, headers={"X-API-KEY": ADMIN_KEY}, timeout=20, trust_env=False
        )

    def _port(self) -> int:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            for event in reversed(self.events()):
                if event.get("event") == "listening":
                    return int(event["port"])
            time.sleep(0.02)
        super().stop()
        raise AssertionError(f"the bridge did not start: {self.log.read_text()}")

    def events(self) -> list[dict[str, Any]]:
        """Its log lines so far."""
        whole, _, _ = self.log.read_bytes()[self._earlier :].rpartition(b"\n")
        lines = whole.decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def get(self, path: str, **params: Any) -> httpx.Response:
        """One GET with the admin key."""
        return self.client.get(path, params=params)

    def health(self) -> dict[str, Any]:
        """`/health`."""
        answer = self.get("/health")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_for(self, state: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The health once it has that state."""
        deadline = time.monotonic() + seconds
        while (health := self.health())["state"] != state:
            assert time.monotonic() < deadline, f"still {health['state']}, not {state}: {health}"
            time.sleep(0.02)
        return health

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Ends it."""
        self.client.close()
        return super().stop(number, seconds)
