"""How the mark of a halt is looked at: before each send, and read only when it is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge import halt_mark
from bridge.orders.halt import HaltSwitch
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import opened


async def test_it_is_read_once_for_each_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    real = halt_mark.read

    def noted(folder: Path) -> dict[str, Any] | None:
        read.append(folder)
        return real(folder)

    async with opened(tmp_path, FakeBroker()) as rig:
        switch = rig.services[HaltSwitch]
        monkeypatch.setattr(halt_mark, "read", noted)
        for _ in range(3):
            assert switch.halt is None
        assert read == [], "there is none"
        halt_mark.write(tmp_path / "data", {"by": "host", "reason": "first", "cancel": "none"})
        for _ in range(3):
            found = switch.halt
            assert found is not None
            assert found.reason == "first"
        assert len(read) == 1
        halt_mark.write(tmp_path / "data", {"by": "host", "reason": "second one", "cancel": "none"})
        found = switch.halt
        assert found is not None
        assert found.reason == "second one"
        assert len(read) == 2
        halt_mark.remove(tmp_path / "data")
        for _ in range(3):
            assert switch.halt is None
        assert len(read) == 2


def stands(switch: HaltSwitch) -> tuple[bool, bool, bool]:
    """Whether it is on, whether the journal knows, and whether the next process will."""
    return switch.halt is not None, switch.journaled, switch.survives_restart


async def test_what_the_journal_knows_of_the_halt_that_holds(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        switch = rig.services[HaltSwitch]
        assert stands(switch) == (False, True, True)
        halt_mark.write(tmp_path / "data", {"by": "host", "reason": "x", "cancel": "none"})
        assert stands(switch) == (True, False, True)
        halt_mark.remove(tmp_path / "data")
        assert stands(switch) == (False, True, True)
        switch.turn_on("me", "y", "none")
        assert stands(switch) == (True, False, False)
        await switch.keep()
        assert stands(switch) == (True, True, True)
        assert await switch.turn_off() is True
        assert await switch.turn_off() is False
