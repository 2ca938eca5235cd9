"""A disk whose syncs take longer, for the processes that are started with its environment."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_suffix(".c")


class SlowDisk:
    """`environment` makes a process have it; `syncs` is how often such processes have synced."""

    def __init__(self, library: Path, counter: Path, seconds: float) -> None:
        self._counter = counter
        self.environment = {
            "LD_PRELOAD": str(library),
            "SYNC_COUNT": str(counter),
            "SYNC_MICROSECONDS": str(int(seconds * 1e6)),
        }

    @property
    def syncs(self) -> int:
        return int.from_bytes(self._counter.read_bytes()[:8], "little")


@contextmanager
def slow_disk(seconds: float) -> Iterator[SlowDisk]:
    """Each sync takes `seconds` longer; gcc has to be there."""
    with TemporaryDirectory(prefix="gangway-disk-") as folder:
        library, counter = Path(folder, "slow_disk.so"), Path(folder, "syncs")
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        counter.write_bytes(bytes(8))
        yield SlowDisk(library, counter, seconds)
