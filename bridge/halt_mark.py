"""The mark that a halt leaves outside the journal: the file `trading.halt` in the data folder.

Whoever can write in the folder can halt: a bridge that finds the file starts halted, a running one
looks at it before each send. It is JSON, and every member may be missing:

    {"since": "2026-02-13T14:30:00Z", "by": "host", "reason": "text", "cancel": "none",
     "allowClosing": false}

`cancel` says which open orders the bridge cancels: `none`, `opening`, `own` or `all`. A file that
cannot be read, an empty one for instance, halts as well, and cancels nothing. Standard library
only: a deploy writes and removes the same file on the host when the bridge does not answer.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

NAME: Final = "trading.halt"
_MOST_BYTES: Final = 8192


def write(folder: Path, said: dict[str, Any], owner: tuple[int, int] | None = None) -> None:
    """Leaves the mark, whole or not at all; a restart of the process finds it from here on.

    `owner`: user and group that it is given. Root leaves it in a folder that the bridge's user owns
    and may have links in: none is followed.

    Raises:
        OSError: it cannot be left; an earlier mark stays.
    """
    _leave(folder, json.dumps(said).encode(), owner)


def leave_empty(folder: Path, owner: tuple[int, int] | None = None) -> None:
    """Leaves a mark without a word: it needs no room for one. Raises OSError.

    An earlier mark stays. What only has its name, such as a link that leads nowhere, halts nobody:
    a mark takes its place.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISREG((folder / NAME).lstat().st_mode):
            return
    _leave(folder, b"", owner)


def _leave(folder: Path, content: bytes, owner: tuple[int, int] | None) -> None:
    partial = folder / f"{NAME}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        partial.unlink()
    descriptor = os.open(partial, flags, 0o600)
    try:
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))
            if owner is not None:
                os.fchown(descriptor, *owner)
        finally:
            os.close(descriptor)
        partial.rename(folder / NAME)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def sync(folder: Path) -> None:
    """Brings the mark to the disk, so that it outlives a power cut. Raises OSError."""
    for path in (folder / NAME, folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(folder: Path) -> dict[str, Any] | None:
    """What the mark says, nothing when it cannot be read; None: there is no mark."""
    try:
        # A pipe of this name halts as well, and nobody waits for what it may say.
        descriptor = os.open(folder / NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            said = json.loads(os.read(descriptor, _MOST_BYTES))
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def look(folder: Path) -> tuple[int, int, int] | None:
    """What tells one mark from another, for a few microseconds; None: there is no mark.

    Raises:
        OSError: it cannot be told whether there is one.
    """
    try:
        status = os.stat(f"{folder}/{NAME}")  # noqa: PTH116 - before each send; a Path takes thrice
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def remove(folder: Path) -> None:
    """Takes the mark away; harmless when there is none. Raises OSError."""
    with suppress(FileNotFoundError):
        (folder / NAME).unlink()
