"""The stack's folder on the host: whole or not at all, one deploy at a time."""

import errno
import io
import json
import os
import stat
import tarfile
import threading
from pathlib import Path

import pytest

from infrastructure.apply.host.store import KEEP_RELEASES, Store
from infrastructure.apply.protocol import DataFolder
from infrastructure.runtime.base import HostFailure


def archive(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


RELEASE = {"release.json": b'{"files": {"a": "1"}}', "gateway/x.sh": b"x", "secrets/key": b"s"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "opt" / "prod"))


def test_a_release_appears_whole_with_its_modes(store: Store) -> None:
    store.lock("me")
    store.unpack("r1", archive(RELEASE, 0o400), {}, {})
    folder = store.release("r1")
    assert store.has("r1")
    assert stat.S_IMODE((folder / "secrets/key").stat().st_mode) == 0o400
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "gateway").stat().st_mode) == 0o755, "users in containers"
    assert stat.S_IMODE(store.base.stat().st_mode) == 0o700
    assert store.manifest("r1") == {"files": {"a": "1"}}


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b"])
def test_nothing_leaves_the_folder(store: Store, path: str) -> None:
    store.lock("me")
    with pytest.raises(HostFailure, match="odd entry"):
        store.unpack("r1", archive({path: b"x"}), {}, {})
    assert not store.has("r1")


def test_links_are_refused(store: Store) -> None:
    store.lock("me")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(entry)
    with pytest.raises(HostFailure, match="odd entry"):
        store.unpack("r1", buffer.getvalue(), {}, {})


def test_a_full_disk_leaves_no_half_release(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.lock("me")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("infrastructure.apply.host.store.shutil.copyfileobj", full)
    with pytest.raises(HostFailure) as caught:
        store.unpack("r1", archive(RELEASE), {}, {})
    assert caught.value.code == "disk-full"
    assert list((store.base / "releases").iterdir()) == []


def test_the_lock_is_held_and_freed(store: Store) -> None:
    store.lock("anna@laptop")
    other = Store(str(store.base))
    with pytest.raises(HostFailure, match="anna@laptop") as caught:
        other.lock("ben")
    assert caught.value.code == "locked"
    store.unlock()
    other.lock("ben")


def test_anothers_lock_is_waited_for_if_asked(store: Store) -> None:
    store.lock("anna@laptop")
    other, heard = Store(str(store.base)), list[str]()
    ends = threading.Timer(0.6, store.unlock)
    ends.start()
    other.lock("ben", 30, heard.append)
    ends.join()
    assert [each.partition(",")[0] for each in heard] == ["anna@laptop"]
    with pytest.raises(HostFailure, match="ben") as caught:
        store.lock("anna@laptop", 0.5)
    assert caught.value.code == "locked"


def test_current_switches_and_goes(store: Store) -> None:
    store.lock("me")
    assert store.current() is None
    for name in ("r1", "r2"):
        store.unpack(name, archive(RELEASE), {}, {})
        store.switch(name)
        assert store.current() == name
    store.switch(None)
    assert store.current() is None
    store.switch(None)


def test_prune_keeps_the_newest_and_the_one_that_serves(store: Store) -> None:
    store.lock("me")
    for number in range(8):
        store.unpack(f"r{number}", archive(RELEASE), {}, {})
        os.utime(store.release(f"r{number}"), (number, number))
    store.switch("r0")
    (store.base / "releases/.r9.partial").mkdir()
    assert set(store.prune({"r1"})) == {"r2"}
    left = {path.name for path in (store.base / "releases").iterdir()}
    assert left == {"r0", "r1", *(f"r{number}" for number in range(8 - KEEP_RELEASES, 8))}


def test_the_ledger_survives_a_cut_line(store: Store) -> None:
    store.lock("me")
    store.record(release="r1", result="healthy")
    with (store.base / "ledger.jsonl").open("a") as file:
        file.write('{"release": "r2", "res')
    assert [entry["release"] for entry in store.ledger()] == ["r1"]


def test_an_entry_after_a_cut_line_is_kept(store: Store) -> None:
    store.lock("me")
    with (store.base / "ledger.jsonl").open("a") as file:
        file.write('{"release": "r2", "res')
    store.record(release="r3", result="healthy")
    assert [entry["release"] for entry in store.ledger()] == ["r3"]


def test_what_is_pending_is_known_until_it_ends(store: Store) -> None:
    store.lock("me")
    assert store.pending() is None
    store.begin(release="r1", previous=None)
    assert store.pending() == {"release": "r1", "previous": None}
    store.end()
    assert store.pending() is None


def test_data_folders_get_their_mode(store: Store) -> None:
    store.lock("me")
    store.folders([DataFolder("bridge", 0o700, os.getuid())])
    assert stat.S_IMODE((store.base / "data/bridge").stat().st_mode) == 0o700


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps(1))
    with pytest.raises(HostFailure):
        Store(str(tmp_path / "file" / "prod")).lock("me")


def test_what_is_written_is_on_the_disk_before_it_has_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss after any of these leaves the old content or the new one, never a hole."""
    done: list[tuple[str, str]] = []
    rename, fsync = Path.replace, os.fsync

    def noted_rename(path: Path, target: Path) -> Path:
        done.append(("rename", target.name))
        return rename(path, target)

    def noted_fsync(descriptor: int) -> None:
        done.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", noted_rename)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    base = store.base.name
    store.base.mkdir(parents=True, exist_ok=True)
    store.begin(release="r")
    assert done == [("sync", ".pending.json.new"), ("rename", "pending.json"), ("sync", base)]
    done.clear()
    store.switch("r")
    assert done == [("rename", "current"), ("sync", base)]
    done.clear()
    store.end()
    assert done == [("sync", base)]


def test_a_hole_in_the_ledger_costs_no_entry_that_was_written(store: Store) -> None:
    store.base.mkdir(parents=True)
    store.record(result="healthy", release="a")
    with (store.base / "ledger.jsonl").open("a") as file:
        file.write("\0" * 40)
    store.record(result="healthy", release="b")
    assert [entry["release"] for entry in store.ledger()] == ["a", "b"]


def test_what_java_leaves_in_the_gateways_settings_has_a_bound(store: Store) -> None:
    folder = store.base / "data" / "gateway" / "paper"
    folder.mkdir(parents=True)
    for number in range(9):
        for name in (f"launcher.2026011{number}.log", f"hs_err_pid{number}.log", f"{number}.hprof"):
            (folder / name).write_text("x")
            os.utime(folder / name, (number, number))
    for name in ("launcher.log", "jts.ini", "core.xml"):
        (folder / name).write_text("kept")
    assert len(store.prune_gateway()) == 4 + 7 + 8
    left = sorted(path.name for path in folder.iterdir())
    assert left == [
        *("8.hprof", "core.xml", "hs_err_pid7.log", "hs_err_pid8.log", "jts.ini"),
        *(f"launcher.2026011{number}.log" for number in range(4, 9)),
        "launcher.log",
    ]
    assert store.prune_gateway() == []
