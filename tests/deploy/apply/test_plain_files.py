"""What root reads in folders that containers write to: no link of theirs, no pipe."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from infrastructure.runtime import plain_files
from infrastructure.runtime.compose import MOST_FACTS, ComposeRuntime

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder of the gateway's container, and a file of the host's beside it."""
    folder = tmp_path / "data" / "state"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("of the host's")
    return folder


def test_what_the_container_wrote_is_read_from_its_end(state: Path, tmp_path: Path) -> None:
    (state / "login-live").write_bytes(b"old\n" + b"\xff" * MOST_FACTS)
    found = ComposeRuntime(tmp_path, "gangway-prod").login_facts()
    assert found == {"live": "\ufffd" * MOST_FACTS}


def test_a_link_or_a_pipe_says_nothing_and_holds_up_nobody(state: Path, tmp_path: Path) -> None:
    """Every command that looks at the login would wait, with the lock."""
    os.mkfifo(state / "login-live")
    (state / "login-paper").symlink_to(tmp_path / "secret")
    assert ComposeRuntime(tmp_path, "gangway-prod").login_facts() == {}


def test_no_part_of_a_name_is_a_link(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "inner").mkdir()
    (state / "inner/file").write_text("own")
    assert plain_files.beginning_of(state, "inner/file", 2) == "ow"
    assert plain_files.end_of(state, "inner/file", 2) == "wn"
    (state / "away").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(state)  # the name of a socket is short
        listener.bind("socket")
        for name in ("away/secret", "socket", "inner", "missing", "inner/file/x"):
            with pytest.raises(FileNotFoundError):
                plain_files.opened(state, name)
