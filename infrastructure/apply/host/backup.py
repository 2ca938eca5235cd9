"""A copy of what a stack cannot do without, and putting it back. Runs on the host: Python 3.9.

In a backup: the journal with settings and keys' hashes, the gateway's settings, Caddy's
certificates, what the logins did. Not in it: passwords (they are in the laptop's store, and go out
with `up`), tokens of the gateway's session, logs and dumps. Databases are copied by SQLite's online
backup, so a bridge that runs is no hindrance.

    manifest.json    what it is, and the digest of every file
    data/…           as below `data/` on the host

One file of all (`take`), or the same tree in a repository of restic's (`host.scheduled`).
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from operator import index
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from infrastructure.apply.host import repository
from infrastructure.apply.host.store import sync_file_system, sync_folder
from infrastructure.apply.protocol import events, requests
from infrastructure.release_files import BACKUP_STATE
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.apply.host.store import Store
    from infrastructure.apply.host.wire import Wire

VERSION = 1
FOLDERS = ("bridge", "gateway", "caddy", "state")
LEFT_OUT = (
    *("*-wal", "*-shm", "journal.reserve", "lock", "*.lock", ".*", BACKUP_STATE),
    *("autorestart", "launcher*.log*", "*.log", "hs_err_pid*", "*.hprof", "core.*", "held-*"),
)
"""Names that are no part of a backup: what belongs to a database or a process, a session's token,
logs and dumps. A held login is for the place where it was refused."""
JOURNAL, MANIFEST = "bridge/journal.sqlite3", "manifest.json"
RESTORING, ASIDE = ".restoring", "aside"
"""What is restored, whole and on the disk, until all of it is in its place; in it the name of the
folder below `data/` for what lay there."""
DAY = 86_400
PIECE = 384 * 1024
DAMAGE = (OSError, EOFError, tarfile.TarError, zlib.error)
"""What reading a damaged archive may raise."""
MOST_BYTES = 2 * 1024**3
_MAGIC = b"SQLite format 3\0"


def take(store: Store, wire: Wire, request: requests.BackupRequest) -> events.Backup:
    """Sends the archive as pieces, and says what is in it."""
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=_there(store)) as scratch:
        tree = Path(scratch) / "tree"
        manifest = gather(store, tree, request.target, request.version)
        archive = Path(scratch) / "backup.tar.gz"
        _pack(archive, tree, manifest)
        with archive.open("rb") as source:
            while piece := source.read(PIECE):
                wire.emit(events.Piece(base64.b64encode(piece).decode()))
        size = archive.stat().st_size
    return events.Backup(size, len(manifest["files"]), manifest["journal"])


def _there(store: Store) -> Path:
    if not (store.base / "data" / JOURNAL).is_file():
        raise HostFailure("nothing-to-back-up", "there is no journal on the host yet")
    return store.base


def gather(store: Store, tree: Path, target: str, version: str) -> dict[str, Any]:
    """Copies all of one moment to `tree`, which is not there yet; the manifest, also a file there.

    Raises:
        HostFailure: there is no journal yet, or it is damaged.
    """
    data, copy = _there(store) / "data", tree / "data"
    tree.mkdir(mode=0o700)
    damaged = HostFailure("journal-damaged", "the journal is damaged")
    try:
        files = {name: _copied(data / name, copy / name) for name in _names(data)}
    except sqlite3.OperationalError:  # it could not be read or written for now
        raise
    except sqlite3.DatabaseError as error:
        raise HostFailure(damaged.code, f"{damaged.message}: {error}") from None
    _check(copy / JOURNAL, damaged)
    manifest = {
        "version": VERSION,
        "gangway": version,
        "target": target,
        "at": time.time(),
        "release": store.current(),
        "journal": counted(copy / JOURNAL),
        "files": files,
    }
    (tree / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return manifest


def _names(data: Path) -> Iterator[str]:
    for folder in FOLDERS:
        for path in sorted((data / folder).rglob("*")):
            name = path.relative_to(data)
            if path.is_symlink() or not path.is_file():
                continue
            if not any(fnmatch.fnmatch(part, out) for part in name.parts for out in LEFT_OUT):
                yield name.as_posix()


def _copied(source: Path, to: Path) -> str:
    """Copies a file as it is at one moment; its digest."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file:
        database = file.read(len(_MAGIC)) == _MAGIC
    if database:
        _copy_database(source, to)
    else:
        shutil.copyfile(source, to)
    return _digest(to)


def _copy_database(source: Path, to: Path) -> None:
    """By the online backup; of one that nobody has open, with what its log holds."""
    out = sqlite3.connect(to)
    try:
        with contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as live:
            live.execute("PRAGMA busy_timeout=10000")
            live.backup(out)
    except sqlite3.OperationalError:
        # read-only, a database with a log opens only while another program has it open
        _copy_still_database(source, to)
    finally:
        out.close()


def _copy_still_database(source: Path, to: Path) -> None:
    with tempfile.TemporaryDirectory(dir=to.parent) as aside:
        beside = Path(aside) / source.name
        for ending in ("", "-wal"):
            if (part := source.with_name(source.name + ending)).exists():
                shutil.copyfile(part, beside.with_name(beside.name + ending))
        with contextlib.closing(sqlite3.connect(beside)) as still:
            still.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(beside, to)


def _check(database: Path, failure: HostFailure) -> None:
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise HostFailure(failure.code, f"{failure.message}: {error}") from None
    if found != ("ok",):
        raise HostFailure(failure.code, f"{failure.message}: {found[0]}")


def counted(database: Path) -> dict[str, int]:
    """How far a journal has come: rows of the tables that only grow, its schema and its name."""
    found: dict[str, int] = {}
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as one:
        for table in ("orders", "order_events", "executions", "audit"):
            with contextlib.suppress(sqlite3.OperationalError):
                found[table] = one.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        found["schema"] = one.execute("PRAGMA user_version").fetchone()[0]
    return found


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _pack(archive: Path, tree: Path, manifest: dict[str, Any]) -> None:
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for name in (MANIFEST, *(f"data/{one}" for one in manifest["files"])):
            tar.add(tree / name, name, recursive=False)


# --- putting back ---------------------------------------------------------------------------------
def put_back(store: Store, wire: Wire, request: requests.RestoreRequest) -> events.Restored:
    """Reads the archive that follows, or a repository; checks it, and puts it below `data/`.

    What lay there goes aside, whole. The bridge recognises that its journal was put back, and
    starts halted until a person accepts it.
    """
    store.base.mkdir(parents=True, exist_ok=True)
    store.base.chmod(0o700)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=store.base) as scratch:
        fresh = Path(scratch) / "unpacked"
        if request.repository is not None:
            found = Path(scratch) / "found"
            repository.fetch(request.repository, request.snapshot, Path(scratch), found)
            manifest = _checked(lambda name: _inside(found, name), fresh)
        else:
            archive = Path(scratch) / "backup.tar.gz"
            with archive.open("wb") as to:
                for at in range(0, request.size, PIECE):
                    to.write(wire.read(min(PIECE, request.size - at)))
            manifest = _unpacked(archive, fresh)
        if request.running:
            raise HostFailure("stack-runs", "the stack runs here", "./deploy.py down, then restore")
        _require_older(store.base / "data" / JOURNAL, manifest["journal"])
        aside = _swap(store.base, fresh / "data", request.owner)
    return events.Restored(
        aside, len(manifest["files"]), manifest["journal"], manifest["at"], manifest["target"]
    )


def _broken(why: str = "") -> HostFailure:
    text = "this is no whole backup of gangway's"
    return HostFailure("backup-damaged", f"{text}: {why}" if why else text)


def _inside(folder: Path, name: str) -> IO[bytes]:
    """A file of a folder, which no link leads out of."""
    path = folder / name
    if path.resolve() != folder.resolve() / name:
        raise _broken(f"a link at {name[:80]}")
    return path.open("rb")


def _unpacked(archive: Path, to: Path) -> dict[str, Any]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            return _checked(tar.extractfile, to)
    except DAMAGE as error:
        raise _broken(type(error).__name__) from None


def _checked(opened: Callable[[str], IO[bytes] | None], to: Path) -> dict[str, Any]:
    """The manifest, once every file is what it says; nothing outside `to` is written."""
    try:
        with opened(MANIFEST) or io.BytesIO() as head:
            manifest: dict[str, Any] = json.loads(head.read(MOST_BYTES))
        if not isinstance(manifest, dict):
            raise TypeError("no mapping")
        _require_known(manifest)
        # What is told of it is read before anything is put in its place.
        known = dict(manifest["journal"])
        manifest["journal"] = {str(name): index(count) for name, count in known.items()}
        manifest["at"], manifest["target"] = float(manifest["at"]), str(manifest["target"])
        left = MOST_BYTES
        for name, digest in manifest["files"].items():
            _require_inside(name)
            path = to / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened(f"data/{name}") or io.BytesIO() as source:
                content = source.read(left + 1)
            left -= len(content)
            if left < 0 or hashlib.sha256(content).hexdigest() != digest:
                raise _broken()
            path.write_bytes(content)
    except (*DAMAGE, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _broken(type(error).__name__) from None
    _check(to / "data" / JOURNAL, _broken())
    return manifest


def _require_known(manifest: dict[str, Any]) -> None:
    if manifest.get("version") != VERSION:
        raise HostFailure(
            "backup-unknown",
            f"the backup is of version {manifest.get('version')}, and {VERSION} is known here",
            "use the release of gangway that made it",
        )
    if JOURNAL not in manifest["files"]:
        raise HostFailure("backup-damaged", "there is no journal in this backup")


def _require_inside(name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] not in FOLDERS or {"..", "/"} & set(parts):
        raise HostFailure("backup-damaged", f"a name in the backup leads elsewhere: {name[:80]!r}")


def _require_older(present: Path, wanted: dict[str, Any]) -> None:
    """What would be lost is refused: a journal here that knows more than the backup."""
    if not present.exists():
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".look-", dir=present.parents[2]) as scratch:
            copy = Path(scratch) / present.name
            _copied(present, copy)
            known = counted(copy)
    except (OSError, sqlite3.DatabaseError) as error:
        raise HostFailure(
            "newer-history",
            f"the journal here cannot be read, so what it knows is not known: {error}",
            "move data/bridge aside yourself if it may really be forgotten",
        ) from None
    newer = [name for name, count in known.items() if count > wanted.get(name, 0)]
    newer = [name for name in newer if name != "schema"]
    if newer:
        raise HostFailure(
            "newer-history",
            f"the journal here knows more than the backup: {', '.join(newer)}",
            "move data/bridge aside yourself if it may really be forgotten",
        )


def _swap(base: Path, fresh: Path, owner: int | None) -> str:
    """Puts each folder in its place, the old one beside; where the old ones are.

    From the moment at which `.restoring` has its name it goes on to the end, should the power be
    cut meanwhile: the next command that deploys completes it before anything starts.
    """
    for path in fresh.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if owner is not None and os.geteuid() == 0:
            os.chown(path, owner, owner)
    (fresh / ASIDE).write_text(f"before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    sync_file_system(fresh)
    fresh.rename(base / RESTORING)
    sync_folder(base)
    return _put_in_place(base)


def _put_in_place(base: Path) -> str:
    """Each folder of `.restoring` that is not in its place yet."""
    data, fresh = base / "data", base / RESTORING
    aside = data / PurePosixPath((fresh / ASIDE).read_text()).name
    data.mkdir(exist_ok=True)
    for folder in FOLDERS:
        if not (fresh / folder).exists():
            continue
        if (data / folder).exists():
            aside.mkdir(exist_ok=True, mode=0o700)
            (data / folder).rename(aside / folder)
        (fresh / folder).rename(data / folder)
    sync_folder(aside)
    sync_folder(data)
    gone = base / ".restore-done"
    fresh.rename(gone)
    sync_folder(base)
    shutil.rmtree(gone, ignore_errors=True)
    return str(aside) if aside.exists() else ""


def complete(store: Store, wire: Wire) -> None:
    """What a power cut has left: a restore goes on to its end, copies of it and of backups go.

    For whoever holds the lock. A backup needs none: only its copies of yesterday are nobody's.
    """
    if (store.base / RESTORING).exists():
        wire.emit(events.Step("an earlier restore did not end; this completes it"))
        _put_in_place(store.base)
    for path in store.scratches():
        with contextlib.suppress(OSError):
            if not path.name.startswith(".backup-") or time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path)
