"""Backups on the host: of one moment, whole or refused, and nothing newer is lost."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
import threading
import time
import zlib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infrastructure.apply.host import backup
from infrastructure.apply.host import store as store_module
from infrastructure.apply.host.store import Store
from infrastructure.apply.host.wire import Wire
from infrastructure.apply.protocol import events, requests
from infrastructure.cli.commands.backup import MOST_BYTES as RESTORABLE
from infrastructure.runtime.base import HostFailure


class Kept(Wire):
    """Keeps what is sent, and hands out what was put in."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), io.BytesIO())
        self.events: list[Any] = []

    def emit(self, event: events.Event) -> None:
        self.events.append(event)


def journal(store: Store, orders: int) -> Path:
    """A journal as the bridge keeps it: with a log, and open or not."""
    path = store.base / "data" / backup.JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, text TEXT)")
        for _ in range(orders):
            connection.execute("INSERT INTO orders (text) VALUES (?)", ("x" * 200,))
        connection.commit()
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "opt" / "prod"))


def taken(store: Store) -> bytes:
    wire = Kept()
    found = backup.take(store, wire, requests.BackupRequest("prod", "0.1.0"))
    content = b"".join(base64.b64decode(each.data) for each in wire.events)
    assert len(content) == found.size
    return content


def put_back(store: Store, content: bytes, *, running: bool = False) -> events.Restored:
    request = requests.RestoreRequest(len(content), None, running)
    return backup.put_back(store, Kept(content), request)


def names(content: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return set(tar.getnames())


def test_what_belongs_in_it_and_what_does_not(store: Store) -> None:
    journal(store, 1)
    data = store.base / "data"
    for name in (
        *("bridge/settings.key", "gateway/tws/jts.ini", "caddy/caddy/cert.pem"),
        *("state/login-paper", "gateway/tws/abc/autorestart", "gateway/launcher.log"),
        *("state/held-paper", "bridge/journal.reserve", "bridge/alerts.json"),
    ):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("x")
    (data / "gateway" / "link").symlink_to("/etc/passwd")
    assert names(taken(store)) == {
        *("manifest.json", "data/bridge/journal.sqlite3", "data/bridge/settings.key"),
        *("data/gateway/tws/jts.ini", "data/caddy/caddy/cert.pem", "data/state/login-paper"),
    }
    assert not list(store.base.glob(".backup-*"))


def test_a_copy_while_orders_are_written_is_of_one_moment(store: Store) -> None:
    path = journal(store, 1)
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path)) as connection:
            while not stop.is_set():
                with connection:  # two rows at once, or none
                    connection.execute("INSERT INTO orders (text) VALUES ('a')")
                    connection.execute("INSERT INTO orders (text) VALUES ('b')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for at in range(5):
            other = Store(str(store.base.parent / f"other-{at}"))
            put_back(other, taken(store))
            copied = other.base / "data" / backup.JOURNAL
            with closing(sqlite3.connect(copied)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                rows = "SELECT text, count(*) FROM orders WHERE text < 'x' GROUP BY text"
                counts = dict(connection.execute(rows))
            assert counts.get("a", 0) == counts.get("b", 0)
    finally:
        stop.set()
        writer.join()


def test_what_a_killed_bridge_left_in_its_log_is_in_the_copy(store: Store) -> None:
    path = journal(store, 3)
    live = sqlite3.connect(path)
    live.execute("INSERT INTO orders (text) VALUES ('last')")
    live.commit()
    left = {end: path.with_name(path.name + end).read_bytes() for end in ("", "-wal")}
    live.close()
    for end, content in left.items():  # as after SIGKILL: a log, and nobody who has it open
        path.with_name(path.name + end).write_bytes(content)
    other = Store(str(store.base.parent / "other"))
    assert put_back(other, taken(store)).journal["orders"] == 4


def test_put_back_by_its_owner_alone_and_the_old_aside(store: Store) -> None:
    path = journal(store, 2)
    content = taken(store)
    found = put_back(store, content)
    assert Path(found.aside, backup.JOURNAL).exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (found.journal["orders"], found.target) == (2, "prod")


def test_what_is_put_back_where_it_was_moved_away_from_is_here_again(store: Store) -> None:
    journal(store, 2)
    content = taken(store)
    assert store.moved() == ""
    store.leave("me@new")
    assert store.moved().startswith("me@new at 20")
    with pytest.raises(HostFailure, match="moved to me@new") as refused:
        store.require_here()
    assert refused.value.code == "moved-away"
    put_back(store, content)
    store.require_here()


def test_a_journal_that_knows_more_is_not_lost(store: Store) -> None:
    journal(store, 2)
    content = taken(store)
    path = journal(store, 1)
    with pytest.raises(HostFailure) as refused:
        put_back(store, content)
    assert refused.value.code == "newer-history"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)  # nor is one that nobody can read
    with pytest.raises(HostFailure) as refused:
        put_back(store, content)
    assert refused.value.code == "newer-history"
    assert path.read_bytes().startswith(b"SQLite format 3\0\xff")


def named(path: Path, name: str) -> None:
    """The journal's identity, as the bridge writes it (`bridge.store.identity`)."""
    with closing(sqlite3.connect(path)) as one, one:
        one.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT)")
        text = json.dumps({"name": name, "file": [1, 2]})
        one.execute("INSERT OR REPLACE INTO meta VALUES ('journal_identity', ?)", (text,))


def test_another_targets_backup_takes_no_journals_place(store: Store) -> None:
    """The paper stack's has more rows than the live one's, and knows none of its orders."""
    named(journal(store, 9), "of prod")
    content = taken(store)

    def onto(target: str, there: Store) -> events.Restored:
        request = requests.RestoreRequest(len(content), target=target)
        return backup.put_back(there, Kept(content), request)

    live = Store(str(store.base.parent / "live"))
    own = journal(live, 2)
    named(own, "of live")
    with pytest.raises(HostFailure, match="is of target prod") as refused:
        onto("live", live)
    assert refused.value.code == "backup-of-another"
    assert backup.counted(own)["orders"] == 2
    assert not list(live.base.rglob("before-*"))
    fresh = Store(str(store.base.parent / "new"))
    assert onto("new", fresh).target == "prod"
    assert onto("new", fresh).target == "prod", "once more: it is the same journal"
    onto("prod", live)  # the same target's, however its journal was named


def test_while_it_runs_nothing_is_put_back(store: Store) -> None:
    journal(store, 1)
    with pytest.raises(HostFailure, match="runs here"):
        put_back(Store(str(store.base.parent / "other")), taken(store), running=True)


@pytest.mark.parametrize("at", [0, 10, 200, -400])
def test_a_damaged_file_is_refused_whole(store: Store, at: int) -> None:
    journal(store, 50)
    content = bytearray(taken(store))
    content[at] ^= 0xFF
    other = Store(str(store.base.parent / "other"))
    if at == 10:  # the end of gzip's header: nothing of the content
        assert put_back(other, bytes(content)).journal["orders"] == 50
        return
    with pytest.raises(HostFailure) as refused:
        put_back(other, bytes(content))
    assert refused.value.code in {"backup-damaged", "backup-unknown"}
    assert not (other.base / "data").exists()
    assert not list(other.base.glob(".restore-*"))


def test_a_flipped_bit_anywhere_puts_back_nothing_else(store: Store) -> None:
    """Gzip says of some of them what no other error says; what is put back is what was taken."""
    journal(store, 30)
    content = taken(store)
    for bit in range(0, len(content) * 8, max(1, len(content) * 8 // 150)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        other = Store(str(store.base.parent / f"other{bit}"))
        said = ""
        try:
            put_back(other, bytes(damaged))
        except HostFailure as failure:
            said = failure.code
        if not said:
            assert backup.counted(other.base / "data" / backup.JOURNAL)["orders"] == 30
            continue
        assert said in {"backup-damaged", "backup-unknown"}
        assert not (other.base / "data").exists()


def test_what_gzip_alone_raises_is_a_damaged_backup(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(store, 1)
    content = taken(store)

    def fails(*_: object) -> None:
        raise zlib.error("Error -3 while decompressing data: invalid distance too far back")

    monkeypatch.setattr(tarfile.TarFile, "extractfile", fails)
    with pytest.raises(HostFailure) as refused:
        put_back(Store(str(store.base.parent / "other")), content)
    assert refused.value.code == "backup-damaged"


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "bridge/../../x", "elsewhere/x"])
def test_no_name_leads_elsewhere(store: Store, name: str) -> None:
    journal(store, 1)
    with tarfile.open(fileobj=io.BytesIO(taken(store))) as tar:
        head = tar.extractfile("manifest.json")
        assert head is not None
        manifest = json.load(head)
    manifest["files"][name] = "0"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        text = json.dumps(manifest).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    with pytest.raises(HostFailure) as refused:
        put_back(Store(str(store.base.parent / "other")), out.getvalue())
    assert refused.value.code == "backup-damaged"


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        assert all(one.isfile() for one in members)
        return {one.name: tar.extractfile(one).read() for one in members}  # type: ignore[union-attr]


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def changed(content: bytes, **manifest: Any) -> bytes:
    """The backup with other members in its manifest."""
    files = unpacked(content)
    said = {**json.loads(files["manifest.json"]), **manifest}
    return packed({**files, "manifest.json": json.dumps(said).encode()})


def test_it_says_what_it_is(store: Store) -> None:
    store.release("r1").mkdir(parents=True)
    store.switch("r1")
    path = journal(store, 3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE audit (text TEXT)")
        connection.execute("PRAGMA user_version=7")
    wire = Kept()
    found = backup.take(store, wire, requests.BackupRequest("prod", "0.1.0"))
    content = b"".join(base64.b64decode(each.data) for each in wire.events)
    files = unpacked(content)
    said = json.loads(files.pop("manifest.json"))
    assert abs(said.pop("at") - time.time()) < 60
    digests = {
        name.removeprefix("data/"): hashlib.sha256(each).hexdigest() for name, each in files.items()
    }
    counts = {"orders": 3, "audit": 0, "schema": 7}
    assert said == {
        "version": 1,
        "gangway": "0.1.0",
        "target": "prod",
        "release": "r1",
        "journal": counts,
        "files": digests,
    }
    assert (found.size, found.files, found.journal) == (len(content), 1, counts)


def test_a_large_one_is_sent_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(store, 1)
    (store.base / "data/state").mkdir()
    (store.base / "data/state/noise").write_bytes(bytes(range(256)) * 9)
    monkeypatch.setattr(backup, "PIECE", 100)
    wire = Kept()
    found = backup.take(store, wire, requests.BackupRequest("prod", "0.1.0"))
    sizes = [len(base64.b64decode(each.data)) for each in wire.events]
    assert sizes[:-1] == [100] * (found.size // 100)
    assert sum(sizes) == found.size
    content = b"".join(base64.b64decode(each.data) for each in wire.events)
    other = Store(str(store.base.parent / "other"))
    assert put_back(other, content).files == 2
    assert (other.base / "data/state/noise").read_bytes() == bytes(range(256)) * 9


def test_without_a_journal_there_is_nothing_to_back_up(store: Store) -> None:
    store.base.mkdir(parents=True)
    with pytest.raises(HostFailure) as refused:
        taken(store)
    assert refused.value.code == "nothing-to-back-up"


@pytest.mark.parametrize("damage", ["page", "whole"])
def test_a_journal_that_is_damaged_is_no_backup(store: Store, damage: str) -> None:
    path = journal(store, 400)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    content = bytearray(path.read_bytes())
    start = 4096 * 3 if damage == "page" else 16
    content[start : start + 4096 * 4] = b"\xff" * 4096 * 4
    path.write_bytes(content)
    with pytest.raises(HostFailure) as refused:
        taken(store)
    assert refused.value.code == "journal-damaged"
    assert refused.value.message.startswith("the journal is damaged: ")
    assert not list(store.base.glob(".backup-*"))


def test_a_database_that_opens_only_for_its_program_is_copied_with_its_log(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As read-only, one with a log and without its program: the system refuses it."""
    path = journal(store, 3)
    live = sqlite3.connect(path)
    live.execute("INSERT INTO orders (text) VALUES ('last')")
    live.commit()
    left = {end: path.with_name(path.name + end).read_bytes() for end in ("", "-wal")}
    live.close()
    for end, content in left.items():
        path.with_name(path.name + end).write_bytes(content)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    connect: Any = sqlite3.connect

    def refuses(database: Any, **more: Any) -> Any:
        if str(database) == f"{path.as_uri()}?mode=ro":
            raise sqlite3.OperationalError("unable to open database file")
        return connect(database, **more)

    monkeypatch.setattr(sqlite3, "connect", refuses)
    content = taken(store)
    monkeypatch.undo()
    assert names(content) == {"manifest.json", "data/bridge/journal.sqlite3"}
    assert put_back(Store(str(store.base.parent / "other")), content).journal["orders"] == 4
    assert sorted(one.name for one in path.parent.iterdir())[:2] == [path.name, f"{path.name}-wal"]


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        ({"version": 2}, "backup-unknown"),
        ({"version": 0}, "backup-unknown"),
        ({"files": {}}, "backup-damaged"),
        ({"files": {"bridge/journal.sqlite3": "0"}}, "backup-damaged"),
        ({"files": {"bridge/journal.sqlite3": "0", "": "0"}}, "backup-damaged"),
        ({"files": [["bridge/journal.sqlite3"]]}, "backup-damaged"),
        ({"files": 7}, "backup-damaged"),
        ({"journal": None}, "backup-damaged"),
        ({"journal": ["orders"]}, "backup-damaged"),
        ({"journal": {"orders": "2"}}, "backup-damaged"),
        ({"journal": {"orders": 2.5}}, "backup-damaged"),
        ({"at": None}, "backup-damaged"),
        ({"at": "yesterday"}, "backup-damaged"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(
    store: Store, manifest: dict[str, Any], code: str
) -> None:
    journal(store, 1)
    other = Store(str(store.base.parent / "other"))
    with pytest.raises(HostFailure) as refused:
        put_back(other, changed(taken(store), **manifest))
    assert refused.value.code == code
    assert not (other.base / "data").exists()


def test_a_file_that_lacks_or_is_none_is_refused(store: Store) -> None:
    journal(store, 1)
    files = unpacked(taken(store))
    other = Store(str(store.base.parent / "other"))
    for wrong in (
        packed({"manifest.json": files["manifest.json"]}),
        packed({name: content for name, content in files.items() if name != "manifest.json"}),
        packed({**files, "manifest.json": b"{"}),
        *(packed({**files, "manifest.json": each}) for each in (b"[]", b"null", b"1", b'"x"')),
        packed({**files, "manifest.json": b"[" * 100_000}),
        b"",
        b"no archive",
    ):
        with pytest.raises(HostFailure, match="no whole backup of gangway's: ") as refused:
            put_back(other, wrong)
        assert refused.value.code == "backup-damaged"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content) if name == "manifest.json" else 0
            entry.type = tarfile.REGTYPE if name == "manifest.json" else tarfile.DIRTYPE
            tar.addfile(entry, io.BytesIO(content) if entry.isfile() else None)
    with pytest.raises(HostFailure) as refused:
        put_back(other, out.getvalue())
    assert refused.value.code == "backup-damaged"


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


def test_what_unpacks_to_more_than_the_disk_has_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large: a journal of years must come back, and no disk be filled for it."""
    journal(store, 1)
    content = taken(store)
    size = sum(len(each) for name, each in unpacked(content).items() if name != "manifest.json")
    monkeypatch.setattr(backup, "PIECE", 100)
    other = Store(str(store.base.parent / "other"))
    free(monkeypatch, size - 1 + store_module.SPARE_BYTES)
    with pytest.raises(HostFailure) as refused:
        put_back(other, content)
    assert refused.value.code == "disk-full"
    assert not (other.base / "data").exists()
    free(monkeypatch, size + store_module.SPARE_BYTES)
    assert put_back(other, content).files == 1


def test_a_full_disk_is_no_damage_of_the_backup(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(store, 1)
    content = taken(store)
    real: Any = Path.open

    def full(path: Path, *mode: Any, **more: Any) -> Any:
        if path.name == "journal.sqlite3" and "wb" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, *mode, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(HostFailure, match="disk is full") as refused:
        put_back(Store(str(store.base.parent / "other")), content)
    assert refused.value.code == "disk-full"


def test_a_file_that_could_not_be_restored_is_not_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(store, 1)
    assert backup.MOST_BYTES == 2 << 30 <= RESTORABLE
    monkeypatch.setattr(backup, "MOST_BYTES", 100)
    wire = Kept()
    with pytest.raises(HostFailure) as refused:
        backup.take(store, wire, requests.BackupRequest("prod", "0.1.0"))
    assert (refused.value.code, wire.events) == ("backup-too-large", [])


def vanishing(monkeypatch: pytest.MonkeyPatch, gone: Path) -> None:
    """A file that is there when they are listed, and no more when it is copied."""
    real = backup._names

    def names(data: Path) -> Any:
        found = list(real(data))
        gone.unlink()
        return iter(found)

    monkeypatch.setattr(backup, "_names", names)


def test_what_goes_while_it_is_copied_is_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caddy removes its locks, the gateway its settings of yesterday, at any moment."""
    journal(store, 1)
    for name in ("one", "two"):
        (store.base / "data/caddy").mkdir(exist_ok=True)
        (store.base / "data/caddy" / name).write_text("x")
    vanishing(monkeypatch, store.base / "data/caddy/one")
    kept = {"manifest.json", "data/bridge/journal.sqlite3", "data/caddy/two"}
    assert names(taken(store)) == kept


def test_without_its_journal_there_is_no_backup(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal(store, 1)
    (path.with_name("settings.key")).write_text("x")
    vanishing(monkeypatch, path)
    with pytest.raises(FileNotFoundError):
        taken(store)


@pytest.mark.timeout(20)
def test_a_link_and_a_pipe_of_a_container_are_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when they take a file's place after it was looked at."""
    journal(store, 1)
    folder, secret = store.base / "data/gateway/tws", store.base.parent / "secret"
    folder.mkdir(parents=True)
    (store.base.parent / "folder").mkdir()
    for path in (secret, store.base.parent / "folder/inner"):
        path.write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(secret)
    (folder.with_name("away")).symlink_to(store.base.parent / "folder")
    listed = ["bridge/journal.sqlite3"]
    listed += [f"gateway/{name}" for name in ("tws/pipe", "tws/link", "away/inner")]
    monkeypatch.setattr(backup, "_names", lambda _: iter(listed))
    assert names(taken(store)) == {"manifest.json", "data/bridge/journal.sqlite3"}


@pytest.mark.parametrize(
    ("said", "code"),
    [("database or disk is full", "disk-full"), ("database is locked", "journal-busy")],
)
def test_a_journal_that_cannot_be_copied_now_is_not_called_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch, said: str, code: str
) -> None:
    journal(store, 1)

    def refuses(*_: object) -> None:
        raise sqlite3.OperationalError(said)

    monkeypatch.setattr(backup, "_copy_database", refuses)
    with pytest.raises(HostFailure) as refused:
        taken(store)
    assert refused.value.code == code
    assert refused.value.hint


def test_only_what_the_journal_knows_counts_and_not_its_shape(store: Store) -> None:
    path = journal(store, 2)
    content = taken(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=9")
    found = put_back(store, content)
    assert found.journal["schema"] == 0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE executions (text TEXT)")
        connection.execute("INSERT INTO executions VALUES ('x')")
        connection.commit()
    with pytest.raises(HostFailure, match=r"more than the backup: executions$"):
        put_back(store, content)


def archive(store: Store, orders: int) -> Path:
    """Moves the oldest orders of the journal into a file, as the bridge does once a day."""
    path = store.base / "data" / backup.JOURNAL
    file = path.parent / "archive" / "orders-2024-01.jsonl"
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        old = connection.execute("SELECT id FROM orders ORDER BY id LIMIT ?", (orders,)).fetchall()
        with file.open("a") as lines:
            lines.writelines(f'{{"order": {{"id": {number}}}}}\n' for (number,) in old)
        connection.executemany("DELETE FROM orders WHERE id = ?", old)
    return file


def numbered(store: Store, orders: int) -> Path:
    """A journal whose orders are numbered once and for all, as the bridge's are."""
    path = store.base / "data" / backup.JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    table = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT)"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(table)
        connection.executemany("INSERT INTO orders (text) VALUES (?)", [("x",)] * orders)
    return path


def test_a_journal_that_has_archived_orders_is_as_new_as_it_was(store: Store) -> None:
    """Rows leave it: there are fewer in a newer one, and more in an older one."""
    numbered(store, 6)
    older = taken(store)
    archive(store, 4)
    numbered(store, 2)
    newer = taken(store)
    with pytest.raises(HostFailure, match=r"more than the backup: orders$"):
        put_back(store, older)
    other = Store(str(store.base.parent / "other"))
    put_back(other, older)
    assert put_back(other, newer).journal["orders"] == 4
    left = {each.name for each in (other.base / "data" / "bridge").iterdir()}
    assert left == {"journal.sqlite3", "archive"}


def test_what_is_archived_meanwhile_is_in_the_copy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered(store, 3)
    archive(store, 1)
    copied, done = backup._copied, list[str]()

    def slowly(data: Path, name: str, to: Path) -> str:
        found = copied(data, name, to)
        done.append(name)
        if len(done) == 1:
            archive(store, 1)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(backup, "_copied", slowly)
        content = taken(store)
    other = Store(str(store.base.parent / "other"))
    assert put_back(other, content).journal["orders"] == 2
    lines = (other.base / "data/bridge/archive/orders-2024-01.jsonl").read_text().splitlines()
    assert len(lines) == 2, "in both, rather than in neither"


def test_one_row_that_the_backup_does_not_count_is_more(store: Store) -> None:
    present = journal(store, 1)
    backup._require_older(present, {"orders": 1})
    backup._require_older(present, {"orders": 2})
    for counted in ({}, {"orders": 0}, {"executions": 1}):
        with pytest.raises(HostFailure, match=r"more than the backup: orders$"):
            backup._require_older(present, counted)
    backup._require_older(present.with_name("none"), {})


@pytest.mark.parametrize("user", [0, 1000])
def test_what_was_put_back_belongs_to_the_services(
    store: Store, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    journal(store, 1)
    content = taken(store)
    given: list[tuple[str, int, int]] = []
    other = Store(str(store.base.parent / "other"))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(
        os, "chown", lambda path, owner, group: given.append((path.name, owner, group))
    )
    request = requests.RestoreRequest(len(content), 1234)
    found = backup.put_back(other, Kept(content), request)
    own = [("bridge", 1234, 1234), ("journal.sqlite3", 1234, 1234)]
    assert given == (own if user == 0 else [])
    assert (found.aside, found.files, found.target) == ("", 1, "prod")
    assert abs(found.at - time.time()) < 60
    assert stat.S_IMODE(other.base.stat().st_mode) == 0o700
    given.clear()
    backup.put_back(other, Kept(content), requests.RestoreRequest(len(content)))
    assert given == [], "without an owner they stay ours"


def test_what_lay_there_goes_aside_folder_by_folder(store: Store) -> None:
    journal(store, 1)
    content = taken(store)
    for name in ("caddy/own", "bridge/other"):
        (store.base / "data" / name).parent.mkdir(exist_ok=True)
        (store.base / "data" / name).write_text("x")
    aside = Path(put_back(store, content).aside)
    assert aside.parent == store.base / "data"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700
    assert sorted(one.name for one in aside.iterdir()) == ["bridge"]
    assert (aside / "bridge/other").exists()
    assert (store.base / "data/caddy/own").exists(), "the backup has nothing in its place"
    moment = aside.name.removeprefix("before-")
    assert (len(moment), moment[8], moment[-1]) == (16, "T", "Z")


def test_what_is_put_back_is_on_the_disk_before_anything_moves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(store, 1)
    content = taken(store)
    done: list[str] = []
    rename, whole, one = Path.rename, store_module.sync_file_system, store_module.sync_folder

    def renamed(source: Path, to: Path) -> Path:
        done.append(f"{to.name} named")
        return rename(source, to)

    def all_synced(path: Path) -> None:
        assert (path / backup.JOURNAL).stat().st_mode & 0o777 == 0o600
        done.append("all synced")
        whole(path)

    def synced(path: Path) -> None:
        done.append(f"{path.name} synced")
        one(path)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(backup, "sync_file_system", all_synced)
    monkeypatch.setattr(backup, "sync_folder", synced)
    put_back(Store(str(store.base.parent / "other")), content)
    moved = [each for each in done if not each.startswith("before-")]
    assert moved.pop(6).startswith(".restore-done-")
    assert moved == [
        *("all synced", "other synced", ".restoring named", "data synced"),
        *("bridge named", "data synced", "data synced"),
    ]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_restore_that_was_cut_is_completed_and_no_journal_is_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """Between two names: what lay there has gone aside, and nothing is in its place yet."""
    journal(store, 2)
    (store.base / "data" / "gateway").mkdir()
    (store.base / "data" / "gateway" / "jts.ini").write_text("of the backup")
    content = taken(store)
    (store.base / "data" / "gateway" / "jts.ini").write_text("of today")
    rename, left = Path.rename, [cut]

    def renamed(source: Path, to: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return rename(source, to)

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(Path, "rename", renamed)
        put_back(store, content)
    (store.base / ".restore-old").mkdir(exist_ok=True)
    (store.base / ".backup-now").mkdir()
    (store.base / ".backup-old").mkdir()
    os.utime(store.base / ".backup-old", (1, 1))
    wire = Kept()
    backup.complete(store, wire)
    assert backup.counted(store.base / "data" / backup.JOURNAL)["orders"] == 2
    settings = (store.base / "data" / "gateway" / "jts.ini").read_text()
    assert settings == ("of today" if cut == 1 else "of the backup")
    if 1 < cut < 7:
        assert [each.text for each in wire.events] == [
            "an earlier restore did not end; this completes it"
        ]
        [aside] = (store.base / "data").glob("before-*")
        assert (aside / "gateway" / "jts.ini").read_text() == "of today"
    assert [path.name for path in store.scratches()] == [".backup-now"]


def another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`data/` is a disk of its own: nothing gets its name there from outside."""
    rename = Path.rename

    def renamed(source: Path, to: Path) -> Path:
        if ("data" in source.parts) != ("data" in to.parts):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        return rename(source, to)

    monkeypatch.setattr(Path, "rename", renamed)


def test_onto_a_disk_of_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(store, 2)
    content = taken(store)
    another_disk(monkeypatch)
    found = put_back(store, content)
    assert Path(found.aside, backup.JOURNAL).exists()
    assert backup.counted(store.base / "data" / backup.JOURNAL)["orders"] == 2
    assert not store.scratches()


def test_what_an_earlier_release_could_not_bring_onto_its_disk_is_completed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal(store, 2)
    path.parent.rename(store.base / "data" / "before-now")
    (store.base / ".restoring/bridge").mkdir(parents=True)
    (store.base / ".restoring/aside").write_text("before-now")
    (store.base / ".restoring/bridge/settings.key").write_text("restored")
    another_disk(monkeypatch)
    assert backup.complete(store, Kept()) is None
    assert (path.parent / "settings.key").read_text() == "restored"
    assert (store.base / "data/before-now/journal.sqlite3").exists()
    assert not store.scratches()


def cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that cannot go on after its first folder has gone aside."""
    journal(store, 2)
    content = taken(store)
    rename = Path.rename

    def renamed(source: Path, to: Path) -> Path:
        if source.parent.name == backup.RESTORING:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(source))
        return rename(source, to)

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(HostFailure) as refused:
        put_back(store, content)
    assert refused.value.code == "restore-unfinished"
    assert ".restoring" in refused.value.hint


def test_what_cannot_be_completed_says_why_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        cut(store, broken)
        failure = backup.complete(store, Kept())
        assert failure is not None
        assert failure.code == "restore-unfinished"
        with pytest.raises(HostFailure) as refused:  # of two moments, or of none
            taken(store)
        assert refused.value.code == "restore-unfinished"
    assert (store.base / "data/.restoring" / backup.JOURNAL).exists()
    assert backup.complete(store, Kept()) is None
    assert backup.counted(store.base / "data" / backup.JOURNAL)["orders"] == 2


def test_a_backup_that_a_restore_overtakes_is_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal(store, 1)
    content, real = taken(store), backup._names

    def restored(data: Path) -> Any:
        found = list(real(data))
        with monkeypatch.context() as as_before:
            as_before.setattr(backup, "_names", real)
            put_back(store, content)
        return iter(found)

    monkeypatch.setattr(backup, "_names", restored)
    with pytest.raises(HostFailure, match="of two moments"):
        taken(store)
    assert path.exists()


def test_a_mount_is_refused_before_anything_moves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal(store, 1)
    content = taken(store)
    monkeypatch.setattr(backup, "_mounts", lambda: {os.path.realpath(path.parent)})
    with pytest.raises(HostFailure, match="mount of its own"):
        put_back(store, content)
    assert path.exists()
    assert not store.scratches()


def test_what_cannot_be_emptied_is_in_no_restores_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(store, 1)
    content = taken(store)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    for _ in range(2):
        (store.base / "data/before-now").mkdir(exist_ok=True)
        assert put_back(store, content).files == 1
        for aside in (store.base / "data").glob("before-*"):
            aside.rename(aside.with_name(f"of-{aside.stat().st_ino}"))
