"""The one place where failures are shown: `error: …`, the place, `hint: …`."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING

from infrastructure.cli.output import paint

if TYPE_CHECKING:
    from infrastructure.errors import GangwayError, Problem


def lines(problem: Problem, word: str = "error") -> list[str]:
    """A problem as the lines that are printed."""
    shown = [f"{word}: {problem.message}"]
    if problem.place is not None and str(problem.place):
        shown.append(f"  at: {problem.place}")
    shown += [f"hint: {line}" for line in problem.hint.splitlines() if line]
    return shown


def failure(error: GangwayError, *, as_json: bool, verbose: bool) -> int:
    """Prints the failure and returns its exit code."""
    if verbose:
        traceback.print_exception(error)
    problems = error.problems()
    if error.details:
        sys.stderr.write(error.details.rstrip("\n") + "\n")
    for problem in problems:
        for line in lines(problem):
            sys.stderr.write(paint(line) + "\n")
    if as_json and not getattr(error, "reported", False):
        document = {
            "error": error.code,
            "message": error.message,
            "exitCode": error.exit_code,
            "problems": [problem.as_json() for problem in problems],
        }
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    return error.exit_code


def unexpected(error: Exception, *, as_json: bool, verbose: bool) -> int:
    """A bug of ours: still one line, with the way to see more."""
    from infrastructure.errors import GangwayError

    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    wrapped = GangwayError(
        f"unexpected {summary}", hint="run again with -v for the details", code="unexpected"
    )
    if verbose:
        traceback.print_exception(error)
    return failure(wrapped, as_json=as_json, verbose=False)
