"""What the host tells while it works: a moving line or a bar on a terminal, plain lines elsewhere.

With `--json` uploads and builds are JSON lines on standard error; standard output keeps its one
document. `--quiet` leaves all of it out, but that a person is waited for.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from infrastructure.apply.protocol import encoding, events
from infrastructure.cli.output import dumps, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Moving

    from infrastructure.cli.output import Output

REMIND_SECONDS = 30
WORTH_A_LINE = 1_000_000
"""Bytes of an upload: a smaller one is over before anyone has read about it."""
LINE_SECONDS, EVENT_SECONDS = 10.0, 0.5


class Progress:
    """Shows the events of a host; a `with` block around them ends what moves."""

    def __init__(self, out: Output, *, verbose: bool = False, quiet: bool = False) -> None:
        self._out = out
        self._moving: Moving | None = None
        self._moves: tuple[str, ...] = ()
        self._reminded: int | None = None
        self._upload_of: tuple[str, int] = ("", 0)
        self._began = self._told = 0.0
        self._shown: dict[type[events.Event], Callable[[Any], None]] = {
            events.Waiting: self._waiting
        }
        if not quiet:
            self._shown |= {
                events.Step: self._step,
                events.Stage: self._stage,
                events.Upload: self._upload,
                events.Build: self._build,
            }
        if verbose and not quiet:
            self._shown[events.Log] = self._log

    def event(self, event: events.Event) -> None:
        """One event; kinds that are not shown are ignored."""
        show = self._shown.get(type(event))
        if show is not None:
            show(event)

    def _say(self, text: str) -> None:
        """A line that stays."""
        self._out.say(one_line(text))

    def _step(self, event: events.Step) -> None:
        self._still(but="status")
        self._say(f"· {event.text}")
        self._status(event.text)

    def _stage(self, event: events.Stage) -> None:
        self._still(but="status")
        self._reminded = None
        self._say(f"  {event.service}: {event.text}")
        self._status(f"{event.service}: {event.text}")

    def _log(self, event: events.Log) -> None:
        self._still(but="status")
        self._say(f"    {event.service} | {event.line}")

    def _waiting(self, event: events.Waiting) -> None:
        left = event.left
        text = f"{event.told} ({left // 60}:{left % 60:02d} left)"
        if self._out.live:
            self._status(text)
        elif self._reminded is None or self._reminded - left >= REMIND_SECONDS:
            self._reminded = left
            self._say(f"  {event.service}: {text}")

    def _build(self, event: events.Build) -> None:
        if self._out.json:
            self._json(event)
        elif self._out.live:
            self._draw("build", event.service, text=event.text)
            self._move(completed=event.step, total=event.steps, text=one_line(event.text))
        else:
            self._say(f"  {event.service}: build step {event.step}/{event.steps} {event.text}")

    def _upload(self, event: events.Upload) -> None:
        rate, ended = self._rate(event), event.sent >= event.total
        if self._out.json:
            if self._due(EVENT_SECONDS) or ended:
                self._json(event, rate=None if rate is None else round(rate))
        elif self._out.live:
            self._draw("upload", event.what)
            self._move(completed=event.sent, total=event.total)
            if ended:
                self._still()
        elif event.total >= WORTH_A_LINE and (self._due(LINE_SECONDS) or ended):
            part = "sent" if ended else f"{100 * event.sent // event.total} % sent"
            speed = f", {rate / 1e6:.1f} MB/s" if rate else ""
            self._say(f"  {event.what}: {part} of {event.total / 1e6:.1f} MB{speed}")

    # --- pace ---------------------------------------------------------------------------------
    def _rate(self, event: events.Upload) -> float | None:
        """Bytes a second; None at the beginning, when nothing can be said."""
        now = time.monotonic()
        if self._upload_of != (event.what, event.total):
            self._upload_of, self._began, self._told = (event.what, event.total), now, now
        seconds = now - self._began
        return event.sent / seconds if seconds > 0.05 else None

    def _due(self, every: float) -> bool:
        """Whether the upload was not told of for so long; then it is now."""
        now = time.monotonic()
        if now - self._told < every:
            return False
        self._told = now
        return True

    # --- ways to show it ----------------------------------------------------------------------
    def _json(self, event: events.Event, **more: Any) -> None:
        shown = {"event": encoding.name_of(type(event)), **vars(event), **more}
        sys.stderr.write(dumps(shown) + "\n")
        sys.stderr.flush()

    def _status(self, text: str) -> None:
        if self._out.live:
            self._draw("status")
            self._move(text=one_line(text))

    def _draw(self, kind: str, name: str = "", text: str = "") -> None:
        """Begins a moving line or bar, unless this one moves already."""
        if self._moves == (kind, name):
            return
        self._still()
        from rich import progress

        told = progress.TextColumn("{task.fields[text]}", markup=False)
        named = progress.TextColumn("{task.description}", markup=False), progress.BarColumn()
        columns: dict[str, tuple[progress.ProgressColumn, ...]] = {
            "status": (progress.SpinnerColumn(), told),
            "build": (*named, progress.MofNCompleteColumn(), told),
            "upload": (
                *named,
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
            ),
        }
        self._moving = progress.Progress(*columns[kind], console=self._out.console, transient=True)
        title = f"building {name}" if kind == "build" else name
        self._moving.add_task(one_line(title), total=None, text=one_line(text))
        self._moving.start()
        self._moves = (kind, name)

    def _move(self, **fields: Any) -> None:
        if self._moving is not None:
            self._moving.update(self._moving.task_ids[0], **fields)

    def rest(self) -> None:
        """Nothing moves until the next event: only one of two hosts' lines can."""
        self._still()

    def _still(self, but: str = "") -> None:
        """Takes away what moves, as it was last."""
        if self._moving is not None and self._moves[:1] != (but,):
            self._moving.refresh()
            self._moving.stop()
            self._moving, self._moves = None, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._still()
