"""Backup and restore over SSH, where the data belongs to the containers' user."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.parts.stack import Stack

pytestmark = pytest.mark.timeout(480)


def test_another_host_serves_from_a_backup_halted(
    stack: Stack, make_stack: Callable[[str], Stack], tmp_path: Path
) -> None:
    file = tmp_path / "gangway.backup"
    taken = stack.deploy("backup", str(file), "--json")
    assert taken.code == 0, taken.err
    journal = taken.document["journal"]
    refused = stack.deploy("restore", str(file), "--yes")
    assert (refused.code, "the stack runs here" in refused.err) == (1, True)
    assert stack.deploy("status").code == 0  # and it goes on

    other = make_stack("restored")
    done = other.deploy("restore", str(file), "--yes", "--json")
    assert done.code == 0, done.err
    assert done.document["journal"] == journal
    data = other.base / "data"
    assert (data / "bridge" / "journal.sqlite3").stat().st_uid == 1000
    other.up()
    status = other.deploy("journal", "show", "--json")
    assert status.document["accepted"] is False
    assert other.deploy("journal", "accept", "--yes").code == 0
    assert other.deploy("journal", "show", "--json").document["accepted"] is True
