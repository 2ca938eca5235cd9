"""The private engine's daemon as a process that is killed and started again.

As `prepare` sets an engine up, containers survive its restarts (`live-restore`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.engine.parts.engine import ENGINE_HOME, docker
from tests.engine.parts.stack import PROJECT

SURVIVING: Final = "--live-restore"
RESTARTS_AFTER: Final = 2.0
"""Seconds after which systemd starts an engine again that was killed (docker.service)."""


class EngineProcess:
    """dockerd, its containerd, and how they are started anew."""

    def __init__(self) -> None:
        self._command = _command(self.pid)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return int((ENGINE_HOME / "docker.pid").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends dockerd, and with it its containerd."""
        pid = self.pid
        os.kill(pid, number)
        if self._child is not None:
            self._child.wait(60)
            self._child = None
        deadline = time.monotonic() + 60
        while Path(f"/proc/{pid}/exe").exists():
            assert time.monotonic() < deadline, "dockerd does not end"
            time.sleep(0.05)

    def start(self, *more: str) -> None:
        """Starts it, and waits until it answers."""
        for left in ("docker.pid", "docker.sock", "exec/containerd/containerd.pid"):
            (ENGINE_HOME / left).unlink(missing_ok=True)
        with (ENGINE_HOME / "docker.log").open("ab") as log:
            self._child = subprocess.Popen(
                [*self._command, *more],
                # With COLUMNS it would cut the lines of `docker top`.
                env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not docker("version", "--format", "{{.Server.Version}}", check=False):
            assert time.monotonic() < deadline, "dockerd does not start"
            time.sleep(0.2)

    def containerd(self) -> int:
        """The pid of its containerd."""
        tasks = [path.parent for path in Path(f"/proc/{self.pid}/task").glob("*/children")]
        children = [pid for task in tasks for pid in (task / "children").read_text().split()]
        return next(int(pid) for pid in children if _name(pid) == "containerd")


def _name(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _command(pid: int) -> list[str]:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return [word.decode() for word in words if word]


@contextlib.contextmanager
def surviving_engine() -> Iterator[EngineProcess]:
    """The engine as `prepare` sets it up; in the end it is as it was, without any container."""
    engine = EngineProcess()
    engine.stop()
    engine.start(SURVIVING)
    try:
        yield engine
    finally:
        engine.stop()
        subprocess.run([str(PROJECT / "scripts/engine"), "start"], check=True, timeout=180)
