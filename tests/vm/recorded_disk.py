"""A file system of this machine whose writes are recorded, without a virtual machine.

This program shows a file over FUSE, and writes down what is written to it, as `write_log` reads it;
a loop device lies over the shown file, ext4 over that. What is asked to be on the disk (fsync)
comes to it as a flush. One request is answered after the other. (QEMU's FUSE export with
`blklogwrites` would do the same, but takes the next request into the buffer of the one before.)
Root and Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.vm.write_log import DISCARD, FLUSH, MAGIC, SECTOR, requests

SIZE = 64 * 1024 * 1024
PROGRAMS = ("losetup", "mkfs.ext4", "e2fsck", "mount", "umount")
PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
PROJECT = Path(__file__).resolve().parents[2]
TAKES = 10.0
"""Seconds until the file must be shown, and until nobody may use a mount any more."""


def disk_missing() -> str | None:
    """Why no disk can be recorded here; None: one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "loop devices and mounts need root on Linux"
    path = f"{os.environ.get('PATH', '')}:{PLACES}"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"no {', '.join(absent)} on this machine (Debian: e2fsprogs, mount)"
    try:
        for device in ("/dev/fuse", "/dev/loop-control"):
            os.close(os.open(device, os.O_RDWR))
    except OSError as error:
        return f"neither FUSE nor loop devices can be had on this machine ({error})"
    return None


def run(*command: str, check: bool = True) -> str:
    """A program's standard output."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{PLACES}"},
        timeout=60,
        check=False,
    )
    if check and done.returncode:
        raise OSError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def blank(disk: Path) -> Path:
    """A file with an empty ext4."""
    with disk.open("wb") as file:
        file.truncate(SIZE)
    # Without lazy work, which would go on writing after it is mounted.
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(disk))
    return disk


def same(start: Path, log: Path, disk: Path) -> bool:
    """Whether a log leads from one disk to the other: it holds all that was written, as it was."""
    with start.open("rb") as before, disk.open("rb") as after, log.open("rb") as written:
        content = bytearray(before.read())
        for one in requests(written, log.stat().st_size):
            if not one.flags & DISCARD:
                written.seek(one.offset)
                at = one.sector * SECTOR
                content[at : at + one.sectors * SECTOR] = written.read(one.sectors * SECTOR)
        return bytes(content) == after.read()


class Mounted:
    """A disk's file system at a folder, while it is entered; recorded where a log is given.

    `commit=1`: the kernel writes each second what nobody asked it to keep, so that a run of seconds
    is cut in as many states as one of a minute.
    """

    def __init__(self, disk: Path, at: Path, log: Path | None = None) -> None:
        self._disk, self._at, self._log = disk, at, log
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            file = self._disk if self._log is None else self._shown(self._log)
            loop = run("losetup", "--find", "--show", str(file)).strip()
            self._undo.callback(run, "losetup", "--detach", loop)
            self._at.mkdir(parents=True, exist_ok=True)
            run("mount", "-t", "ext4", "-o", "noatime,commit=1", loop, str(self._at))
            self._undo.callback(_unmount, self._at)
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._undo.close()

    def length(self) -> int:
        """How long the log is by now."""
        return 0 if self._log is None else self._log.stat().st_size

    def _shown(self, log: Path) -> Path:
        shown = log.with_name(f"{log.name}.disk")
        shown.touch()
        recorder = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._disk), str(log), str(shown)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the one who unmounts first
        )
        self._undo.callback(_ended, recorder)
        assert recorder.stdout is not None
        said = recorder.stdout.readline()
        if said != b"shown\n":
            raise OSError(f"the disk is not shown: {said!r}")
        self._undo.callback(_unmount, shown)
        return shown


def _unmount(place: Path) -> None:
    """At once; should somebody still have a file open, when that one lets go."""
    until = time.monotonic() + TAKES
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            run("umount", str(place))
            return
        time.sleep(0.1)
    run("umount", "--lazy", str(place), check=False)


def _ended(recorder: subprocess.Popen[bytes]) -> None:
    """It ends by itself when nothing is mounted any more."""
    try:
        recorder.wait(TAKES)
    except subprocess.TimeoutExpired:
        recorder.kill()
        recorder.wait()
    if recorder.stdout is not None:
        recorder.stdout.close()


# --- the program ----------------------------------------------------------------------------------
INIT, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS = 26, 3, 4, 14, 15, 16, 17
RELEASE, FSYNC, CLOSED, ACCESS, DESTROY = 18, 20, 25, 34, 38
UNANSWERED = (2, 36, 42)
"""FORGET, INTERRUPT and BATCH_FORGET."""
HEAD, WANTED = struct.Struct("<IIQQIIIHH"), struct.Struct("<QQIIQII")
MOST = 1 << 20
BIG_WRITES, MAX_PAGES, DIRECT_IO = 1 << 5, 1 << 22, 1


class Recorder:
    """One file over the kernel's FUSE protocol (7.31), and each of its writes in a log."""

    def __init__(self, disk: Path, log: Path) -> None:
        self._disk = os.open(disk, os.O_RDWR)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.write(self._log, struct.pack("<QQQI", MAGIC, 1, 0, SECTOR).ljust(SECTOR, b"\0"))
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            INIT: self._init,
            GETATTR: self._attributes,
            SETATTR: self._attributes,
            OPEN: lambda _: struct.pack("<QII", 1, DIRECT_IO, 0),
            READ: self._read,
            WRITE: self._write,
            FSYNC: self._flush,
            STATFS: lambda _: bytes(80),
            **dict.fromkeys((RELEASE, CLOSED, ACCESS, DESTROY), lambda _: b""),
        }

    def serve(self, device: int) -> None:
        """Until the file is not mounted any more."""
        while True:
            try:
                request = os.read(device, MOST + 65_536)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno == errno.ENOENT:  # a request that was taken back
                    continue
                if error.errno == errno.ENODEV:
                    return
                raise
            _, kind, unique, *_ = HEAD.unpack_from(request)
            if kind in UNANSWERED:
                continue
            answer = self._answers.get(kind)
            content = answer(request[HEAD.size :]) if answer else b""
            code = 0 if answer else -errno.ENOSYS
            head = struct.pack("<IiQ", 16 + len(content), code, unique)
            with contextlib.suppress(FileNotFoundError):
                os.write(device, head + content)

    def _init(self, _: bytes) -> bytes:
        flags = BIG_WRITES | MAX_PAGES
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, flags, 1, 1, MOST, 1, MOST // 4096, 0, 0)

    def _attributes(self, _: bytes) -> bytes:
        size, mode = os.fstat(self._disk).st_size, stat.S_IFREG | 0o600
        times = (0,) * 6
        own = struct.pack("<6Q10I", 1, size, size // SECTOR, *times, mode, 1, 0, 0, 0, 4096, 0)
        return struct.pack("<QII", 3600, 0, 0) + own

    def _read(self, wanted: bytes) -> bytes:
        _, offset, size, *_ = WANTED.unpack_from(wanted)
        return os.pread(self._disk, size, offset)

    def _write(self, wanted: bytes) -> bytes:
        _, offset, size, *_ = WANTED.unpack_from(wanted)
        content = wanted[WANTED.size : WANTED.size + size]
        if offset % SECTOR or size % SECTOR:
            raise ValueError(f"{size} bytes at {offset} are no sectors")
        self._note(offset // SECTOR, size // SECTOR, 0, content)
        os.pwrite(self._disk, content, offset)
        return struct.pack("<II", size, 0)

    def _flush(self, _: bytes) -> bytes:
        self._note(0, 0, FLUSH, b"")
        return b""

    def _note(self, sector: int, sectors: int, flags: int, content: bytes) -> None:
        head = struct.pack("<QQQQ", sector, sectors, flags, 0).ljust(SECTOR, b"\0")
        os.write(self._log, head + content)


def main(disk: str, log: str, place: str) -> None:
    """Mounts, says `shown`, and answers."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"gangway", place.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)
    print("shown", flush=True)
    Recorder(Path(disk), Path(log)).serve(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
