"""Runs the preparation on a host and reads what it reports."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.transport.base import Transport

State = Literal["ok", "would-change", "changed", "failed"]

WITHIN = 7200.0
"""Seconds that the steps of a preparation may take together."""
AS_ROOT = ("sh", "-c", 'if [ "$(id -u)" = 0 ]; then exec sh -s; else exec sudo -n sh -s; fi')
"""The script comes on standard input, so it is in nobody's argument list."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What became of one step."""

    step: str
    title: str
    state: State
    detail: str

    def as_json(self) -> dict[str, str]:
        """The line as it is printed with `--json`."""
        return {
            "step": self.step,
            "title": self.title,
            "state": self.state,
            "detail": self.detail,
        }


def parse(line: bytes) -> StepReport | None:
    """One line of the script's output; None for what a package's own script printed."""
    try:
        values = json.loads(line)
        return StepReport(
            str(values["step"]), str(values["title"]), values["state"], str(values["detail"])
        )
    except (ValueError, KeyError, TypeError):
        return None


def carry_out(transport: Transport, script: str) -> Iterator[StepReport]:
    """Runs the script, giving each step's report as it comes.

    Raises GangwayError when the script could not run at all.
    """
    from infrastructure.errors import GangwayError, HostUnreachable

    program = transport.start(AS_ROOT)
    with contextlib.suppress(HostUnreachable):  # ended already: what it said tells why
        program.write(script.encode())
    program.close_input()
    seen = 0
    until = time.monotonic() + WITHIN
    for line in program.lines(WITHIN):
        if time.monotonic() > until:
            raise HostUnreachable(
                f"{transport.name} was not prepared within {WITHIN / 60:.0f} minutes",
                hint="what was done stays; prepare again goes on from there",
                code="no-answer",
            )
        if (report := parse(line)) is not None:
            seen += 1
            yield report
    status = program.wait()
    if seen == 0:
        told = program.errors().decode(errors="replace").strip().splitlines()
        raise GangwayError(
            f"the preparation did not run on {transport.name}: "
            + (told[-1] if told else f"exit code {status}"),
            hint="the login needs root, or sudo without a password",
            code="prepare-failed",
        )
