"""A sandbox of its own for tests: brought up by the real command, in a folder of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sandbox:
    """One sandbox; commands run as a person would run them."""

    folder: Path
    project: Path = PROJECT

    @property
    def base(self) -> Path:
        return self.folder / "sandbox"

    @property
    def ports(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.base / "ports.json").read_text())
        return found

    @property
    def key(self) -> str:
        return (self.base / "secrets" / "bridge-admin-key").read_text().strip()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports['bridge']}"

    def deploy(self, *arguments: str, seconds: float = 90) -> subprocess.CompletedProcess[str]:
        """`./deploy.py ARGUMENTS` on this sandbox."""
        return subprocess.run(
            [sys.executable, str(self.project / "deploy.py"), *arguments],
            cwd=self.folder,
            env={**os.environ, "GANGWAY_SANDBOX_DIR": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def on_terminal(self, *arguments: str, columns: int = 80) -> str:
        """The same on a terminal of its own; what it showed."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        with subprocess.Popen(
            [sys.executable, str(self.project / "deploy.py"), *arguments],
            cwd=self.folder,
            env={
                **{name: value for name, value in os.environ.items() if name != "COLUMNS"},
                "GANGWAY_SANDBOX_DIR": str(self.folder),
                "PYTHONUTF8": "1",
            },
            stdin=slave,
            stdout=slave,
            stderr=slave,
            close_fds=True,
        ) as process:
            os.close(slave)
            shown = b""
            with suppress(OSError):  # how a terminal says that its last program has ended
                while chunk := os.read(master, 4096):
                    shown += chunk
            os.close(master)
            assert process.wait(30) == 0, shown
        return shown.decode().replace("\r\n", "\n")

    def get(self, path: str, *, key: str | None = None) -> Any:
        """A GET from the bridge with the admin key."""
        request = urllib.request.Request(
            f"{self.address}{path}", headers={"X-API-KEY": key or self.key}
        )
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """A POST to the bridge with the admin key and an idempotency key of its own."""
        headers = {
            "X-API-KEY": self.key,
            "Content-Type": "application/json",
            "Idempotency-Key": uuid.uuid4().hex,
        }
        request = urllib.request.Request(
            f"{self.address}{path}", json.dumps(body).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)

    def put(self, path: str, body: dict[str, Any]) -> Any:
        """A PUT to the bridge with the admin key."""
        headers = {"X-API-KEY": self.key, "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.address}{path}", json.dumps(body).encode(), headers, method="PUT"
        )
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)

    def resume(self) -> None:
        """Lets orders through again, whatever halted trading."""
        request = urllib.request.Request(
            f"{self.address}/trading/halt", headers={"X-API-KEY": self.key}, method="DELETE"
        )
        with urllib.request.urlopen(request, timeout=15) as answer:
            answer.read()

    def fault(self, name: str | None, seconds: float | None = None) -> None:
        """Starts a fault of the simulator, or ends all."""
        address = f"http://127.0.0.1:{self.ports['control']}/faults"
        body = None if name is None else json.dumps({"fault": name, "seconds": seconds}).encode()
        request = urllib.request.Request(address, body, method="DELETE" if name is None else "POST")
        with urllib.request.urlopen(request, timeout=15) as answer:
            answer.read()


@contextmanager
def running(folder: Path) -> Iterator[Sandbox]:
    """A sandbox that is up; it goes down also when it did not come up whole."""
    found = Sandbox(folder)
    try:
        done = found.deploy("up")
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        down = found.deploy("down")
    assert down.returncode == 0, down.stderr
