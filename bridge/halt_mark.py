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

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

NAME: Final = "trading.halt"
_MOST_BYTES: Final = 8192


def write(folder: Path, said: dict[str, Any]) -> None:
    """Leaves the mark, whole or not at all; a restart of the process finds it from here on.

    Raises:
        OSError: it cannot be left; an earlier mark stays.
    """
    partial = folder / f"{NAME}.new"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, json.dumps(said).encode())
        finally:
            os.close(descriptor)
        partial.rename(folder / NAME)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def leave_empty(folder: Path) -> None:
    """Leaves a mark without a word: it needs no room for one. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    os.close(os.open(folder / NAME, flags, 0o600))


def sync(folder: Path) -> None:
    """Brings the mark to the disk, so that it outlives a power cut. Raises OSError."""
    for path in (folder / NAME, folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(folder: Path) -> dict[str, Any] | None:
    """What the mark says, nothing when it cannot be read; None: there is no mark."""
    try:
        with (folder / NAME).open("rb") as file:
            said = json.loads(file.read(_MOST_BYTES))
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
