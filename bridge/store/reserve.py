"""Room on the disk that is given up for a halt or a cancel, and for nothing else."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE_NAME: Final = "journal.reserve"
RESERVE_BYTES: Final = 512 * 1024
_ROOM_BEFORE: Final = 4 * RESERVE_BYTES
"""So much must be free before room is taken, so that taking it is not what fills the disk."""


def free_bytes(folder: Path) -> int:
    """What the bridge may still write there. Raises OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class Reserve:
    """A file of some size in the data folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME

    def keep(self) -> bool:
        """Takes the room when there is enough; whether it is held."""
        try:
            if self._file.exists():
                return True
            if free_bytes(self._file.parent) < _ROOM_BEFORE:
                return False
            partial = self._file.with_name(f"{FILE_NAME}.new")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(partial, flags, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
            partial.rename(self._file)
        except OSError:
            with suppress(OSError):
                self._file.with_name(f"{FILE_NAME}.new").unlink()
            return False
        return True

    def give_up(self) -> bool:
        """Gives the room back to the disk; False when there was none to give."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True
