"""How long this machine has kept programs waiting. Standard library, Python 3.9.

The kernel counts it (pressure stall information, Linux 4.20): for a processor, the disk, memory.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("/proc/pressure")
KINDS = ("cpu", "io", "memory")


def stalled(folder: Path = FOLDER) -> dict[str, float]:
    """Seconds since the machine started in which some program waited, by what it waited for.

    Empty where the kernel does not count.
    """
    found = {}
    for kind in KINDS:
        try:
            some = (folder / kind).read_text().splitlines()[0]
            found[kind] = int(some.rpartition("total=")[2]) / 1e6
        except (OSError, ValueError, IndexError):
            continue
    return found
