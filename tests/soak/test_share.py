"""The group that the slow-machine runs are held by does hold, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.soak.share import TOP, share_of_a_core

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(TOP, os.W_OK),
    reason="groups of processes cannot be made here (root, cgroups)",
)
SPIN = """
import time
end = time.monotonic() + 1
while time.monotonic() < end:
    pass
print(time.process_time())
"""


def test_a_command_and_its_children_have_the_share_together() -> None:
    with share_of_a_core(0.2, 256) as group:
        command = [*group.before, "sh", "-c", 'python3 -c "$0"', SPIN]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout) <= 0.6, "a second on a fifth of a core"


def test_what_an_engine_leaves_in_the_group_goes_with_it() -> None:
    with share_of_a_core(0.5) as group:
        folder = _groups(group.parent)[0]
        (folder / "left" / "inside").mkdir(parents=True)
    until = time.monotonic() + 10
    while (left := _groups(group.parent)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def _groups(name: str) -> list[Path]:
    return [path for top in (TOP, *TOP.iterdir()) if (path := top / name[1:]).exists()]
