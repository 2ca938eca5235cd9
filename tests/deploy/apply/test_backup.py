"""Backups on the host: of one moment, whole or refused, and nothing newer is lost."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
import stat
import tarfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from infrastructure.apply import protocol
from infrastructure.apply.host import backup
from infrastructure.apply.host.store import Store
from infrastructure.apply.host.wire import Wire
from infrastructure.runtime.base import HostFailure


class Kept(Wire):
    """Keeps what is sent, and hands out what was put in."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), io.BytesIO())
        self.events: list[Any] = []

    def emit(self, event: protocol.Event) -> None:
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
    found = backup.take(store, wire, protocol.BackupRequest("prod", "0.1.0"))
    content = b"".join(base64.b64decode(each.data) for each in wire.events)
    assert len(content) == found.size
    return content


def put_back(store: Store, content: bytes, *, running: bool = False) -> protocol.Restored:
    request = protocol.RestoreRequest(len(content), None, running)
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
        *("state/held-paper", "bridge/journal.reserve"),
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
