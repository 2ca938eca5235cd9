"""A share of one core for some processes, as a small VM gives it (cgroups, version 1 or 2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PERIOD: Final = 100_000
"""Microseconds in which the share is given out."""


@contextmanager
def share_of_a_core(share: float) -> Iterator[tuple[str, ...]]:
    """A command to put before another, so that it and its children have that share together.

    Raises:
        OSError: groups of processes cannot be made here (it takes root).
    """
    folder = _group()
    folder.mkdir()
    try:
        quota = int(share * PERIOD)
        if (folder / "cpu.max").exists():
            (folder / "cpu.max").write_text(f"{quota} {PERIOD}")
        else:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD))
            (folder / "cpu.cfs_quota_us").write_text(str(quota))
        yield ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs"))
    finally:
        folder.rmdir()


def _group() -> Path:
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return top / f"gangway-{os.getpid()}"
    return top / "cpu" / f"gangway-{os.getpid()}"
