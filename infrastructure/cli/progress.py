"""What the host tells while it works: a moving line on a terminal, plain lines elsewhere.

`--quiet` leaves all of it out, but that a person is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infrastructure.cli.bars import choose
from infrastructure.cli.output import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.status import Status

    from infrastructure.cli.bars import Shown
    from infrastructure.cli.output import Output

REMIND_SECONDS = 30


class Progress:
    """Shows the events of a host; a `with` block around them ends the moving line."""

    def __init__(self, out: Output, *, verbose: bool = False, quiet: bool = False) -> None:
        self._out = out
        self._verbose = verbose
        self._quiet = quiet
        self._bar: Shown = choose(out)
        self._status: Status | None = None
        self._reminded: int | None = None
        self._shown: dict[str, Callable[[dict[str, Any]], None]] = {
            "step": self._step,
            "stage": self._stage,
            "log": self._log,
            "waiting": self._waiting,
            "upload": self._bar.upload,
            "build": self._bar.build,
        }

    def event(self, event: dict[str, Any]) -> None:
        """One event; kinds that are not shown are ignored."""
        kind = event["event"]
        show = None if self._quiet and kind != "waiting" else self._shown.get(kind)
        if show is None:
            return
        if kind in ("upload", "build"):
            self._still()
        else:
            self._bar.end()
        show(event)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._out.say(one_line(text))

    def _step(self, event: dict[str, Any]) -> None:
        self.say(f"· {event['text']}")
        self._move(event["text"])

    def _stage(self, event: dict[str, Any]) -> None:
        self._reminded = None
        self.say(f"  {event['service']}: {event['text']}")
        self._move(f"{event['service']}: {event['text']}")

    def _log(self, event: dict[str, Any]) -> None:
        if self._verbose:
            self.say(f"    {event['service']} | {event['line']}")

    def _waiting(self, event: dict[str, Any]) -> None:
        left = event["left"]
        text = f"{event['told']} ({left // 60}:{left % 60:02d} left)"
        if self._out.live:
            self._move(text)
        elif self._reminded is None or self._reminded - left >= REMIND_SECONDS:
            self._reminded = left
            self.say(f"  {event['service']}: {text}")

    def _move(self, text: str) -> None:
        if not self._out.live:
            return
        from rich.text import Text

        shown = Text(one_line(text))  # no markup: `[` is no more than a letter
        if self._status is None:
            self._status = self._out.console.status(shown)
            self._status.start()
        self._status.update(shown)

    def __enter__(self) -> Progress:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Ends what moves."""
        self._bar.end()
        self._still()

    def _still(self) -> None:
        """Ends the moving line."""
        if self._status is not None:
            self._status.stop()
            self._status = None
