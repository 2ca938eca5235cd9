"""What the host tells while it works: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from rich.status import Status

    from infrastructure.cli.output import Output

REMIND_SECONDS = 30


class Progress:
    """Shows the events of a host; a `with` block around them ends the moving line."""

    def __init__(self, out: Output, *, verbose: bool = False) -> None:
        self._out = out
        self._verbose = verbose
        self._status: Status | None = None
        self._reminded: int | None = None

    def event(self, event: dict[str, Any]) -> None:
        """One event; kinds that are not shown are ignored."""
        show = getattr(self, f"_{event['event']}", None)
        if show is not None:
            show(event)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._out.say(text)

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
        text = f"waiting for 2FA: approve on IBKR Mobile ({left // 60}:{left % 60:02d} left)"
        if self._out.live:
            self._move(text)
        elif self._reminded is None or self._reminded - left >= REMIND_SECONDS:
            self._reminded = left
            self.say(f"  {event['service']}: {text}")

    def _move(self, text: str) -> None:
        if not self._out.live:
            return
        if self._status is None:
            self._status = self._out.console.status(text)
            self._status.start()
        self._status.update(text)

    def __enter__(self) -> Progress:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Ends the moving line."""
        if self._status is not None:
            self._status.stop()
            self._status = None
