"""What an earlier command has worked out, kept in the user's cache folder for the next one.

Pure results only: each lies under a digest of all that it was made of, the program's own sources
included, so that it is either the very same or not found. It is always safe to delete. A file that
is damaged, or that somebody else could have written, counts as not there; and where nothing can be
kept, nothing is. Commands that only look do so inside `used`; the others work everything out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FORMAT = b"1"
MOST_FILES = 64
BIGGEST = 1_000_000
"""Bytes of one result: what is bigger is worked out anew."""
SOURCES = ("infrastructure", "bridge")
"""Folders of the sources that results are made by."""


_made_by: bytes | None = None


@contextlib.contextmanager
def used() -> Iterator[None]:
    """For the length of the block results are looked for and kept.

    It has to begin before the modules are loaded that make them: a source that is changed in
    between would be told from the one that was loaded.
    """
    global _made_by
    _made_by = sources()
    try:
        yield
    finally:
        _made_by = None


def in_use() -> bool:
    """Whether this is inside such a block."""
    return _made_by is not None


def folder() -> Path:
    """`gangway` in the user's cache folder; RuntimeError when the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given if given.startswith("/") else "~/.cache").expanduser() / "gangway"


def key(kind: str, *parts: bytes) -> str:
    """The name of a result of this kind that is made of these parts, and by these sources."""
    if _made_by is None:
        raise RuntimeError("results are kept inside `used` only")
    digest = hashlib.sha256(FORMAT)
    for part in (_made_by, kind.encode(), *parts):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return f"{kind}-{digest.hexdigest()[:48]}"


def once(kind: str, parts: Sequence[bytes], work: Callable[[], Any]) -> Any:
    """What `work` gives, a JSON value; inside `used` it works only where nothing was kept."""
    if not in_use():
        return work()
    name = key(kind, *parts)
    found = fetch(name)
    if found is None:
        found = work()
        keep(name, found)
    return found


def fetch(name: str) -> Any:
    """What was kept under this name; None when there is nothing that can be used."""
    with contextlib.suppress(OSError, ValueError, RuntimeError, RecursionError):
        content = _read(folder() / name)
        checksum, _, text = content.partition(b"\n")
        if checksum == hashlib.sha256(text).hexdigest().encode():
            return json.loads(text)
    return None


def keep(name: str, value: Any) -> None:
    """Keeps a result; a folder that cannot be written to is no error."""
    text = json.dumps(value, separators=(",", ":")).encode()
    if len(text) > BIGGEST:
        return
    with contextlib.suppress(OSError, RuntimeError):
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _ours(place.lstat()):
            return
        temporary = place / f".{name}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        temporary.replace(place / name)
        _tidy(place)


def sources() -> bytes:
    """What tells these sources, their Python, its packages and time zones from any others.

    By the files' times, sizes and numbers: Python itself asks for no more before it takes a module
    that it has compiled before.
    """
    from zoneinfo import TZPATH

    digest = hashlib.sha256(sys.version.encode())
    packages = [path for path in sys.path if path.endswith("-packages")]
    for path in (*packages, *TZPATH):
        with contextlib.suppress(OSError):
            _mark(digest, path, os.stat(path))  # noqa: PTH116 - hundreds of them, and quickly
    for name in SOURCES:
        for path, status in _modules(str(PROJECT / name)):
            _mark(digest, path, status)
    return digest.digest()


def _mark(digest: Any, path: str, status: os.stat_result) -> None:
    times = status.st_mtime_ns, status.st_ctime_ns
    digest.update(repr((path, status.st_ino, status.st_size, *times)).encode())


def _modules(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.endswith(".py"):
            yield entry.path, entry.stat()
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from _modules(entry.path)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not _ours(os.fstat(descriptor)) or not _ours(path.parent.lstat()):
            raise ValueError("somebody else could have written it")
        return file.read(2 * BIGGEST)


def _ours(status: os.stat_result) -> bool:
    """Whether only we can have written it."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _tidy(place: Path) -> None:
    """Takes the oldest away where there are too many."""
    found = sorted(place.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
    for path in found[MOST_FILES:]:
        path.unlink(missing_ok=True)
