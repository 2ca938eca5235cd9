"""The disk that a power cut leaves, from a log of writes made by hand."""

import random
import struct
from pathlib import Path

from tests.vm.write_log import DISCARD, FLUSH, FUA, MAGIC, SECTOR, Disk, requests


def entry(sector: int, content: bytes = b"", flags: int = 0) -> bytes:
    data = content.ljust(SECTOR, b"\0") if content else b""
    head = struct.pack("<QQQQ", sector, len(data) // SECTOR, flags, 0)
    return head.ljust(SECTOR, b"\0") + data


def log_of(path: Path, *entries: bytes) -> Path:
    head = struct.pack("<QQQI", MAGIC, 1, len(entries), SECTOR).ljust(SECTOR, b"\0")
    path.write_bytes(head + b"".join(entries) + bytes(SECTOR))
    return path


def sectors(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return [content[at : at + SECTOR].rstrip(b"\0") for at in range(0, len(content), SECTOR)]


def test_what_was_flushed_is_kept_and_the_rest_may_be_lost(tmp_path: Path) -> None:
    log = log_of(
        tmp_path / "log",
        entry(0, b"a"),
        entry(1, b"b"),
        entry(0, flags=FLUSH),
        entry(0, b"new"),
        entry(2, b"c", FUA),
        entry(3, flags=DISCARD),
    )
    seen = set()
    for seed in range(40):
        disk = tmp_path / f"disk{seed}"
        disk.write_bytes(bytes(4 * SECTOR))
        followed = Disk(disk, log)
        lost = followed.cut(log.stat().st_size, random.Random(seed))
        followed.keep(disk)
        followed.close()
        found = sectors(disk)
        assert found[1:] == [b"b", b"c", b""], "flushed, and written through"
        assert found[0] == (b"a" if lost else b"new")
        seen.add(found[0])
    assert seen == {b"a", b"new"}


def test_a_cut_between_two_writes_knows_nothing_of_the_second(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", entry(0, b"a"), entry(0, flags=FLUSH), entry(0, b"b"))
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(SECTOR))
    followed = Disk(disk, log)
    assert followed.cut(4 * SECTOR, random.Random(1)) == []
    assert (sectors(disk), followed.kept) == ([b"a"], [])
    with log.open("rb") as file:
        assert [one.flags for one in requests(file, 5 * SECTOR)] == [0, FLUSH]
    followed.close()
