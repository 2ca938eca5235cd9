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
import errno
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
from infrastructure.apply.host.store import MOVED, SPARE_BYTES, sync_file_system, sync_folder
from infrastructure.apply.protocol import events, requests
from infrastructure.release_files import BACKUP_STATE
from infrastructure.runtime import plain_files
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.apply.host.store import Store
    from infrastructure.apply.host.wire import Wire

VERSION = 1
FOLDERS = ("bridge", "gateway", "caddy", "state")
LEFT_OUT = (
    *("*-wal", "*-shm", "journal.reserve", "lock", "*.lock", ".*", BACKUP_STATE, "alerts.json"),
    *("autorestart", "launcher*.log*", "*.log", "hs_err_pid*", "*.hprof", "core.*", "held-*"),
)
"""Names that are no part of a backup: what belongs to a database or a process, a session's token,
logs and dumps. A held login, and what was told to whom, is for the place where it came about."""
JOURNAL, MANIFEST = "bridge/journal.sqlite3", "manifest.json"
RESTORING, ASIDE = ".restoring", "aside"
"""What is restored, whole and on the disk, until all of it is in its place; in it the name of the
folder below `data/` for what lay there. It lies in `data/`, which may be a disk of its own: only on
one and the same does a folder take another's place at once."""
DAY = 86_400
PIECE = 384 * 1024
DAMAGE = (OSError, EOFError, tarfile.TarError, zlib.error)
"""What reading a damaged archive may raise."""
MOST_BYTES = 2 * 1024**3
"""Of a backup as one file: laptops hold it in memory. A repository has no such bound."""
MOST_MANIFEST = 64 * 1024**2
_MAGIC = b"SQLite format 3\0"


def take(store: Store, wire: Wire, request: requests.BackupRequest) -> events.Backup:
    """Sends the archive as pieces, and says what is in it."""
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=_there(store)) as scratch:
        tree = Path(scratch) / "tree"
        manifest = gather(store, tree, request.target, request.version)
        archive = Path(scratch) / "backup.tar.gz"
        _pack(archive, tree, manifest)
        _require_small(archive)
        with archive.open("rb") as source:
            while piece := source.read(PIECE):
                wire.emit(events.Piece(base64.b64encode(piece).decode()))
        size = archive.stat().st_size
    return events.Backup(size, len(manifest["files"]), manifest["journal"])


def _require_small(archive: Path) -> None:
    """What could not be restored is no backup."""
    size = archive.stat().st_size
    if size > MOST_BYTES:
        raise HostFailure(
            "backup-too-large",
            f"the backup is of {size / 1e9:.1f} GB, and one file may have {MOST_BYTES / 1e9:.1f}",
            "./deploy.py backup --to a repository takes any size",
        )


def _there(store: Store) -> Path:
    if _restoring(store.base):
        raise _halfway()
    if not (store.base / "data" / JOURNAL).is_file():
        raise HostFailure("nothing-to-back-up", "there is no journal on the host yet")
    return store.base


def _halfway() -> HostFailure:
    return HostFailure(
        "restore-unfinished",
        "a restore is under way on the host, or was cut off: what lies there is of two moments",
        "when it has ended, again; ./deploy.py up completes one that was cut off",
    )


def _which(data: Path) -> int | None:
    """What tells one journal's folder from another that has taken its place."""
    with contextlib.suppress(OSError):
        return (data / JOURNAL).parent.stat().st_ino
    return None


def gather(store: Store, tree: Path, target: str, version: str) -> dict[str, Any]:
    """Copies all of one moment to `tree`, which is not there yet; the manifest, also a file there.

    Raises:
        HostFailure: there is no journal yet, it is damaged, or a restore is under way.
    """
    data, copy = _there(store) / "data", tree / "data"
    journal = _which(data)
    tree.mkdir(mode=0o700)
    damaged = HostFailure("journal-damaged", "the journal is damaged")
    try:
        files = dict(_copies(data, copy))
    except sqlite3.OperationalError as error:  # it could not be read or written for now
        raise _not_now(error) from None
    except sqlite3.DatabaseError as error:
        raise HostFailure(damaged.code, f"{damaged.message}: {error}") from None
    if _restoring(store.base) or _which(data) != journal:
        raise _halfway()
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


def _not_now(error: sqlite3.OperationalError) -> HostFailure:
    if "disk is full" in str(error):
        full = "the host's disk is full; no backup was made"
        return HostFailure("disk-full", full, "./deploy.py doctor says what fills it")
    hint = "again in a while; ./deploy.py doctor looks at the host"
    return HostFailure("journal-busy", f"the journal cannot be copied just now: {error}", hint)


def _copies(data: Path, copy: Path) -> Iterator[tuple[str, str]]:
    """Copies what belongs in a backup; name and digest of each.

    What a service has removed since it was listed is left out. The journal is never removed: a
    backup without it is none.
    """
    for name in _names(data):
        try:
            yield name, _copied(data, name, copy / name)
        except FileNotFoundError:
            if name == JOURNAL:
                raise


def _names(data: Path) -> Iterator[str]:
    """The journal before all: what is moved out of it meanwhile is in the archive that follows."""
    yield JOURNAL
    for folder in FOLDERS:
        found = []
        for place, _, files in os.walk(data / folder):
            paths = [Path(place) / file for file in files]
            found += [path for path in paths if path.is_file() and not path.is_symlink()]
        for path in sorted(found):
            name = path.relative_to(data)
            if name.as_posix() != JOURNAL and not any(
                fnmatch.fnmatch(part, out) for part in name.parts for out in LEFT_OUT
            ):
                yield name.as_posix()


def _copied(data: Path, name: str, to: Path) -> str:
    """Copies a file below `data` as it is at one moment; its digest.

    The first folder of its name is ours, and may be a link to another disk. All below belongs to
    the containers: no link of theirs is followed.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    folder, _, rest = name.partition("/")
    with plain_files.opened(data / folder, rest) as file:
        database = file.read(len(_MAGIC)) == _MAGIC
        if not database:
            file.seek(0)
            with to.open("wb") as copy:
                shutil.copyfileobj(file, copy, PIECE)
    if database:
        _copy_database(data / name, to)
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
        shutil.copyfile(source, beside)  # without it SQLite would make an empty one
        with contextlib.suppress(FileNotFoundError):
            log = source.with_name(f"{source.name}-wal")
            shutil.copyfile(log, beside.with_name(f"{beside.name}-wal"))
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
    """What is in a journal: the rows of its tables, and its schema."""
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as one:
        found = _rows(one)
        found["schema"] = one.execute("PRAGMA user_version").fetchone()[0]
    return found


def _rows(journal: sqlite3.Connection) -> dict[str, int]:
    found: dict[str, int] = {}
    for table in ("orders", "order_events", "executions", "audit"):
        with contextlib.suppress(sqlite3.OperationalError):
            found[table] = journal.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
    return found


def reached(copy: Path) -> dict[str, int]:
    """How far a journal has come: the numbers of its rows, also of those that were archived.

    Of a copy that nobody has open, and beside which nothing is left.
    """
    with contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as one:
        found = _rows(one)
        with contextlib.suppress(sqlite3.OperationalError):  # nothing is numbered there
            for table, number in one.execute("SELECT name, seq FROM sqlite_sequence"):
                if table in found:
                    found[table] = max(found[table], int(number))
    return found


def _identity(copy: Path) -> str:
    """The name of a journal, which its copies share; empty where it has none."""
    with (
        contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as one,
        contextlib.suppress(sqlite3.OperationalError, ValueError, TypeError, AttributeError),
    ):
        row = one.execute("SELECT value FROM meta WHERE name = 'journal_identity'").fetchone()
        return str(json.loads(row[0]).get("name", ""))
    return ""


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
    if _restoring(store.base):
        raise _halfway()
    data = store.base / "data"
    with contextlib.ExitStack() as parts:
        # Beside what it will replace: `data/` may be a disk of its own.
        near = data if data.is_dir() else store.base
        places = [
            parts.enter_context(tempfile.TemporaryDirectory(prefix=".restore-", dir=place))
            for place in (store.base, near)
        ]
        scratch, fresh = places[0], Path(places[1]) / "unpacked"
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
        if request.target not in ("", manifest["target"]):
            _require_related(data / JOURNAL, fresh / "data" / JOURNAL, manifest["target"])
        _require_older(data / JOURNAL, reached(fresh / "data" / JOURNAL))
        _require_movable(data)
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
            manifest: dict[str, Any] = json.loads(head.read(MOST_MANIFEST))
        if not isinstance(manifest, dict):
            raise TypeError("no mapping")
        _require_known(manifest)
        # What is told of it is read before anything is put in its place.
        known = dict(manifest["journal"])
        manifest["journal"] = {str(name): index(count) for name, count in known.items()}
        manifest["at"], manifest["target"] = float(manifest["at"]), str(manifest["target"])
        room = shutil.disk_usage(to.parent).free - SPARE_BYTES
        for name, digest in manifest["files"].items():
            _require_inside(name)
            with opened(f"data/{name}") or io.BytesIO() as source:
                size, found = _written(source, to / "data" / name, room)
            if found != digest:
                raise _broken()
            room -= size
    except (*DAMAGE, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _broken(type(error).__name__) from None
    _check(to / "data" / JOURNAL, _broken())
    return manifest


def _written(source: IO[bytes], path: Path, room: int) -> tuple[int, str]:
    """Writes a file piece by piece: it may be larger than the memory. Its size and its digest.

    What reading raises says something of the backup; what writing raises, of the host's disk.
    """
    size, digest = 0, hashlib.sha256()
    with _on_disk():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb", buffering=0)
    with file:
        while piece := source.read(PIECE):
            size += len(piece)
            if size > room:
                raise HostFailure.of(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            digest.update(piece)
            with _on_disk():
                left = memoryview(piece)
                while left:
                    left = left[file.write(left) :]
    return size, digest.hexdigest()


@contextlib.contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostFailure.of(error) from None


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


def _require_related(present: Path, restored: Path, other: str) -> None:
    """A journal that is no copy of another target's is not lost to it: rows compare nothing here.

    What cannot be read is left to whoever compares them.
    """
    own = ""
    if present.exists():
        with (
            contextlib.suppress(OSError, sqlite3.DatabaseError),
            tempfile.TemporaryDirectory(prefix=".look-", dir=present.parents[2]) as scratch,
        ):
            copy = Path(scratch) / present.name
            _copied(present.parents[1], JOURNAL, copy)
            own = _identity(copy)
    if own and own != _identity(restored):
        raise HostFailure(
            "backup-of-another",
            f"the backup is of target {other}, and the journal here is of another stack",
            "is it the right --target? Move data/bridge aside yourself if that journal may be"
            " forgotten",
        )


def _require_older(present: Path, wanted: dict[str, int]) -> None:
    """What would be lost is refused: a journal here that knows more than the backup."""
    if not present.exists():
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".look-", dir=present.parents[2]) as scratch:
            copy = Path(scratch) / present.name
            _copied(present.parents[1], JOURNAL, copy)
            known = reached(copy)
    except (OSError, sqlite3.DatabaseError) as error:
        raise HostFailure(
            "newer-history",
            f"the journal here cannot be read, so what it knows is not known: {error}",
            "move data/bridge aside yourself if it may really be forgotten",
        ) from None
    newer = [name for name, count in known.items() if count > wanted.get(name, 0)]
    if newer:
        raise HostFailure(
            "newer-history",
            f"the journal here knows more than the backup: {', '.join(newer)}",
            "move data/bridge aside yourself if it may really be forgotten",
        )


def _require_movable(data: Path) -> None:
    """Refuses, before anything moves, what cannot be put aside: a mount has its name for itself."""
    for folder in FOLDERS:
        path = data / folder
        if os.path.ismount(path) or os.path.realpath(path) in _mounts():
            raise HostFailure(
                "folder",
                f"{path} is a mount of its own, so what lies in it cannot be put aside",
                "unmount it, restore, then move the folder onto that disk; or mount at data/",
            )


def _mounts() -> set[str]:
    with contextlib.suppress(OSError):
        text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        return {words[4] for line in text.splitlines() if len(words := line.split()) > 4}
    return set()


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
    data = base / "data"
    if not data.is_dir():
        data.mkdir()
        sync_folder(base)
    fresh.rename(data / RESTORING)
    sync_folder(data)
    try:
        return _put_in_place(base)
    except OSError as error:
        raise _stuck(data, error) from None


def _stuck(data: Path, error: Exception) -> HostFailure:
    return HostFailure(
        "restore-unfinished",
        f"a restore cannot be completed: {HostFailure.of(error).message}",
        f"mend that on the host, then the same again. Nothing is lost: what is restored lies in"
        f" {data}/{RESTORING}, what lay there before in {data}/before-…",
    )


def _put_in_place(base: Path) -> str:
    """Each folder of `.restoring` that is not in its place yet."""
    data = base / "data"
    fresh = data / RESTORING
    aside = data / PurePosixPath((fresh / ASIDE).read_text()).name
    for folder in FOLDERS:
        if not (fresh / folder).exists():
            continue
        if os.path.lexists(data / folder):
            aside.mkdir(exist_ok=True, mode=0o700)
            (data / folder).rename(aside / folder)
        (fresh / folder).rename(data / folder)
    sync_folder(aside)
    sync_folder(data)
    (base / MOVED).unlink(missing_ok=True)  # it is here again
    _remove_at_once(fresh)
    return str(aside) if aside.exists() else ""


def _remove_at_once(folder: Path) -> None:
    """Takes its name away first: half of it must not be taken for the whole.

    What was removed before and could not be emptied is not in the way.
    """
    gone = Path(tempfile.mkdtemp(prefix=".restore-done-", dir=folder.parent))
    folder.rename(gone)
    sync_folder(folder.parent)
    shutil.rmtree(gone, ignore_errors=True)


def _restoring(base: Path) -> bool:
    """Whether a restore has begun to put things in their place, and has not ended."""
    return (base / "data" / RESTORING).exists() or (base / RESTORING).exists()


def complete(store: Store, wire: Wire) -> HostFailure | None:
    """What a power cut has left: a restore goes on to its end, copies of it and of backups go.

    For whoever holds the lock. A backup needs none: only its copies of yesterday are nobody's.
    What keeps a restore from its end comes back: nothing may start from what lies there.
    """
    failure = None
    if _restoring(store.base):
        wire.emit(events.Step("an earlier restore did not end; this completes it"))
        try:
            _bring_near(store.base)
            _put_in_place(store.base)
        except OSError as error:
            failure = _stuck(store.base / "data", error)
    for path in store.scratches():
        with contextlib.suppress(OSError):
            young = time.time() - path.stat().st_mtime <= DAY
            if path.name != RESTORING and not (path.name.startswith(".backup-") and young):
                shutil.rmtree(path)
    return failure


def _bring_near(base: Path) -> None:
    """An earlier release has left it beside `data/`, from where it may not come onto its disk."""
    far, near = base / RESTORING, base / "data" / RESTORING
    if not far.exists():
        return
    near.parent.mkdir(exist_ok=True)
    if not near.exists():
        try:
            far.rename(near)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return
        copy = Path(tempfile.mkdtemp(prefix=".restore-", dir=near.parent)) / "copy"
        shutil.copytree(far, copy)
        for path in far.rglob("*"):
            owner = path.stat()
            os.chown(copy / path.relative_to(far), owner.st_uid, owner.st_gid)
        sync_file_system(copy)
        copy.rename(near)
        sync_folder(near.parent)
    _remove_at_once(far)
