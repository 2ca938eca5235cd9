"""The sandbox's ports: the usual ones when they are free, kept from then on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from infrastructure.config.sandbox import USUAL, reserved

if TYPE_CHECKING:
    from pathlib import Path


def test_ports_are_kept_and_never_shared(tmp_path: Path) -> None:
    first = reserved(tmp_path)
    assert first.keys() == USUAL.keys()
    assert len(set(first.values())) == len(first)
    assert reserved(tmp_path) == first


def test_a_taken_port_is_stepped_over(tmp_path: Path) -> None:
    wanted = reserved(tmp_path / "a")["portal"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wanted))
        taken.listen()
        assert reserved(tmp_path / "b")["portal"] != wanted
    assert reserved(tmp_path / "a")["portal"] == wanted


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{")
    assert reserved(tmp_path).keys() == USUAL.keys()
