"""Files that a person names: read within bounds of time and memory, written only where none is.

`content` and `text` raise OSError with a `strerror` for people, where the caller has more to say;
what the command line names is `given`, and comes to `write_new`: they raise UsageError.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import tempfile
from pathlib import Path

from infrastructure.errors import UsageError

WAITED = 60.0
"""Seconds of silence; who writes to a pipe, such as `<(op read …)`, may have to ask a person."""
BIGGEST = 16 << 20
"""Bytes of anything that is no backup."""


def expanded(name: str | Path) -> Path:
    """The path with `~` as its user's home; as it stands when there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def content(path: str | Path, *, at_most: int = BIGGEST, pipes: bool = True) -> bytes:
    """All of a file.

    Args:
        path: a file; or a pipe, on whose other end somebody writes.
        at_most: bytes; a device such as /dev/zero has no end.
        pipes: whether it may be one. What is read more than once must not: it is empty afterwards.

    Raises:
        OSError: it cannot be read, is too long, or nothing came through the pipe.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        mode = os.fstat(descriptor).st_mode
        plain = stat.S_ISREG(mode)
        if not plain and not pipes:
            raise OSError(errno.EINVAL, "it is a pipe or a device, no plain file", str(path))
        found = bytearray()
        while len(found) <= at_most:
            if not plain:
                _await(descriptor, path)
            chunk = file.read(1 << 20)
            if chunk == b"":
                return bytes(found)
            found += chunk or b""
    raise OSError(errno.EFBIG, f"it has more than {at_most >> 20} MB", str(path))


def _await(descriptor: int, path: str | Path) -> None:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    if not waiting.poll(WAITED * 1000):
        silent = f"nothing came through it in {WAITED:g} seconds"
        raise OSError(errno.ETIMEDOUT, silent, str(path))


def text(path: str | Path, *, encoding: str = "utf-8", pipes: bool = True) -> str:
    """The same as text; what is not raises OSError, too."""
    try:
        return content(path, pipes=pipes).decode(encoding)
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "it is no UTF-8 text", str(path)) from None


def given(path: Path, *, at_most: int = BIGGEST) -> bytes:
    """`content` of a file that the command line names; UsageError when it cannot be had."""
    try:
        return content(expanded(path), at_most=at_most)
    except OSError as error:
        raise _unreadable(path, error) from None


def given_text(path: Path) -> str:
    """`text` of one; UsageError when it cannot be had."""
    try:
        return text(expanded(path))
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot read {path}: {error.strerror}", hint="a file that is there, and that you may read"
    )


def refuse_existing(path: Path) -> None:
    """UsageError for a name that is taken or has no folder, before any work is done for it."""
    if os.path.lexists(path):
        raise UsageError(
            f"{path} is there already", hint="choose another name; nothing is written over"
        )
    if not os.path.isdir(path.parent):  # noqa: PTH112 - it raises nothing
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}", hint="make it")


def write_over(path: Path, written: bytes, *, once: bool = False) -> None:
    """A file of its owner's alone, whole and on the disk; until then an earlier one stays.

    `once`: one that has come meanwhile stays for good, and this one is not written.

    Raises:
        OSError: it cannot be written.
    """
    from infrastructure.apply.host.store import sync_folder

    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        if once and _stands(path, fresh):
            Path(fresh).unlink()
        else:
            Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _stands(path: Path, fresh: str) -> bool:
    """Whether a file has this name now, this one or one that came before it."""
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return path.exists()  # else it is a link to nowhere
    except OSError:  # a disk without links
        return False
    return True


def write_new(path: Path, written: bytes) -> None:
    """A new file of its owner's, whole and on the disk; UsageError when it cannot be."""
    from infrastructure.apply.host.store import sync_folder

    refuse_existing(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(written)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink()  # half of it is none, and its name is free again
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint="choose another place"
        ) from None
