"""The page on the simulator tells of every message, fault and option that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from simulator.faults import NAMES
from simulator.tws.server import load

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "simulator.md").read_text()


def test_every_message_is_listed() -> None:
    table = PAGE.partition("## Messages")[2]
    cells = re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE)
    listed = [int(each) for cell in cells for each in cell.split(",")]
    assert sorted(listed) == sorted(load())


def test_every_fault_is_listed() -> None:
    table = PAGE.partition("## Faults")[2].partition("A scenario")[0]
    assert {name for name in NAMES if f"`{name}`" not in table} == set()


def test_every_option_is_listed() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "simulator", "--help"], capture_output=True, text=True, check=True
    ).stdout
    options = set(re.findall(r"--[a-z-]+", shown)) - {"--help"}
    table = PAGE.partition("## Options")[2].partition("## Faults")[0]
    assert {option for option in options if option not in table} == set()
