"""Files in folders that containers write to, read by root. Runs on the host: Python 3.9.

What has a folder of the stack's data mounted can leave a link there to any file of the host's, or a
pipe in which nobody ever writes.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ANOTHER = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.ENXIO)
"""How a system refuses a link, something else instead of a folder, or a socket."""


def opened(folder: Path, name: str) -> BinaryIO:
    """A plain file below a folder; no part of its name may be a link, and no pipe is waited for.

    Raises:
        FileNotFoundError: there is no plain file of this name, or no more.
        OSError: it cannot be read.
    """
    descriptor = _descriptor(folder, PurePosixPath(name).parts, str(folder / name))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _none(str(folder / name))
    return os.fdopen(descriptor, "rb")


def end_of(folder: Path, name: str, most: int) -> str:
    """The last bytes of such a file as text, `most` of them; raises as `opened`."""
    with opened(folder, name) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most).decode("utf-8", "replace")


def beginning_of(folder: Path, name: str, most: int) -> str:
    """The first bytes of such a file as text, `most` of them; raises as `opened`."""
    with opened(folder, name) as file:
        return file.read(most).decode("utf-8", "replace")


def _descriptor(folder: Path, parts: tuple[str, ...], shown: str) -> int:
    at = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(parts[-1], _FILE, dir_fd=at)
    except OSError as error:
        if error.errno in _ANOTHER:
            raise _none(shown) from None
        raise
    finally:
        os.close(at)


def _none(shown: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "there is no plain file", shown)
