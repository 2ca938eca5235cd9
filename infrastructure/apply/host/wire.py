"""JSON lines with the client. Runs on the host: standard library, Python 3.9.

Once the client is gone (Ctrl-C, lost SSH, a killed shell) events go nowhere, and what was begun
is ended without it.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from infrastructure.apply.protocol import encoding, events, requests
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT = 5.0
PATIENCE = 60.0
CANCEL = encoding.encode(requests.CancelRequest())
SKIPPED = 1_048_576


class Cancelled(Exception):  # noqa: N818
    """The client asked to stop."""


class Wire:
    """Both directions of the connection to the client."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._later: queue.Queue[tuple[bytes, int]] = queue.Queue()
        """Lines of the listener's, each with how many bytes follow that are none."""
        self._unread = 0
        """How many of them are left of the line that was taken last; `_whole`: none are."""
        self._whole = threading.Event()
        self._watching = self._beating = False
        self.gone = threading.Event()
        self.patience: float | None = None
        """Seconds for which a client may take nothing before it counts as gone; None: for ever.

        While the lock is held and services are stopped nobody can be waited for.
        """

    def emit(self, event: events.Event) -> None:
        """Sends one event; a client that is gone is no error."""
        line = encoding.encode(event)
        with self._lock:
            if self.gone.is_set():
                return
            try:
                self._write(line)
            except OSError:
                self._drop()

    def _write(self, line: bytes) -> None:
        step = len(line) if self.patience is None else select.PIPE_BUF
        for at in range(0, len(line), step):
            if not self._takes_more():
                raise TimeoutError
            self._target.write(line[at : at + step])
            self._target.flush()

    def _takes_more(self) -> bool:
        """Whether a piece can be written without waiting for the client for too long."""
        if self.patience is None:
            return True
        try:
            waits = select.poll()
            waits.register(self._target.fileno(), select.POLLOUT)
        except (OSError, ValueError):  # no file of the system's
            return True
        return bool(waits.poll(self.patience * 1000))

    def tell(self, event: str, **fields: Any) -> None:
        """The same by the event's name, for runtimes (`runtime.base.Tell`)."""
        self.emit(encoding.EVENTS[event](**fields))

    def attempt(self, what: str, step: Callable[[], object]) -> bool:
        """Does what must not hide an outcome: whether it went well; if not, `what` is said."""
        try:
            step()
        except Exception as error:
            self.emit(events.Step(f"{what}: {HostFailure.of(error)}"))
            return False
        return True

    def _drop(self) -> None:
        """Later writes by anyone (a traceback, a child) must not fail either."""
        self.gone.set()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(nowhere, descriptor)

    def receive(self) -> requests.Request | None:
        """The next request; None when the client has closed."""
        line = self._next() if self._watching else self._source.readline()
        if not line.endswith(b"\n"):
            return None
        return encoding.request_of(line)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes that follow a request."""
        data = self._source.read(size)
        self._have_read(len(data))
        if len(data) != size:
            raise HostFailure("interrupted", "the connection ended before the release was whole")
        return data

    def _have_read(self, size: int) -> None:
        """Of what follows a request; behind that the listener goes on."""
        self._unread -= size
        if self._unread <= 0:
            self._whole.set()

    def _next(self) -> bytes:
        """The next line of the listener's; what a refused request has left unread goes."""
        if self._unread > 0:
            while self._unread > 0 and (piece := self._source.read(min(self._unread, SKIPPED))):
                self._unread -= len(piece)
            self._whole.set()
        line, self._unread = self._later.get()
        return line

    def watch(self) -> None:
        """Notices from now on, while work goes on, that the client cancels or leaves."""
        self.beat()
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._listen, daemon=True).start()

    def beat(self) -> None:
        """Says from now on that something goes on: a silent host counts as lost."""
        if not self._beating:
            self._beating = True
            threading.Thread(target=self._beat, daemon=True).start()

    def _listen(self) -> None:
        while line := self._source.readline():
            if line == CANCEL:
                self._cancelled.set()
                continue
            follows = _follows(line)
            self._whole.clear()
            self._later.put((line, follows))
            if follows > 0:  # whoever works on the request reads them
                self._whole.wait()
        self.gone.set()
        self._later.put((b"", 0))

    def _beat(self) -> None:
        while not self.gone.wait(HEARTBEAT):
            self.emit(events.Alive())

    def cancel(self, *_: object) -> None:
        """A signal asks to stop, like the client."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises Cancelled once when a stop was asked for."""
        if self._cancelled.is_set():
            self._cancelled.clear()
            raise Cancelled


def _follows(line: bytes) -> int:
    """How many bytes follow a request that are no lines."""
    try:
        request = encoding.request_of(line)
    except (ValueError, LookupError, TypeError, RecursionError):
        return 0
    return int(getattr(request, "tar", 0) or getattr(request, "size", 0))
