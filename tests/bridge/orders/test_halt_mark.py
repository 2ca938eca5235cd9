"""How the mark of a halt is looked at: before each send, and read only when it is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge import halt_mark
from bridge.orders.errors import TradingHaltedError
from bridge.orders.halt import HaltSwitch, stored
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, opened


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


STRICT: dict[str, Any] = {"by": "host", "reason": "stop everything", "cancel": "all"}


async def test_a_mark_that_is_stricter_than_the_halt_counts(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        switch = rig.services[HaltSwitch]
        await rig.halt.halt("lunch", "none", CALLER, allow_closing=True)
        switch.require_closing_allowed()
        assert switch.found_mark() is None, "its own"
        halt_mark.write(tmp_path / "data", STRICT)
        with pytest.raises(TradingHaltedError, match="lunch; stop everything"):
            switch.require_closing_allowed()
        halt = switch.halt
        assert halt is not None
        assert (halt.by, halt.cancel, halt.allow_closing) == (CALLER.key_id, "all", False)
        found = switch.found_mark()
        assert found is not None
        assert (found.cancel, switch.found_mark()) == ("all", None)


async def test_a_milder_mark_adds_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        switch = rig.services[HaltSwitch]
        await rig.halt.halt("lunch", "own", CALLER, allow_closing=True)
        milder = {"by": "host", "cancel": "opening", "allowClosing": True}
        halt_mark.write(tmp_path / "data", milder)
        switch.require_closing_allowed()
        assert switch.found_mark() is None
        halt = switch.halt
        assert halt is not None
        assert (halt.reason, halt.cancel) == ("lunch", "own")


@pytest.mark.parametrize("marked", [True, False])
async def test_a_journal_that_is_not_accepted_lets_no_halt_open_it(
    tmp_path: Path, marked: bool
) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        switch = rig.services[HaltSwitch]
        rig.database.identity.why = "the journal was replaced"
        if marked:
            halt_mark.write(tmp_path / "data", {"by": "host", "allowClosing": True})
        else:
            await rig.halt.halt("lunch", "none", CALLER, allow_closing=True)
        with pytest.raises(TradingHaltedError, match="the journal was replaced") as refused:
            switch.require_closing_allowed()
        for text in (refused.value.next_step, rig.halt.view().next_step or ""):
            assert "journal accept" in text
            assert "DELETE /trading/halt" in text
        kept = await rig.database.read(stored)
        assert kept is None or not kept.not_accepted
        rig.database.identity.why = None
        switch.require_closing_allowed()


async def test_a_halt_also_does_what_a_mark_of_a_moment_before_asks_for(tmp_path: Path) -> None:
    """Nobody has found it yet, and it is hidden by the halt that takes over what it says."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        placed = await rig.place()
        halt_mark.write(tmp_path / "data", STRICT)
        view = await rig.halt.halt("lunch", "none", CALLER)
        assert view.cancelled is not None
        assert view.cancelled.requested == (placed.order_id,)
        assert ("cancel-all", 0) in broker.wire
        assert rig.services[HaltSwitch].found_mark() is None
