"""Data to stdout, everything for people to stderr; readable without colour."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from infrastructure.errors import Problem


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

    def say(self, text: str = "") -> None:
        """A line for people, on stderr."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def data(self, text: str) -> None:
        """The command's result for people or pipes, on stdout; not with --json."""
        if not self.json:
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()

    def document(self, value: Any) -> None:
        """The command's result as JSON, on stdout; only with --json."""
        if self.json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def warn(self, problem: Problem) -> None:
        """A warning: one line, its place, its hint, on stderr."""
        from infrastructure.cli.report import lines

        for line in lines(problem, "warning"):
            self.say(paint(line))


def paint(line: str) -> str:
    """Colours the leading word of `error:`, `warning:` and `hint:` lines on a terminal."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or not sys.stderr.isatty():
        return line
    for word, colour in (("error:", "31;1"), ("warning:", "33;1"), ("hint:", "36")):
        if line.startswith(word):
            return f"\x1b[{colour}m{word}\x1b[0m{line[len(word) :]}"
    return line
