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
PIECES = (1, 8)
"""Sectors that a disk writes whole or not at all: of 512 bytes, or of 4 KiB."""


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


class Cut(NamedTuple):
    """What a power cut took of the requests after the last flush: of some all, of some a part."""

    lost: list[Write]
    torn: list[Write]


def pieces(one: Write, size: int) -> list[Write]:
    """A request in parts of at most `size` sectors, as they lie on the disk."""
    found, at = [], one.sector
    while at < one.sector + one.sectors:
        ends = min(one.sector + one.sectors, (at // size + 1) * size)
        found.append(Write(at, ends - at, one.flags, one.offset + (at - one.sector) * SECTOR))
        at = ends
    return found


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

    def cut(self, until: int, choice: random.Random) -> Cut:
        """Brings the disk to a power cut at this offset of the log; what was lost and torn.

        Later cuts only. A disk's own cache may keep all, nothing or any part of what came after
        the last flush, of each request all, nothing or any of its sectors: `choice` says which.
        What it kept is on the disk after `keep`.
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
        share, tears = choice.choice((0.0, 0.5, 1.0)), choice.choice((0.0, 0.3, 1.0))
        size = choice.choice(PIECES)
        self.kept = []
        cut = Cut([], [])
        for one in waiting:
            parts = pieces(one, size)
            if one.flags & FUA:
                self.kept.append(one)
            elif len(parts) > 1 and choice.random() < tears:
                some = choice.sample(parts, choice.randrange(1, len(parts)))
                self.kept += some
                cut.torn.append(one)
            elif choice.random() < share:
                self.kept.append(one)
            else:
                cut.lost.append(one)
        return cut

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
