"""A simulator in a process of its own, and independent clients in theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-conformance"
SCRIPTS = Path(__file__).parent / "clients"
ALL_GROUPS = (
    *("session", "selftest", "contracts", "market", "history"),
    *("orders", "executions", "account", "others", "faults"),
)
SECONDS = 100
MIDDAY = "--start=2026-11-24T11:00:00-05:00"
"""A moment at which everything is traded: at a weekend, a bar may not change for half an hour."""


def absent(reason: str) -> NoReturn:
    """Skip what cannot run here; it fails when GANGWAY_REQUIRE lists `clients`."""
    if "clients" in os.environ.get("GANGWAY_REQUIRE", "").split(","):
        pytest.fail(f"GANGWAY_REQUIRE asks for clients: {reason}")
    pytest.skip(reason)


@dataclass(frozen=True)
class Client:
    """One independent client: its environment, its script, and what it speaks at most."""

    name: str
    environment: str
    version: int
    script: str = "official.py"
    before: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """What runs it; skips the test when its environment is not there."""
        folder = ENVIRONMENTS / self.environment
        if not (folder / ".gangway").exists():
            absent(f"no client {self.name} in {folder.name}: run scripts/conformance-envs")
        if self.script.endswith(".cjs"):
            node = shutil.which("node")
            if node is None:
                absent(f"{self.name} needs node: install nodejs and npm")
            return [node, str(SCRIPTS / self.script), str(folder)]
        return [str(folder / "bin/python"), str(SCRIPTS / self.script), *self.before]


CLIENTS = (
    Client("ib_insync 0.9.86", "ib-insync", 176, "insync.py", ("ib_insync",)),
    Client("ib_async", "ib-async", 178, "insync.py", ("ib_async",)),
    Client("ibapi 9.81.1", "ibapi-9.81", 157),
    Client("ibapi-latest", "ibapi-latest", 178),
    Client("@stoqey/ib", "stoqey", 178, "stoqey.cjs"),
)


@dataclass(frozen=True)
class Gateway:
    """A running simulator."""

    port: int
    control: int

    def book(self) -> dict[str, Any]:
        """Its own record."""
        with urlopen(f"http://127.0.0.1:{self.control}/book") as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def gateway(*options: str) -> Iterator[Gateway]:
    """Run a simulator on free ports."""
    ports = [f"--{each}=0" for each in ("port", "portal-port", "control-port", "rate-limit")]
    command = [sys.executable, "-m", "simulator", *ports, MIDDAY, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield Gateway(ready["port"], ready["controlPort"])
        finally:
            process.terminate()
    assert process.returncode == 0


def run(client: Client, at: Gateway, groups: tuple[str, ...], *versions: int) -> list[Any]:
    """Let a client do its groups, once for each of the server versions given."""
    wanted = [str(at.port), "7", ",".join(groups), *map(str, versions)]
    done = subprocess.run(
        [*client.command(), *wanted],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "CONTROL_PORT": str(at.control)},
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found
