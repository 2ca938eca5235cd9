"""The stack's folder on the host. Runs on the host: standard library, Python 3.9.

<base>/releases/<id>/   0700, immutable, complete once it has release.json
<base>/current          -> releases/<id>
<base>/data/            kept across releases
<base>/ledger.jsonl     append-only, no secrets
<base>/lock             flock, held by the program that deploys
<base>/pending.json     there while a deploy is under way, or after one that was killed
<base>/moved.json       there when the stack runs on another machine now
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from infrastructure.release_files import ADMIN_KEY_FILE, RELEASE_FILE, SECRETS
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable, Collection, Iterator

    from infrastructure.apply.protocol.documents import DataFolder, LedgerEntry
    from infrastructure.apply.protocol.requests import ApplyRequest

NOTE = "deploy.json"
"""In every release: its services and checks as the deploy gave them, for `rollback`."""
KEEP_RELEASES = 5
SCRATCHES = (
    *(".restoring", ".restore-*", ".look-*", ".backup-*"),
    *("data/.restoring", "data/.restore-*"),
)
"""Folders beside or in `data/`: `.restoring` is put into its place yet, the others are copies."""
REFUSED = "refused.json"
MOVED = "moved.json"
"""There after `move`: which machine the stack runs on now."""
LEFTOVERS = {
    "launcher.*.log": 5,
    "launcher.log.*": 5,
    "hs_err_pid*.log": 2,
    "*.hprof": 1,
    "core.[0-9]*": 1,
}
"""What Java and the launcher leave in the gateway's settings, and how many of each are kept."""
SPARE_BYTES = 16 * 1024 * 1024
"""Left free after unpacking, so that logs and the ledger can still be written."""


LOCK_LOOKS = 0.25
LOCK_TELLS = 40
"""Seconds between two looks at another's lock, and every which of them is told."""


class Store:
    """Reads and writes below `base`; every write is whole or not at all."""

    def __init__(self, base: str) -> None:
        self.base = Path(base)
        self._lock: int | None = None

    # --- the lock -----------------------------------------------------------------------------
    def lock(
        self,
        by: str,
        wait: float = 0.0,
        waiting: Callable[[str], None] = lambda _: None,
        gone: Callable[[], bool] = lambda: False,
    ) -> int:
        """Takes the lock, or says who holds it; returns its descriptor for children to keep.

        Another's is waited for so many seconds; `waiting` hears of whom, now and then. For nobody:
        once the client is `gone`, what it wanted may be another's harm by the time it is free.
        """
        with self._writing(untouched=True):
            self.base.mkdir(parents=True, exist_ok=True)
            self.base.chmod(0o700)
            descriptor = os.open(self.base / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            until, tries = time.monotonic() + wait, 0
            while not self._free(descriptor) and time.monotonic() < until and not gone():
                if tries % LOCK_TELLS == 0:
                    waiting(_holder(descriptor))
                tries += 1
                time.sleep(LOCK_LOOKS)
            if gone():
                os.close(descriptor)
                raise HostFailure("interrupted", "whoever waited for the lock has gone")
            self._take(descriptor, by)
        self._lock = descriptor
        return descriptor

    def unlock(self) -> None:
        """Frees the lock, before the client is told that the deploy has ended."""
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock = None

    def _free(self, descriptor: int) -> bool:
        """Whether the lock is ours now."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _take(self, descriptor: int, by: str) -> None:
        if not self._free(descriptor):
            holder = _holder(descriptor)
            os.close(descriptor)
            raise HostFailure(
                "locked",
                f"another deploy is under way: {holder or 'by an unknown person'}",
                "wait until it ends; a lock is freed by itself when its deploy ends or is killed",
            )
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError):  # the words are for others; a full disk must not forbid `down`
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{by}, since {since}\n".encode(), 0)

    def bridge_key(self) -> str:
        """The first key of the bridge that serves now; empty when there is none to be read."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.base / "current" / ADMIN_KEY_FILE).read_text().strip()
        return ""

    # --- releases -----------------------------------------------------------------------------
    def release(self, name: str) -> Path:
        """The folder of a release."""
        return self.base / "releases" / name

    def current(self) -> str | None:
        """The release that `current` points to."""
        try:
            return (self.base / "current").readlink().name
        except OSError:
            return None

    def has(self, name: str) -> bool:
        """Whether this release lies here, whole."""
        with suppress(OSError, ValueError):
            return json.loads((self.release(name) / RELEASE_FILE).read_bytes()) is not None
        return False

    def manifest(self, name: str | None) -> dict[str, Any]:
        """`{"id", "files": {path: sha256}, "services": {name: hash}}`; empty when not there."""
        return _object(self.release(name or "-") / RELEASE_FILE)

    def digests(self, name: str, listed: dict[str, str]) -> dict[str, str]:
        """The digests that a release's files have now, of those that are listed.

        What cannot be read is left out. A secret's is slow on purpose: it is taken as listed.
        """
        found = {}
        for path, digest in listed.items():
            with suppress(OSError):
                content = (self.release(name) / path).read_bytes()
                found[path] = digest if _is_secret(path) else hashlib.sha256(content).hexdigest()
        return found

    def unpack(
        self, name: str, archive: bytes, owners: dict[str, int], reused: dict[str, int]
    ) -> None:
        """Makes the release's folder from a tar; it appears under its name only when whole.

        `reused` maps paths to modes: what the current release has, with the same content.
        """
        import tarfile

        partial = self.base / "releases" / f".{name}.partial"
        with self._writing(partial, untouched=True):
            if shutil.disk_usage(self.base).free < 2 * len(archive) + SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                for member in tar:
                    _extract(tar, member, partial)
            listed = _object(partial / RELEASE_FILE).get("files", {})
            for path, mode in reused.items():
                _reuse(self.base / "current" / path, partial, path, mode, listed.get(path))
            for path, owner in owners.items():
                self._own(partial / path, owner)
            self._set_aside(name)
            sync_file_system(partial)
            partial.rename(self.release(name))
            sync_folder(self.base / "releases")

    def _set_aside(self, name: str) -> None:
        """Takes a release's name away, which says that it is whole, before its first file goes."""
        aside = self.base / "releases" / f".{name}.gone.partial"
        with suppress(FileNotFoundError):
            shutil.rmtree(aside, ignore_errors=True)
            self.release(name).rename(aside)
            sync_folder(aside.parent)
            shutil.rmtree(aside, ignore_errors=True)

    def _own(self, path: Path, owner: int) -> None:
        if path.stat().st_uid == owner:
            return
        try:
            os.chown(path, owner, owner)
        except PermissionError:
            raise HostFailure(
                "not-root",
                f"{path.name} must belong to user {owner}, and the login may not do that",
                "log in as root, or allow `sudo -n` for the login (host.sudo)",
            ) from None

    def folders(self, wanted: list[DataFolder]) -> None:
        """Makes the data folders that services need, with their owners."""
        with self._writing(untouched=True):
            (self.base / "data").mkdir(exist_ok=True)
            for item in wanted:
                path = self.base / "data" / item.path
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(item.mode)
                if item.uid is not None:
                    self._own(path, item.uid)
                sync_folder(path)
            sync_folder(self.base / "data")

    def switch(self, name: str | None) -> None:
        """Points `current` to a release, atomically; None removes it."""
        link = self.base / "current"
        with self._writing():
            if name is None:
                link.unlink(missing_ok=True)
                sync_folder(self.base)
                return
            fresh = self.base / ".current"
            if fresh.is_symlink():
                fresh.unlink()
            fresh.symlink_to(PurePosixPath("releases") / name)
            fresh.replace(link)
            sync_folder(self.base)

    def prune(self, mounted: Collection[str] = ()) -> list[str]:
        """Removes old releases; names of what went.

        The newest few stay, `current`, what is `mounted` in a container that runs, and the newest
        other one that was healthy: there is always something to go back to.
        """
        self.sweep()
        current = self.current()
        floor = {current, self.proven(but=current), *mounted}
        gone = [name for name in self.kept()[KEEP_RELEASES:] if name not in floor]
        for name in gone:
            self._set_aside(name)
        return gone

    def sweep(self) -> None:
        """Removes what is no release yet, or no more."""
        for partial in (self.base / "releases").glob(".*.partial"):
            shutil.rmtree(partial, ignore_errors=True)

    def prune_gateway(self) -> list[str]:
        """Removes old logs of the launcher and dumps from the gateway's settings; what went.

        The newest few of each session stay; nothing in the folder would ever remove one.
        """
        gone = []
        for folder in (self.base / "data" / "gateway").glob("*/"):
            if folder.is_symlink():  # the container's own: it leads elsewhere on the host
                continue
            for pattern, kept in LEFTOVERS.items():
                with suppress(OSError):
                    found = sorted(folder.glob(pattern), key=_age, reverse=True)
                    for path in found[kept:]:
                        if path.is_file() and not path.is_symlink():
                            path.unlink()
                            gone.append(path.name)
        return gone

    def proven(self, *, but: str | None) -> str | None:
        """The release other than `but` that was the last to become healthy and still lies here.

        A restart of one service says nothing of the others, nor does a deploy that looked at a part
        of a stack of which the rest was not healthy.
        """
        for entry in reversed(self.ledger()):
            name = entry.get("release")
            if _proves(entry) and name != but and name and self.has(name):
                return str(name)
        return None

    def note(self, request: ApplyRequest) -> None:
        """Keeps what a later rollback needs to know of a release."""
        kept = {
            "services": [{**vars(one), "fresh": False} for one in request.services],
            "checks": request.checks,
        }
        with self._writing(untouched=True):
            write_whole(self.release(request.release) / NOTE, json.dumps(kept))

    def noted(self, name: str) -> dict[str, Any]:
        """`{"services", "checks"}` of a release; empty when it was not noted."""
        return _object(self.release(name) / NOTE)

    def kept(self) -> list[str]:
        """The whole releases that lie here, newest use first."""
        folders = [path for path in (self.base / "releases").glob("[!.]*") if path.is_dir()]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.name for path in folders]

    def touch(self, name: str) -> None:
        """Marks a release as used now, for `prune`."""
        os.utime(self.release(name))

    def refuse(self, image_id: str, why: str) -> None:
        """Remembers an image that did not become healthy here."""
        stamp = time.strftime("%Y-%m-%d", time.gmtime())
        with self._writing():
            found = {**self.refused(), image_id: f"{stamp}: {why}"}
            write_whole(self.base / REFUSED, json.dumps(dict(list(found.items())[-50:])))

    def refused(self) -> dict[str, str]:
        """Image ids to when and why."""
        with suppress(OSError, ValueError, TypeError):
            return dict(json.loads((self.base / REFUSED).read_text()))
        return {}

    def pin(self, name: str, images: dict[str, str]) -> None:
        """Notes the ids of a release's images as they serve, for a rollback to be really it."""
        with self._writing():
            noted = {**self.noted(name), "images": images}
            write_whole(self.release(name) / NOTE, json.dumps(noted))

    def leave(self, to: str) -> None:
        """The stack runs on another machine from now on."""
        stamp = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        with self._writing():
            write_whole(self.base / MOVED, json.dumps({"to": to, "at": stamp}))

    def moved(self) -> str:
        """Which machine the stack was moved to, and when; empty: it was not."""
        path = self.base / MOVED
        if not path.exists():
            return ""
        found = _object(path)
        return f"{found.get('to', 'another machine')} at {found.get('at', 'an unknown time')}"

    def require_here(self) -> None:
        """HostFailure where the stack was moved away: a second gateway would take its session."""
        path, to = self.base / MOVED, self.moved()
        if not to:
            return
        raise HostFailure(
            "moved-away",
            f"the stack was moved to {to}: a second gateway here would take its session",
            f"change the host in stack.yaml; or, once nothing runs there, remove {path} on the"
            " host, then the same again",
        )

    def scratches(self) -> list[Path]:
        """What backups and restores have left here, or work with (`backup.complete`)."""
        return [path for kind in SCRATCHES for path in self.base.glob(kind)]

    # --- records ------------------------------------------------------------------------------
    def record(self, **entry: Any) -> None:
        """Appends to the ledger."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": stamp, **entry}) + "\n"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        with self._writing():
            descriptor = os.open(self.base / "ledger.jsonl", flags, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = "\n" + line  # after a write that was cut
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
                if not size:
                    sync_folder(self.base)
            finally:
                os.close(descriptor)

    def ledger(self) -> list[LedgerEntry]:
        """Every entry, oldest first; a line that was cut is left out."""
        entries = []
        try:
            content = (self.base / "ledger.jsonl").read_bytes()
        except OSError:
            return []
        for line in content.decode(errors="replace").split("\n"):
            with suppress(ValueError, RecursionError):
                entry = json.loads(line.strip("\0"))  # a power loss leaves holes
                if isinstance(entry, dict):
                    entries.append(cast("LedgerEntry", entry))
        return entries

    def pending(self) -> dict[str, Any] | None:
        """What a deploy that did not end was about."""
        return _object(self.base / "pending.json") or None

    def begin(self, **entry: Any) -> None:
        """Notes what is about to happen, before anything is touched."""
        with self._writing(untouched=True):
            write_whole(self.base / "pending.json", json.dumps(entry))

    def end(self) -> None:
        """The deploy has ended, one way or the other."""
        with self._writing():
            (self.base / "pending.json").unlink(missing_ok=True)
            sync_folder(self.base)

    @contextmanager
    def _writing(self, partial: Path | None = None, *, untouched: bool = False) -> Iterator[None]:
        """`untouched`: nothing of the stack was changed yet, which is said with the failure."""
        try:
            yield
        except OSError as error:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            failure = _explain(error, self.base)
            failure.message += "; nothing was changed" if untouched else ""
            raise failure from error


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 4096, 0).decode(errors="replace").strip()


def _proves(entry: LedgerEntry) -> bool:
    """Whether the entry says of a whole stack that it was healthy."""
    whole = entry.get("whole", not str(entry.get("command", "")).startswith("restart"))
    return entry.get("result") == "healthy" and whole


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all, also after a power loss."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were made, changed or removed in it are on the disk afterwards."""
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """All that was written to its file system, in one go: a release has hundreds of files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        import ctypes

        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    except AttributeError:  # no such call here (macOS, in the sandbox)
        os.sync()
    finally:
        os.close(descriptor)


def _age(path: Path) -> float:
    return path.lstat().st_mtime


def _explain(error: OSError, base: Path) -> HostFailure:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"the host's disk is full ({base})"
        return HostFailure("disk-full", text, "./deploy.py doctor says what fills it")
    if error.errno == errno.EROFS:
        return HostFailure(
            "disk-read-only",
            f"the host's disk can only be read ({base})",
            "a disk with faults becomes so: journalctl -k on the host says why",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return HostFailure(
            "folder-denied",
            f"the login may not write to {base}",
            "allow `sudo -n` for the login (host.sudo), or set a folder of its own (folder:)",
        )
    return HostFailure("folder", f"{error.strerror}: {error.filename or base}")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One file; nothing outside the folder, no links, no devices."""
    if not member.isfile():
        raise HostFailure("bad-release", f"the release holds an odd entry: {member.name}")
    target = _place(folder, member.name)
    source = tar.extractfile(member)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, member.mode & 0o777)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file) if source else None
        os.fchmod(file.fileno(), member.mode & 0o777)


def _is_secret(path: str) -> bool:
    return path.startswith(f"{SECRETS}/")


def _reuse(source: Path, folder: Path, name: str, mode: int, digest: str | None) -> None:
    """A copy of a file of the current release, which has to be what the new one's list says."""
    target = _place(folder, name)
    try:
        content = source.read_bytes()
    except FileNotFoundError:
        content = None
    known = digest is None or _is_secret(name)
    if content is None or not (known or digest == hashlib.sha256(content).hexdigest()):
        raise HostFailure(
            "bad-release",
            f"{name} was changed on the host, in the release that serves; nothing was changed",
            "./deploy.py up again sends it anew",
        )
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o777)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode & 0o777)


def _place(folder: Path, name: str) -> Path:
    """Where a file of a release lies; its folders are made."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise HostFailure("bad-release", f"the release holds an odd entry: {name}")
    target = folder
    for part in path.parts[:-1]:
        target /= part
        if not target.exists():  # mounted into containers, whose users are not the owner
            target.mkdir()
            target.chmod(0o700 if part == "secrets" else 0o755)
    return target / path.name
