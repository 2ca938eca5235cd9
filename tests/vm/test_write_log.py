"""The disk that a power cut leaves, from a log of writes made by hand."""

import random
import struct
from pathlib import Path

from tests.vm.write_log import DISCARD, FLUSH, FUA, MAGIC, SECTOR, Disk, Write, pieces, requests


def entry(sector: int, content: bytes = b"", flags: int = 0) -> bytes:
    data = content.ljust(-(-len(content) // SECTOR) * SECTOR, b"\0")
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
        took = followed.cut(log.stat().st_size, random.Random(seed))
        followed.keep(disk)
        followed.close()
        found = sectors(disk)
        assert found[1:] == [b"b", b"c", b""], "flushed, and written through"
        assert found[0] == (b"a" if took.lost else b"new")
        assert not took.torn, "a sector is whole or not there"
        seen.add(found[0])
    assert seen == {b"a", b"new"}


def test_a_cut_between_two_writes_knows_nothing_of_the_second(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", entry(0, b"a"), entry(0, flags=FLUSH), entry(0, b"b"))
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(SECTOR))
    followed = Disk(disk, log)
    assert followed.cut(4 * SECTOR, random.Random(1)) == ([], [])
    assert (sectors(disk), followed.kept) == ([b"a"], [])
    with log.open("rb") as file:
        assert [one.flags for one in requests(file, 5 * SECTOR)] == [0, FLUSH]
    followed.close()


def test_of_what_was_not_flushed_any_part_may_be_kept(tmp_path: Path) -> None:
    """Eight sectors each: the first is flushed, the second may be torn, the third is asked for."""
    old, new, through = (bytes([letter]) * (8 * SECTOR) for letter in b"abc")
    log = log_of(
        tmp_path / "log",
        entry(4, old),
        entry(0, flags=FLUSH),
        entry(4, new),
        entry(12, through, FUA),
    )
    seen, torn_by = set(), set()
    for seed in range(200):
        disk = tmp_path / "disk"
        disk.write_bytes(bytes(20 * SECTOR))
        followed = Disk(disk, log)
        took = followed.cut(log.stat().st_size, random.Random(seed))
        followed.keep(disk)
        followed.close()
        lies = disk.read_bytes()
        assert lies[12 * SECTOR :] == through
        kept = "".join(chr(lies[at * SECTOR]) for at in range(4, 12))
        assert lies[4 * SECTOR : 12 * SECTOR] == b"".join(one.encode() * SECTOR for one in kept), (
            "a sector is whole"
        )
        assert (kept == "aaaaaaaa") == bool(took.lost)
        assert (kept not in ("aaaaaaaa", "bbbbbbbb")) == bool(took.torn)
        seen.add(kept)
        torn_by |= {kept} if took.torn else set()
    assert {"aaaaaaaa", "bbbbbbbb", "aaaabbbb", "bbbbaaaa"} < seen, "and in pieces of 4 KiB"
    assert len(torn_by) > 20


def test_pieces_lie_as_the_disk_has_them() -> None:
    one = Write(6, 11, 0, 1024)
    assert pieces(one, 8) == [Write(6, 2, 0, 1024), Write(8, 8, 0, 2048), Write(16, 1, 0, 6144)]
    assert pieces(one, 1)[10] == Write(16, 1, 0, 6144)
    assert sum(part.sectors for part in pieces(one, 1)) == 11
