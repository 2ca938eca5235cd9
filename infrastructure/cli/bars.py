"""How far an upload or a build is: a bar on a terminal, else a line now and then, or JSON lines."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from infrastructure.cli.output import dumps, one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from infrastructure.cli.output import Output

WORTH_A_LINE = 1_000_000
"""Bytes of an upload: a smaller one is over before anyone has read about it."""
LINE_SECONDS, EVENT_SECONDS = 10.0, 0.5


class Shown(Protocol):
    """One way to show it. `event` is an `upload` or `build` event, as `docs/operating.md` says."""

    def upload(self, event: dict[str, Any]) -> None:
        """`{what, sent, total}` in bytes."""

    def build(self, event: dict[str, Any]) -> None:
        """`{service, step, steps, text}`; a step that begins."""

    def end(self) -> None:
        """Something else is shown now."""


def choose(out: Output) -> Shown:
    """The way that fits where the output goes."""
    if out.json:
        return Events()
    return Drawn(out) if out.live else Lines(out)


class Pace:
    """Time since one upload began, and when it was last told of."""

    def __init__(self) -> None:
        self._what: object = None
        self._began = self._told = 0.0

    def seconds(self, what: object) -> float:
        """Since this upload began; another `what` begins another one."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._told = what, now, now
        return now - self._began

    def due(self, every: float) -> bool:
        """Whether it was not told of for so long; then it is now."""
        now = time.monotonic()
        if now - self._told < every:
            return False
        self._told = now
        return True


def rate(event: dict[str, Any], seconds: float) -> float | None:
    """Bytes a second; None at the beginning, when nothing can be said."""
    return event["sent"] / seconds if seconds > 0.05 else None


class Lines:
    """Plain lines, few of them."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._pace = Pace()

    def upload(self, event: dict[str, Any]) -> None:
        """A line every ten seconds, and one at the end."""
        seconds, total = self._pace.seconds((event["what"], event["total"])), event["total"]
        if total < WORTH_A_LINE:
            return
        ended = event["sent"] >= total
        if self._pace.due(LINE_SECONDS) or ended:
            speed = rate(event, seconds)
            more = f", {speed / 1e6:.1f} MB/s" if speed else ""
            part = "sent" if ended else f"{100 * event['sent'] // total} % sent"
            self._out.say(f"  {event['what']}: {part} of {total / 1e6:.1f} MB{more}")

    def build(self, event: dict[str, Any]) -> None:
        """A line a step."""
        of = f"{event['step']}/{event['steps']}"
        self._out.say(one_line(f"  {event['service']}: build step {of} {event['text']}"))

    def end(self) -> None:
        """Nothing stays open."""


class Events:
    """JSON lines on standard error; standard output keeps its one document."""

    def __init__(self) -> None:
        self._pace = Pace()

    def upload(self, event: dict[str, Any]) -> None:
        """At most two a second, and the last one; `rate` in bytes a second or null."""
        seconds = self._pace.seconds((event["what"], event["total"]))
        if self._pace.due(EVENT_SECONDS) or event["sent"] >= event["total"]:
            speed = rate(event, seconds)
            self._write({**event, "rate": None if speed is None else round(speed)})

    def build(self, event: dict[str, Any]) -> None:
        """Every step."""
        self._write(event)

    def _write(self, event: dict[str, Any]) -> None:
        sys.stderr.write(dumps(event) + "\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Nothing stays open."""


class Drawn:
    """A bar that is gone when it is full."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._bars: Bars | None = None
        self._task: Any = None
        self._of: object = None

    def upload(self, event: dict[str, Any]) -> None:
        """Bytes, share, rate and the time that is left."""
        self._show(("upload", event["what"], event["total"]), event["what"], event["total"])
        self._move(completed=event["sent"])
        if event["sent"] >= event["total"]:
            self.end()

    def build(self, event: dict[str, Any]) -> None:
        """Steps, and what the present one does."""
        self._show(("build", event["service"]), f"building {event['service']}", event["steps"])
        text = one_line(event["text"])
        self._move(completed=event["step"], total=event["steps"], text=text)

    def _show(self, of: object, name: str, total: int) -> None:
        if self._of == of:
            return
        self.end()
        from rich import progress

        kind = of[0] if isinstance(of, tuple) else ""
        columns: list[Any] = [
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
        ]
        if kind == "upload":
            columns += [
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
            ]
        else:
            columns += [
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[text]}", markup=False),
            ]
        self._bars = progress.Progress(*columns, console=self._out.console, transient=True)
        self._task = self._bars.add_task(one_line(name), total=total, text="")
        self._bars.start()
        self._of = of

    def _move(self, **fields: Any) -> None:
        if self._bars is not None:
            self._bars.update(self._task, **fields)

    def end(self) -> None:
        """Takes the bar away, as it was last."""
        if self._bars is not None:
            self._bars.refresh()
            self._bars.stop()
        self._bars = self._of = None
