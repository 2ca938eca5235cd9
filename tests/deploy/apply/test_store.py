"""The stack's folder on the host: whole or not at all, one deploy at a time."""

import ctypes
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infrastructure.apply.host import store as module
from infrastructure.apply.host.store import KEEP_RELEASES, SPARE_BYTES, Store
from infrastructure.apply.protocol.documents import DataFolder, ServiceImage
from infrastructure.apply.protocol.requests import ApplyRequest
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


@pytest.mark.parametrize("frees", [True, False])
def test_a_lock_is_not_taken_for_one_who_has_gone(store: Store, frees: bool) -> None:
    """What it came for may be another's harm by the time the lock is free."""
    store.lock("anna@laptop")
    other, gone = Store(str(store.base)), threading.Event()

    def waiting(_: str) -> None:
        gone.set()
        if frees:
            store.unlock()

    with pytest.raises(HostFailure) as caught:
        other.lock("ben", 3600, waiting, gone.is_set)
    assert caught.value.code == "interrupted"
    store.unlock()
    assert Store(str(store.base)).lock("carl")


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


def test_a_link_in_the_gateways_folder_has_nothing_removed_elsewhere(store: Store) -> None:
    elsewhere = store.base.parent / "elsewhere"
    elsewhere.mkdir(parents=True)
    for number in range(3):
        (elsewhere / f"core.{number}").write_text("of another program's")
    (store.base / "data" / "gateway").mkdir(parents=True)
    (store.base / "data" / "gateway" / "paper").symlink_to(elsewhere)
    assert store.prune_gateway() == []
    assert len(list(elsewhere.iterdir())) == 3


# --- the lock -------------------------------------------------------------------------------------
def test_who_holds_the_lock_is_written_in_it_alone(store: Store) -> None:
    store.lock("a-very-long-name-of-somebody@and-of-a-machine")
    store.unlock()
    store.unlock()
    store.lock("ben")
    said = (store.base / "lock").read_text()
    assert said == f"ben, since {said[-21:-1]}\n"
    assert said[-21:].startswith(time.strftime("%Y-%m-", time.gmtime()))
    (store.base / "lock").write_text("")
    with pytest.raises(HostFailure, match="by an unknown person"):
        Store(str(store.base)).lock("anna")


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_of_a_lock_that_is_waited_for_it_is_told_every_ten_seconds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.lock("anna")
    clock, heard = Clock(), list[float]()
    fake = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    monkeypatch.setattr(module, "time", fake)
    other = Store(str(store.base))
    with pytest.raises(HostFailure) as refused:
        other.lock("ben", 25, lambda _: heard.append(clock.now))
    assert (heard, clock.now) == ([50.0, 60.0, 70.0], 75.0)
    assert refused.value.code == "locked"
    with pytest.raises(HostFailure):
        other.lock("ben", 0, lambda _: heard.append(clock.now))
    assert len(heard) == 3, "it is waited for only if asked"


def test_the_key_of_the_bridge_that_serves(store: Store) -> None:
    store.lock("me")
    assert store.bridge_key() == ""
    store.unpack("r1", archive({**RELEASE, "secrets/bridge-admin-key": b"k3y\n"}), {}, {})
    store.switch("r1")
    assert store.bridge_key() == "k3y"
    (store.release("r1") / "secrets/bridge-admin-key").write_bytes(b"\xff\xfe")
    assert store.bridge_key() == ""


# --- releases -------------------------------------------------------------------------------------
def test_what_is_not_a_release_is_none(store: Store) -> None:
    store.lock("me")
    assert store.manifest("r1") == store.manifest(None) == {}
    store.release("r1").mkdir(parents=True)
    (store.release("r1") / "release.json").write_text("{")
    assert store.manifest("r1") == {}
    assert not store.has("r2")


def test_what_did_not_change_comes_from_the_current_release(store: Store) -> None:
    store.lock("me")
    store.unpack("r1", archive({**RELEASE, "secrets/deep/key": b"deep"}), {}, {})
    store.switch("r1")
    reused = {"gateway/x.sh": 0o1755, "secrets/deep/key": 0o400}
    store.unpack("r2", archive({"release.json": b"{}"}), {"gateway/x.sh": os.getuid()}, reused)
    folder = store.release("r2")
    assert (folder / "gateway/x.sh").read_bytes() == b"x"
    assert (folder / "secrets/deep/key").read_bytes() == b"deep"
    modes = {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
        if str(path.relative_to(folder)) != "release.json"
    }
    assert modes == {
        "gateway": 0o755,
        "gateway/x.sh": 0o755,
        "secrets": 0o700,
        "secrets/deep": 0o755,
        "secrets/deep/key": 0o400,
    }
    (folder / "gateway/old").write_text("of a release of the same name")
    (store.base / "releases/.r2.partial").mkdir()
    (store.base / "releases/.r2.partial/left").write_text("of one that was killed")
    store.unpack("r2", archive({"release.json": b"{}", "a/b/c": b""}), {}, {})
    assert sorted(path.name for path in folder.rglob("*")) == ["a", "b", "c", "release.json"]
    with pytest.raises(HostFailure, match="odd entry"):
        store.unpack("r3", archive({}), {}, {"../x": 0o600})
    with pytest.raises(HostFailure) as refused:
        store.unpack("r3", archive({}), {}, {"not/there": 0o600})
    assert refused.value.code == "bad-release"


def test_what_was_changed_on_the_host_is_not_taken_over(store: Store) -> None:
    store.lock("me")
    store.unpack("r1", archive({**RELEASE, "secrets/key": b"s"}), {}, {})
    store.switch("r1")
    digest = hashlib.sha256(b"x").hexdigest()
    listing = json.dumps({"files": {"gateway/x.sh": digest, "secrets/key": "slow"}}).encode()
    listed = {"gateway/x.sh": "other", "secrets/key": "slow", "secrets/gone": "s", "not/there": "n"}
    assert store.digests("r1", listed) == {"gateway/x.sh": digest, "secrets/key": "slow"}
    both = {"gateway/x.sh": 0o755, "secrets/key": 0o400}
    store.unpack("r2", archive({"release.json": listing}), {}, both)
    (store.release("r1") / "gateway/x.sh").write_text("edited by hand")
    with pytest.raises(HostFailure, match="was changed on the host") as refused:
        store.unpack("r3", archive({"release.json": listing}), {}, {"gateway/x.sh": 0o755})
    assert refused.value.code == "bad-release"
    assert not store.has("r3")


def test_a_release_leaves_room_for_logs_and_the_ledger(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.lock("me")
    content = archive(RELEASE)
    needed = 2 * len(content) + SPARE_BYTES
    assert SPARE_BYTES == 16 << 20
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(HostFailure) as refused:
        store.unpack("r1", content, {}, {})
    assert refused.value.code == "disk-full"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    store.unpack("r1", content, {}, {})
    assert store.has("r1")


def test_files_get_the_owner_that_reads_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.lock("me")
    given: list[Any] = []
    monkeypatch.setattr(os, "chown", lambda *all: given.append(all))
    store.unpack("r1", archive(RELEASE), {"secrets/key": os.getuid(), "gateway/x.sh": 1234}, {})
    store.folders([DataFolder("deep/er", 0o750, 4321), DataFolder("ours", 0o700)])
    assert [(path.name, user, group) for path, user, group in given] == [
        ("x.sh", 1234, 1234),
        ("er", 4321, 4321),
    ]
    store.folders([DataFolder("deep/er", 0o700)])
    assert stat.S_IMODE((store.base / "data/deep/er").stat().st_mode) == 0o700

    def denied(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", denied)
    with pytest.raises(HostFailure, match="er must belong to user 4321") as refused:
        store.folders([DataFolder("deep/er", 0o750, 4321)])
    assert refused.value.code == "not-root"


def test_a_link_that_a_killed_switch_left_is_no_hindrance(store: Store) -> None:
    store.lock("me")
    (store.base / ".current").symlink_to("releases/r0")
    store.switch("r1")
    assert (store.base / "current").readlink() == Path("releases/r1")
    assert not (store.base / ".current").is_symlink()


def applied(name: str) -> ApplyRequest:
    services = [ServiceImage("bridge", "b:1", builds=True, fresh=True)]
    checks: Any = {"bridge": {"port": 8080}}
    return ApplyRequest(name, services, {}, checks, 60, "me")


def test_what_a_rollback_needs_is_noted_with_the_release(store: Store) -> None:
    store.lock("me")
    store.unpack("r1", archive(RELEASE), {}, {})
    assert store.noted("r1") == {}
    store.note(applied("r1"))
    kept = {"name": "bridge", "image": "b:1", "builds": True, "fresh": False}
    kept |= {"needs": "", "api_key": ""}  # a worker's: a rollback waits and makes keys by them
    assert store.noted("r1") == {"services": [kept], "checks": {"bridge": {"port": 8080}}}
    store.pin("r1", {"b:1": "sha256:1"})
    assert store.noted("r1")["images"] == {"b:1": "sha256:1"}
    assert store.noted("r1")["services"] == [kept]
    (store.release("r1") / "deploy.json").write_text("{")
    assert store.noted("r1") == {}


def test_the_last_that_was_healthy_is_where_a_rollback_leads(store: Store) -> None:
    store.lock("me")
    for name in ("r1", "r2", "r3"):
        store.unpack(name, archive(RELEASE), {}, {})
    assert store.proven(but=None) is None
    for name in ("r2", "r1"):
        store.record(release=name, result="healthy")
    store.record(release="r3", result="failed")
    store.record(release="gone", result="healthy")
    store.record(release=None, result="healthy")
    store.record(release="r0", result="down")
    assert store.proven(but=None) == "r1"
    assert store.proven(but="r1") == "r2"
    assert store.proven(but="r2") == "r1"


def test_the_kept_releases_are_told_in_order_of_their_use(store: Store) -> None:
    store.lock("me")
    assert store.kept() == []
    for at, name in enumerate(("r1", "r2", "r3")):
        store.unpack(name, archive(RELEASE), {}, {})
        os.utime(store.release(name), (at, at))
    (store.base / "releases/file").write_text("")
    (store.base / "releases/.r4.partial").mkdir()
    assert store.kept() == ["r3", "r2", "r1"]
    store.touch("r1")
    assert store.kept() == ["r1", "r3", "r2"]
    store.switch("r1")
    assert store.prune() == []
    assert not (store.base / "releases/.r4.partial").exists()


def test_the_healthy_one_before_is_never_pruned(store: Store) -> None:
    store.lock("me")
    for number in range(8):
        store.unpack(f"r{number}", archive(RELEASE), {}, {})
        os.utime(store.release(f"r{number}"), (number, number))
    store.record(release="r0", result="healthy")
    store.record(release="r7", result="healthy")
    store.switch("r7")
    assert store.prune() == ["r2", "r1"]
    assert KEEP_RELEASES == 5


def test_links_and_folders_in_the_gateways_settings_stay(store: Store) -> None:
    folder = store.base / "data" / "gateway" / "paper"
    folder.mkdir(parents=True)
    (folder / "odd.hprof").mkdir()
    (folder / "new.hprof").write_text("")
    (folder / "old.hprof").symlink_to("/nowhere")
    for at, name in enumerate(("odd", "old", "new")):
        os.utime(folder / f"{name}.hprof", (at, at), follow_symlinks=False)
    assert store.prune_gateway() == []
    assert len(list(folder.iterdir())) == 3


def test_images_that_did_not_become_healthy_are_remembered_so_many(store: Store) -> None:
    store.lock("me")
    assert store.refused() == {}
    for at in range(51):
        store.refuse(f"sha256:{at}", "bridge-ended")
    found = store.refused()
    assert list(found) == [f"sha256:{at}" for at in range(1, 51)]
    assert found["sha256:50"].endswith(": bridge-ended")
    assert len(found["sha256:50"].partition(":")[0]) == len("2026-02-13")
    for text in ("{", "[1]", "7"):
        (store.base / "refused.json").write_text(text)
        assert store.refused() == {}


# --- records --------------------------------------------------------------------------------------
def test_only_a_whole_stack_that_was_healthy_proves_a_release(store: Store) -> None:
    store.lock("me")
    for name in ("r1", "r2"):
        store.release(name).mkdir(parents=True)
        (store.release(name) / "release.json").write_text("{}")
    store.record(release="r1", command="up", result="healthy", whole=True)
    store.record(release="r2", command="up", result="waiting-2fa", whole=True)
    store.record(release="r2", command="restart caddy", result="healthy")
    store.record(release="r2", command="sync", result="healthy", whole=False)
    assert store.proven(but=None) == "r1"
    store.record(release="r2", command="sync", result="healthy")  # as before there was `whole`
    assert store.proven(but=None) == "r2"


def test_a_byte_that_is_no_text_costs_the_ledger_nothing(store: Store) -> None:
    store.lock("me")
    store.record(release="a", result="healthy")
    with (store.base / "ledger.jsonl").open("ab") as file:
        file.write(b'{"release": "b", "by": "\xff\xfe"}\n[1]\n"x"\n')
    store.record(release="c", result="healthy")
    assert [entry["release"] for entry in store.ledger()] == ["a", "b", "c"]
    (store.base / "pending.json").write_bytes(b'["\xff"]')
    assert store.pending() is None


def test_a_full_disk_forbids_no_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    store.lock("me")
    with pytest.raises(HostFailure) as refused:
        Store(str(store.base)).lock("you")
    assert refused.value.code == "locked"


def test_the_ledger_is_for_its_owner_and_has_a_line_for_each_entry(store: Store) -> None:
    store.lock("me")
    assert store.ledger() == []
    store.record(release="r1", result="healthy")
    store.record(release="r2", result="healthy")
    path = store.base / "ledger.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().split("\n")
    assert [len(line) > 0 for line in lines] == [True, True, False]
    moment = json.loads(lines[0])["time"]
    assert (moment[4], moment[10], moment[-1], len(moment)) == ("-", "T", "Z", 20)


def test_a_new_ledger_has_its_name_on_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.lock("me")
    synced: list[Path] = []
    monkeypatch.setattr(module, "sync_folder", synced.append)
    store.record(release="r1")
    store.record(release="r2")
    assert synced == [store.base]


def test_an_odd_note_of_what_is_pending_is_none(store: Store) -> None:
    store.lock("me")
    (store.base / "pending.json").write_text("{")
    assert store.pending() is None
    store.end()
    store.end()
    store.begin(release="r1")
    assert stat.S_IMODE((store.base / "pending.json").stat().st_mode) == 0o600
    module.sync_folder(store.base / "not-there")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.ENOSPC, "disk-full", "the host's disk is full"),
        (errno.EDQUOT, "disk-full", "the host's disk is full"),
        (errno.EACCES, "folder-denied", "may not write to"),
        (errno.EPERM, "folder-denied", "may not write to"),
        (errno.EROFS, "disk-read-only", "can only be read"),
        (errno.EIO, "folder", "Input/output error: "),
    ],
)
def test_why_nothing_can_be_written_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, code: str, said: str
) -> None:
    store.lock("me")

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "write_whole", fails)
    writes: list[Callable[[], None]] = [
        lambda: store.begin(release="r1"),
        lambda: store.refuse("sha256:1", "x"),
        lambda: store.pin("r1", {}),
        lambda: store.note(applied("r1")),
    ]
    for write in writes:
        with pytest.raises(HostFailure, match=said) as refused:
            write()
        assert refused.value.code == code
        untouched = write in (writes[0], writes[3])
        assert ("nothing was changed" in refused.value.message) is untouched


def test_a_release_is_brought_to_the_disk_also_where_only_everything_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.lock("me")
    synced: list[str] = []

    def library(_: object, **__: object) -> Any:
        return SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(os, "sync", lambda: synced.append("all"))
    store.unpack("r1", archive(RELEASE), {}, {})
    assert synced == ["all"]
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syncfs=lambda _: -1))
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EIO)
    with pytest.raises(HostFailure, match="Input/output error"):
        store.unpack("r2", archive(RELEASE), {}, {})
    assert not store.has("r2")


def test_a_file_of_a_release_is_nothing_but_readable_writable_and_to_be_run(store: Store) -> None:
    store.lock("me")
    store.unpack("r1", archive({"release.json": b"{}", "x": b"x"}, 0o6755), {}, {})
    assert stat.S_IMODE((store.release("r1") / "x").stat().st_mode) == 0o755


# --- the power is cut -----------------------------------------------------------------------------
def test_what_was_half_removed_is_never_called_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go one after the other: a cut may leave a manifest, and not what it tells of."""
    store.lock("me")
    for number in range(KEEP_RELEASES + 2):
        store.unpack(f"r{number}", archive(RELEASE), {}, {})
        os.utime(store.release(f"r{number}"), (number, number))
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert store.prune() == ["r1", "r0"]
    assert not store.has("r0")
    assert "r0" not in store.kept()
    monkeypatch.undo()
    store.prune()
    assert not list(store.base.glob("releases/.*")), "the next deploy removes the rest"


def test_a_manifest_that_cannot_be_read_is_none(store: Store) -> None:
    store.lock("me")
    store.unpack("r1", archive(RELEASE), {}, {})
    (store.release("r1") / "release.json").write_bytes(bytes(27))
    assert not store.has("r1"), "it is sent again"
    store.unpack("r1", archive(RELEASE), {}, {})
    assert store.has("r1")
    assert not list(store.base.glob("releases/.*"))


def test_names_that_go_are_on_the_disk_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.lock("me")
    store.unpack("r1", archive(RELEASE), {}, {})
    synced: list[Path] = []
    monkeypatch.setattr(module, "sync_folder", synced.append)
    store.folders([DataFolder("bridge", 0o700)])
    assert synced == [store.base / "data" / "bridge", store.base / "data"]
    store.switch("r1")
    store.switch(None)
    assert synced[2:] == [store.base, store.base]
