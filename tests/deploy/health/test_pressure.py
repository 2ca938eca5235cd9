"""Budgets of time: what a machine keeps from its programs is not charged, up to a bound."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from infrastructure.health import pressure
from infrastructure.health.pressure import Budget, stalled
from infrastructure.runtime.streamed import Streamed, completed


class Machine:
    """A clock, and the share of its time in which programs wait."""

    def __init__(self, share: float = 0.0) -> None:
        self.now, self.share = 100.0, share
        self.waited = 5000.0

    def monotonic(self) -> float:
        return self.now

    def stalled(self) -> dict[str, float]:
        return {"cpu": self.waited, "memory": 1.0}

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.waited += seconds * self.share

    def budget(self, seconds: float, stretch: float) -> Budget:
        return Budget(seconds, stretch, clock=self, counted=self.stalled)


@pytest.mark.parametrize(
    ("share", "stretch", "lasts"),
    [(0.0, 5.0, 10), (0.5, 5.0, 20), (0.9, 5.0, 50), (1.0, 3.0, 30), (1.0, 1.0, 10)],
)
def test_time_in_which_programs_wait_is_not_charged(
    share: float, stretch: float, lasts: float
) -> None:
    machine = Machine(share)
    budget = machine.budget(10, stretch)
    while not budget.over:
        machine.passes(0.25)
    assert lasts <= machine.now - 100 <= lasts + 1


def test_what_was_waited_before_it_began_gives_nothing() -> None:
    machine = Machine()
    budget = machine.budget(10, 5.0)
    machine.passes(10.5)
    assert budget.over


def test_a_long_look_away_is_granted_once_and_not_more_than_passed() -> None:
    machine = Machine(3.0)  # three processors, each with one that waits
    budget = machine.budget(10, 5.0)
    machine.passes(8)
    assert budget.left == budget.left == 10
    machine.share = 0.0
    machine.passes(10.5)
    assert budget.over


def test_a_count_that_begins_later_or_goes_back_grants_nothing() -> None:
    counts = [{}, {"cpu": 900.0}, {"cpu": 1.0}, {"cpu": 1.0}]
    machine = Machine()
    budget = Budget(10, 5.0, clock=machine, counted=lambda: counts.pop(0))
    for _ in range(2):
        machine.passes(4)
        assert budget.left > 0
    machine.passes(4)
    assert budget.over


def test_what_moves_has_some_time_left_as_far_as_the_budget_may_grow() -> None:
    machine = Machine()
    budget = machine.budget(10, 2.0)
    machine.passes(9)
    budget.at_least(5)
    assert budget.left == 5
    budget.at_least(3)
    assert budget.left == 5, "it takes nothing away"
    machine.passes(5)
    budget.at_least(9)
    assert budget.left == 6, "10 seconds more were all"


def test_a_command_has_longer_where_programs_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = iter(range(1000))  # a second of waiting at each look
    monkeypatch.setattr(pressure, "stalled", lambda: {"cpu": float(next(machine))})
    command = ["sh", "-c", "cat; echo wrong >&2; sleep 0.25; exit 3"]
    done = completed(command, "text", 0.1)
    assert (done.returncode, done.stdout, done.stderr) == (3, "text", "wrong\n")


def test_a_command_that_does_not_end_is_killed_on_any_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for counted in ({}, {"cpu": 0.0}):
        monkeypatch.setattr(pressure, "stalled", lambda counted=counted: dict(counted))
        with pytest.raises(subprocess.TimeoutExpired):
            completed(["sleep", "60"], "", 0.05)
        endless = Streamed(["sh", "-c", "echo begun; exec sleep 60"], "", 2.0)
        assert list(endless) == ["begun"]
        assert endless.code == -9


def test_a_build_that_has_no_end_is_killed_with_what_it_has_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pressure, "stalled", dict)
    began = time.monotonic()
    build = Streamed(["sh", "-c", "sleep 40 & echo begun; wait"], "", 0.5)
    assert (list(build), build.code) == (["begun"], -9)
    assert time.monotonic() - began < 20, "a child that holds the pipe is no reason to wait"


def test_a_build_has_longer_where_programs_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = iter(range(1000))
    monkeypatch.setattr(pressure, "stalled", lambda: {"cpu": float(next(machine))})
    build = Streamed(["sh", "-c", "sleep 0.25; echo built"], "", 0.1)
    assert list(build) == ["built"]
    assert build.code == 0


# --- what the kernel counts -----------------------------------------------------------------------


def kernel(folder: Path, **counted: str) -> Path:
    (folder / "pressure").mkdir()
    for kind, text in counted.items():
        (folder / ("stat" if kind == "stat" else f"pressure/{kind}")).write_text(text)
    return folder


def test_what_the_kernel_counts_is_read(tmp_path: Path) -> None:
    some = (
        "some avg10=1.00 avg60=0.10 avg300=0.00 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    assert stalled(kernel(tmp_path, cpu=some, io="nothing of the kind\n")) == {"cpu": 2.5}


def test_what_the_kernel_does_not_count_hides_nothing_else(tmp_path: Path) -> None:
    assert stalled(tmp_path) == {}
    some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull x\n"
    proc = kernel(tmp_path, io=some, cpu="", memory="some avg10=0.00 total=soon\n", stat="cpu 1\n")
    assert stalled(proc) == {"io": 2.5}


def test_what_a_hypervisor_keeps_from_the_machine_is_counted(tmp_path: Path) -> None:
    """A shared processor is slow without a program of ours that waits for another."""
    ticks = os.sysconf("SC_CLK_TCK")
    line = f"cpu  {9 * ticks} 0 0 0 0 0 0 {4 * ticks} 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert stalled(kernel(tmp_path, stat=line)) == {"stolen": 4.0}
