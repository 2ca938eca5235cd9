"""Disks as a power cut leaves them, on this machine: the record itself, and a few cuts of `up`."""

import os
import random
from pathlib import Path

import pytest

from tests.vm.folder_cuts import Cutter, Target, record
from tests.vm.power_cuts import copy, file_system
from tests.vm.recorded_disk import Mounted, blank, same
from tests.vm.write_log import FLUSH, Disk, requests

pytestmark = pytest.mark.disk


def test_what_was_asked_for_is_kept_and_nothing_else_is_sure(tmp_path: Path) -> None:
    disk, log, place = blank(tmp_path / "disk"), tmp_path / "log", tmp_path / "mount"
    start = copy(disk, tmp_path / "start")
    with Mounted(disk, place, log) as mounted:
        (place / "asked").write_text("kept")
        descriptor = os.open(place / "asked", os.O_RDONLY)
        before = mounted.length()
        os.fsync(descriptor)
        os.close(descriptor)
        asked = mounted.length()
        (place / "later").write_text("written")
    assert same(start, log, disk)
    with log.open("rb") as file:
        flushes = [one for one in requests(file, asked) if one.flags & FLUSH and one.end > before]
    assert flushes, "what a program asks for comes to the disk as a flush"
    found = {}
    for until in (before, asked):
        followed = Disk(copy(start, tmp_path / f"cut{until}"), log)
        followed.cut(until, random.Random(1))
        followed.close()
        file_system(tmp_path / f"cut{until}")
        with Mounted(tmp_path / f"cut{until}", place):
            found[until] = {
                path.name: path.read_text() for path in place.iterdir() if path.is_file()
            }
    assert found[asked] == {"asked": "kept"}
    assert found[before].get("asked") != "kept"


def test_no_cut_of_an_up_leaves_what_the_next_one_cannot_complete(tmp_path: Path) -> None:
    target = Target(tmp_path)
    cutter = Cutter(target, record(target, "first"), random.Random(1))
    seen = list(cutter.each(3))
    assert len(seen) == 3
    assert not [one for one in seen if "wrong" in one], seen
