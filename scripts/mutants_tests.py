"""Runs tests for scripts/mutants.py, each time in a fork of this process; runs with .venv.

What no mutant changes, pytest and the libraries, is loaded once: most of the time of a short run.
Each line of its input is a JSON object, and gets one as its answer:

    {"arguments": [...], "seconds": 40.0, "keep": false}    pytest's; `keep`: may write .pyc files
    {"code": 1, "failed": ["tests/x.py::test_y"]}           `code`: pytest's; None: it took too long
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

TREE = Path.cwd()


class Noted:
    """Keeps which tests failed, and what is loaded when all were collected."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.loaded: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest for each part of a test."""
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)

    def pytest_collection_finish(self) -> None:
        """Called by pytest when it knows every test."""
        self.loaded = [
            name
            for name, module in list(sys.modules.items())
            if (place := getattr(module, "__file__", None)) and not is_ours(place)
        ]


def is_ours(place: str) -> bool:
    """Whether a module lies in the tree, where a mutant may change it."""
    return Path(place).is_relative_to(TREE)


def child(arguments: list[str], answer: int, *, keep: bool) -> None:
    """One run of pytest; what came of it goes to the descriptor `answer`."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    if not keep:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    noted = Noted()
    code = int(pytest.main(arguments, plugins=[noted]))
    found = {"code": code, "failed": noted.failed, "loaded": noted.loaded}
    with os.fdopen(answer, "w") as to:
        json.dump(found, to)


def run(arguments: list[str], seconds: float, *, keep: bool) -> dict[str, Any]:
    """The answer of a fork; `code` is None when it took longer."""
    reads, writes = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reads)
        try:
            child(arguments, writes, keep=keep)
        finally:
            os._exit(0)
    os.close(writes)
    said, until = b"", time.monotonic() + seconds
    late = False
    with os.fdopen(reads, "rb", buffering=0) as source:
        while True:
            ready, _, _ = select.select([source], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                late = True
                break
            if not (piece := source.read(1 << 16)):
                break
            said += piece
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # with what its tests have left running
    os.waitpid(process, 0)
    if late:
        return {"code": None, "failed": []}
    return dict(json.loads(said)) if said else {"code": 3, "failed": []}  # it crashed


def load(names: list[str]) -> None:
    """What the tests will need, but for what is ours and what hooks into pytest by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name not in sys.modules and not name.startswith(("__", "conftest", "xdist.")):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)


def main() -> None:
    """Answers until its input ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        found = run(asked["arguments"], asked["seconds"], keep=asked["keep"])
        load(found.pop("loaded", []))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
