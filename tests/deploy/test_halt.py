"""`halt` as a command: a kill switch never refuses for its comment."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bridge.api.orders import HaltBody
from infrastructure.apply.protocol.events import Halted
from infrastructure.cli import host, main
from infrastructure.cli.commands.halt import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Switch:
    """A host whose bridge halts, if it can read what it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def halt(self, cancel: str, reason: str) -> Halted:
        body = msgspec.json.encode({"reason": reason})
        self.asked.append((cancel, msgspec.json.decode(body, type=HaltBody).reason))
        return Halted("bridge", {"halted": True, "survivesRestart": True}, "left", 200)


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Switch:
    found = Switch()

    @contextmanager
    def connected(*_: Any) -> Iterator[Switch]:
        yield found

    monkeypatch.setattr(host, "connected", connected)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return found


def halts(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["halt", *words])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("words", "cancel", "reason"),
    [
        (["--reason", "the bot is mad"], "opening", "the bot is mad"),
        (["--reason=mad", "--all"], "all", "mad"),
        (["--reason", "", "--all"], "all", ""),
        (["--reason=", "--keep-orders"], "none", ""),
        (["--reason", " "], "opening", ""),
        (["--reason", "--all"], "all", ""),
        (["--all", "--reason"], "all", ""),
        (["--reason", os.fsdecode("verr\u00fcckt".encode("latin-1"))], "opening", "verr?ckt"),
        (["--reason", "x" * LONGEST], "opening", "x" * LONGEST),
        (["--reason", "\u00fc" * (LONGEST + 1)], "opening", "\u00fc" * (LONGEST - 1) + "\u2026"),
    ],
)
def test_no_reason_keeps_it_from_halting(
    switch: Switch, words: list[str], cancel: str, reason: str
) -> None:
    assert halts(*words) == 0
    assert switch.asked == [(cancel, reason)]


def test_what_is_cancelled_is_no_comment(switch: Switch) -> None:
    assert halts("--all", "--keep-orders") == 2
    assert halts("--al", "--reason", "") == 2
    assert switch.asked == []
