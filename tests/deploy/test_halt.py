"""`halt` as a command: a kill switch never refuses for its comment."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bridge.api.orders import HaltBody
from infrastructure.apply.protocol.events import Cancelled, Halted
from infrastructure.cli import host, main
from infrastructure.cli.commands.halt import LONGEST
from infrastructure.errors import DeployFailed, GangwayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Switch:
    """A host whose bridge halts, if it can read what it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: dict[str, Any] = {"halted": True, "survivesRestart": True}
        self.mark = "left"
        self.straight: Cancelled | GangwayError = Cancelled(0, [])
        self.globally = 0

    def halt(self, cancel: str, reason: str) -> Halted:
        body = msgspec.json.encode({"reason": reason})
        self.asked.append((cancel, msgspec.json.decode(body, type=HaltBody).reason))
        return Halted("bridge", {"cancel": cancel, **self.answer}, self.mark, 200)

    def cancel_all(self) -> Cancelled:
        self.globally += 1
        if isinstance(self.straight, GangwayError):
            raise self.straight
        return self.straight


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


FAILED = {"cancelled": {"requested": [], "queued": [], "failed": ["o1", "o2"], "kept": []}}


def test_a_bridge_that_could_send_no_cancel_is_no_success(
    switch: Switch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is halted, and the orders work on: the session is taken, or hangs."""
    switch.answer |= FAILED | {"nextStep": "Another client has the session"}
    assert halts() == 1
    said = capfd.readouterr().err
    assert "2 failed" in said
    assert "Another client has the session" in said
    assert "halt --all" in said
    assert switch.globally == 0


@pytest.mark.parametrize(("left", "code"), [(0, 0), (2, 1), (None, 1)])
def test_with_all_the_global_cancel_goes_around_it(
    switch: Switch, capfd: pytest.CaptureFixture[str], left: int | None, code: int
) -> None:
    switch.answer |= FAILED
    switch.straight = Cancelled(left, [])
    assert halts("--all", "--json") == code
    document = json.loads(capfd.readouterr().out)
    assert (document["halted"], document["globalCancel"]["left"]) == (True, left)
    assert switch.globally == 1


def test_a_gateway_out_of_reach_does_not_hide_the_halt(
    switch: Switch, capfd: pytest.CaptureFixture[str]
) -> None:
    switch.answer |= FAILED
    switch.straight = DeployFailed("NO order was cancelled", code="gateway-unreachable")
    assert halts("--all", "--json") == 1
    document = json.loads(capfd.readouterr().out)
    assert (document["halted"], document["error"]) == (True, "gateway-unreachable")


def test_what_is_not_known_to_be_open_is_not_called_none(
    switch: Switch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The bridge counts its own orders, and the cancel was for everyone's."""
    switch.answer["cancelled"] = {"requested": [], "queued": [], "failed": [], "kept": []}
    assert halts("--all") == 0
    said = capfd.readouterr().err
    assert "none was open" not in said
    assert "every open order of every client" in said
    assert halts() == 0
    assert "none was open" in capfd.readouterr().err


@pytest.mark.parametrize(("mark", "warned"), [("left", False), ("no room", True)])
def test_what_holds_after_a_restart_is_what_is_said(
    switch: Switch, capfd: pytest.CaptureFixture[str], mark: str, warned: bool
) -> None:
    switch.answer["survivesRestart"] = False
    switch.mark = mark
    assert halts() == 0
    assert ("do not restart the bridge" in capfd.readouterr().err) is warned
