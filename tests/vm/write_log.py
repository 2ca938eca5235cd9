"""What a machine wrote to its disk, in order, and the disk as a power cut at any moment leaves it.

QEMU's `blklogwrites` writes the log in the format of the kernel's dm-log-writes: a superblock, then
for each request a sector with `sector, sectors, flags, length` and its data.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC, SECTOR = 0x6A736677736872, 512
FLUSH, FUA, DISCARD = 1, 2, 4


class Write(NamedTuple):
    """One request: where on the disk, and where its data lies in the log."""

    sector: int
    sectors: int
    flags: int
    offset: int

    @property
    def end(self) -> int:
        """Where in the log it ends."""
        return self.offset + (0 if self.flags & DISCARD else self.sectors * SECTOR)


def requests(log: BinaryIO, until: int) -> Iterator[Write]:
    """The requests that lie in the log whole before the offset `until`."""
    log.seek(0)
    magic, version, _, size = struct.unpack("<QQQI", log.read(28))
    if (magic, version, size) != (MAGIC, 1, SECTOR):
        raise ValueError("this is no log of writes")
    at = SECTOR
    while at + SECTOR <= until:
        log.seek(at)
        sector, sectors, flags, _ = struct.unpack("<QQQQ", log.read(32))
        found = Write(sector, sectors, flags, at + SECTOR)
        if found.end > until or (not sectors and not flags):
            return
        yield found
        at = found.end


class Disk:
    """A raw disk that follows the log, up to the last moment at which all was asked to be kept."""

    def __init__(self, disk: Path, log: Path) -> None:
        self._disk = disk.open("r+b")
        self._log = log.open("rb")
        self._written = 0

    def cut(self, until: int, choice: random.Random) -> list[Write]:
        """Brings the disk to a power cut at this offset of the log; what was lost.

        Later cuts only. A disk's own cache may keep all, nothing or any part of what came after
        the last flush: `choice` says which. What it kept is on the disk after `keep`.
        """
        waiting: list[Write] = []
        for one in requests(self._log, until):
            if one.end <= self._written:
                continue
            if one.flags & FLUSH:
                for earlier in waiting:
                    self._put(self._disk, earlier)
                waiting.clear()
                self._written = one.end
            if one.sectors and not one.flags & DISCARD:
                waiting.append(one)
        self._disk.flush()
        share = choice.choice((0.0, 0.5, 1.0))
        self.kept = [one for one in waiting if one.flags & FUA or choice.random() < share]
        return [one for one in waiting if one not in self.kept]

    def keep(self, copy: Path) -> None:
        """Writes onto a copy of the disk what its cache kept of the last seconds."""
        with copy.open("r+b") as file:
            for one in self.kept:
                self._put(file, one)

    def _put(self, file: BinaryIO, one: Write) -> None:
        self._log.seek(one.offset)
        file.seek(one.sector * SECTOR)
        file.write(self._log.read(one.sectors * SECTOR))

    def close(self) -> None:
        """Closes both."""
        self._disk.close()
        self._log.close()
