"""The file that a simulator's state is kept in, so that a restart or a crash loses nothing."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from simulator.state import UnusableError, Writer, read, reset, restore

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.world import World

ASIDE = ".set-aside"
RESET = ".reset"
"""A file of this name beside it asks for new accounts at the next start."""


class InUseError(Exception):
    """Another simulator keeps its state in the same file; the text says which."""


class StateFile:
    """Keeps a world's state in a file; it is written whole, before anybody is told of a change.

    Against a crash of the machine it is not synced: it is a simulator's.
    """

    def __init__(self, path: Path, world: World) -> None:
        self._path = path
        self._world = world
        self._writer = Writer(world)
        self._lock: int | None = None
        self._failing = False

    def open(self) -> None:
        """Go on from the file if there is one, and keep it from now on.

        A file that cannot be used is set aside beside it, with a line on stderr.

        Raises:
            InUseError: another simulator has it.
            OSError: it cannot be read.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._hold()
        try:
            restore(read(self._path.read_text(encoding="utf-8"), self._world), self._world)
        except FileNotFoundError:
            pass
        except UnusableError as error:
            self._set_aside(str(error))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            self._set_aside("it is damaged")
        mark = self._path.with_name(self._path.name + RESET)
        if mark.exists():
            reset(self._world)
            self._say("new accounts, as asked for; what worked is cancelled")
        self.write()
        mark.unlink(missing_ok=True)

    def write(self) -> None:
        """Replace the file by the state as it is; where that fails the broker goes on without."""
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            partial.touch(0o600)
            partial.write_text(self._writer.text(), encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            if not self._failing:
                self._say(f"the state is not kept in {self._path}: {error.strerror or error}")
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """Write it for the last time."""
        if self._lock is not None:
            self.write()
            os.close(self._lock)
            self._lock = None

    def _hold(self) -> None:
        lock = os.open(
            self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise InUseError(f"{self._path} is in use by another simulator") from None
        self._lock = lock

    def _set_aside(self, reason: str) -> None:
        aside = self._path.with_name(self._path.name + ASIDE)
        with suppress(OSError):
            self._path.replace(aside)
        self._say(f"{self._path} is set aside as {aside.name}: {reason}; the account is a new one")

    @staticmethod
    def _say(text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)
