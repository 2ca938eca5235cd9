"""The one place where failures are shown: `error: …`, the place, `hint: …`."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from infrastructure.cli.output import dumps, one_line, paint, safe

if TYPE_CHECKING:
    from infrastructure.errors import GangwayError, Problem


def lines(problem: Problem, word: str = "error") -> list[str]:
    """A problem as the lines that are printed; no part can begin a line of its own."""
    shown = [f"{word}: {one_line(problem.message)}"]
    if problem.place is not None and str(problem.place):
        shown.append(f"  at: {one_line(str(problem.place))}")
    shown += [f"hint: {one_line(line)}" for line in problem.hint.splitlines() if line]
    return shown


def failure(error: GangwayError, *, as_json: bool, verbose: bool) -> int:
    """Prints the failure and returns its exit code."""
    if verbose:
        _trace(error)
    problems = error.problems()
    if error.details:
        sys.stderr.write(safe(error.details.rstrip("\n")) + "\n")
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
        sys.stdout.write(dumps(document) + "\n")
    return error.exit_code


def unexpected(error: Exception, *, as_json: bool, verbose: bool) -> int:
    """A bug of ours: still one line, with the way to see more."""
    from infrastructure.errors import GangwayError

    summary = f"{type(error).__name__}: {error}".splitlines()[0][:500]
    wrapped = GangwayError(
        f"unexpected {summary}", hint="run again with -v for the details", code="unexpected"
    )
    if verbose:
        _trace(error)
    return failure(wrapped, as_json=as_json, verbose=False)


def _trace(error: BaseException) -> None:
    sys.stderr.write(safe("".join(traceback.format_exception(error))))


class _Harmless(logging.Formatter):
    """A record, its traceback too, with nothing in it that acts on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        return safe(super().format(record))


def quiet_libraries(*, verbose: bool) -> None:
    """What the libraries log, warn of or let escape in a thread is shown with `-v` only.

    Without a handler Python itself would print their warnings: paramiko's thread tells of every
    host that closes early with a traceback, ahead of our own one line about it.
    """
    handler: logging.Handler = logging.NullHandler()
    if verbose:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Harmless("%(name)s: %(levelname)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    if not sys.warnoptions:
        logging.captureWarnings(capture=True)
    threading.excepthook = _of_a_thread


def _of_a_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        logging.getLogger(__name__).error("in a thread", exc_info=what.exc_value)
