"""Data to stdout, everything for people to stderr; failures are shown here and nowhere else."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infrastructure.program import worded

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console

    from infrastructure.errors import GangwayError, Problem


_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's categories of what is not seen but acts: controls, direction marks, line ends, and
lone surrogates."""


def safe(text: str, kept: str = "\n\t") -> str:
    r"""A text as it may stand on a terminal, whoever wrote it: what acts is shown as `\x1b`.

    A host's words could otherwise clear the screen, set the clipboard or turn a line around.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(letter)
        if letter not in kept and unicodedata.category(letter) in _UNSEEN
        else letter
        for letter in text
    )


def _columns(stream: TextIO) -> int:
    """How wide the terminal is that the stream goes to; 0 when it is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


def one_line(text: str) -> str:
    """The same, and it cannot begin a line of its own either."""
    return safe(text, "\t")


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode()


def dumps(value: Any) -> str:
    """JSON on one line, readable, and as harmless on a terminal as `safe` text."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        json.dumps(letter)[1:-1] if unicodedata.category(letter) in _UNSEEN else letter
        for letter in text
    )


def megabytes(kilobytes: int) -> str:
    """A size for people."""
    return (
        f"{kilobytes / 1024:.0f} MB" if kilobytes < 4 << 20 else f"{kilobytes / (1 << 20):.1f} GB"
    )


TRACEBACK = "Traceback (most recent call last)"
"""How Python tells where in a program: of no use to who has not written it."""
QUIET_ZONE = 2
"""Empty modules around a QR code: half of what the standard asks for, so that it fits 60 columns;
cameras read it."""


@dataclass
class Output:
    """Where a command's output goes; `json` makes stdout one JSON document (or JSON lines)."""

    json: bool = False
    _console: Console | None = field(default=None, repr=False)

    @property
    def console(self) -> Console:
        """Rich on stderr: colour and live displays only on a terminal (and not with NO_COLOR)."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        return self._console

    @property
    def live(self) -> bool:
        """Whether moving progress displays make sense."""
        return not self.json and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def attended(self) -> bool:
        """Whether a person sees both streams: nothing of this run goes to a file or a pipe."""
        return not self.json and sys.stdout.isatty() and sys.stderr.isatty()

    def picture(self, text: str) -> None:
        """The text as a QR code, on stderr: stdout stays what a pipe wants."""
        import segno

        code = segno.make_qr(text, error="l")
        halves = "utf" in (sys.stderr.encoding or "").lower()  # half blocks: two rows on a line
        code.terminal(out=sys.stderr, border=QUIET_ZONE, compact=halves)
        sys.stderr.flush()

    def say(self, text: str = "") -> None:
        """A line for people, on stderr."""
        sys.stderr.write(worded(safe(text)) + "\n")
        sys.stderr.flush()

    def data(self, text: str) -> None:
        """The command's result for people or pipes, on stdout; not with --json."""
        if not self.json:
            text = worded(safe(text))
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()

    def row(self, text: str) -> None:
        """A line of a report: on a narrow terminal it goes on, indented, between two words."""
        width = _columns(sys.stdout)
        if width and len(text) > width:
            import textwrap

            indent = " " * (len(text) - len(text.lstrip()) + 4)
            text = textwrap.fill(
                safe(text),
                width,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
                replace_whitespace=False,
            )
        self.data(text)

    def document(self, value: Any) -> None:
        """The command's result as JSON, on stdout; only with --json."""
        if self.json:
            sys.stdout.write(worded(dumps(value)) + "\n")
            sys.stdout.flush()

    def warn(self, problem: Problem) -> None:
        """A warning: one line, its place, its hint, on stderr."""
        for line in problem_lines(problem, "warning"):
            sys.stderr.write(paint(line) + "\n")
        sys.stderr.flush()


def paint(line: str) -> str:
    """Colours the leading word of `error:`, `warning:` and `hint:` lines on a terminal."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or not sys.stderr.isatty():
        return line
    for word, colour in (("error:", "31;1"), ("warning:", "33;1"), ("hint:", "36")):
        if line.startswith(word):
            return f"\x1b[{colour}m{word}\x1b[0m{line[len(word) :]}"
    return line


def problem_lines(problem: Problem, word: str = "error") -> list[str]:
    """A problem as the lines that are printed; no part can begin a line of its own."""
    shown = [f"{word}: {one_line(problem.message)}"]
    if problem.place is not None and str(problem.place):
        shown.append(f"  at: {one_line(str(problem.place))}")
    shown += [f"hint: {one_line(line)}" for line in problem.hint.splitlines() if line]
    return [worded(line) for line in shown]


def failure(error: GangwayError, *, as_json: bool, verbose: bool) -> int:
    """Prints the failure and returns its exit code."""
    if verbose:
        _trace(error)
    problems = error.problems()
    for text in (error.details, error.trace):
        if text and (verbose or TRACEBACK not in text):
            sys.stderr.write(worded(safe(text.rstrip("\n"))) + "\n")
    for problem in problems:
        for line in problem_lines(problem):
            sys.stderr.write(paint(line) + "\n")
    if as_json and not getattr(error, "reported", False):
        document = {
            "error": error.code,
            "message": error.message,
            "exitCode": error.exit_code,
            "problems": [problem.as_json() for problem in problems],
        }
        sys.stdout.write(worded(dumps(document)) + "\n")
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
    threading.excepthook = _thread_failed


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        logging.getLogger(__name__).error("in a thread", exc_info=what.exc_value)
