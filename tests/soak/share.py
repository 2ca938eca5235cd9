"""A share of one core for some processes, as a small VM gives it (cgroups, version 1 or 2)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PERIOD: Final = 100_000
"""Microseconds in which the share is given out."""
TOP: Final = Path("/sys/fs/cgroup")
GONE_WITHIN: Final = 20.0
"""Seconds in which the kernel has to forget processes that have ended."""


@dataclass(frozen=True)
class Group:
    """Processes that are held to a share; `before` is put before a command to make it one.

    `parent` is what a container engine takes as `--cgroup-parent`.
    """

    parent: str
    before: tuple[str, ...]


@contextmanager
def share_of_a_core(share: float, megabytes: int | None = None) -> Iterator[Group]:
    """A group whose processes, their children and containers have that share together.

    `megabytes` is the memory that they have together.

    Raises:
        OSError: groups of processes cannot be made here (it takes root).
    """
    name = f"gangway-{os.getpid()}"
    unified = (TOP / "cgroup.controllers").exists()
    made = _unified(name) if unified else [TOP / "cpu" / name]
    if megabytes and not unified:
        made.append(TOP / "memory" / name)
    for folder in made:
        folder.mkdir()
    try:
        _limit(made[0], int(share * PERIOD))
        if megabytes:
            memory = "memory.max" if unified else "memory.limit_in_bytes"
            (made[0 if unified else 1] / memory).write_text(str(megabytes * 2**20))
        # In version 2 only a group without groups in it has processes.
        joined = made[1:] if unified else made
        join = "".join(f"echo $$ > {folder}/cgroup.procs && " for folder in joined)
        yield Group(f"/{name}", ("sh", "-c", join + 'exec "$0" "$@"'))
    finally:
        for top in (TOP, *TOP.iterdir()):
            _remove(top / name)


def _unified(name: str) -> list[Path]:
    return [TOP / name, TOP / name / "processes"]


def _limit(folder: Path, quota: int) -> None:
    if (folder / "cpu.max").exists():
        (folder / "cpu.max").write_text(f"{quota} {PERIOD}")
    else:
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD))
        (folder / "cpu.cfs_quota_us").write_text(str(quota))


def _remove(folder: Path) -> None:
    """With the groups that an engine left in it; one stays busy for a moment after its last."""
    if not folder.is_dir():
        return
    for inner in folder.iterdir():
        _remove(inner)
    until = time.monotonic() + GONE_WITHIN
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
