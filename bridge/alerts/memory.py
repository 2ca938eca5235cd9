"""What alerts have told, and what they could not tell, kept over restarts of the bridge.

Without it a bridge that is started again and again tells the same at each start, beyond every
limit, never tells that something has ended, and loses what nobody has taken yet.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from bridge.store.identity import replace_file

FILE_NAME: Final = "alerts.json"
KEEP_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class KeptLetter(Struct, rename="camel", frozen=True, kw_only=True):
    """A message that nobody has got; `at`: when it was due, seconds since 1970."""

    kind: str
    title: str
    body: str
    level: str
    at: float


class Kept(Struct, rename="camel", frozen=True, kw_only=True):
    """All that is kept; times in seconds since 1970.

    `told`: conditions that have been told, and what about. `told_at`: when, the last time.
    `last`: when a kind was told of last. `recent`: when messages went out, by the limit that they
    count for.
    """

    told: dict[str, str] = {}
    told_at: dict[str, float] = {}
    last: dict[str, float] = {}
    recent: dict[str, list[float]] = {}
    untold: list[KeptLetter] = []


class Memory:
    """One file in the bridge's folder; where it cannot be written, nothing is remembered."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME
        self._writes = True
        self._turn = threading.Lock()
        self._next: bytes | None = None
        self._writing = False
        """Whether a thread is at it, which takes `next` after what it has in hand."""
        self._written: asyncio.Future[None] | None = None

    def load(self) -> Kept:
        """What the last process kept; of a file that cannot be read, nothing. Blocks."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("alerts-not-remembered", file=FILE_NAME, error=str(error)[:200])
            return Kept()

    async def keep(self, kept: Kept) -> None:
        """Writes it down, off the loop; a disk that does not take it holds nothing up.

        One that hangs holds a single thread of the loop's, which all others share: not one more
        with each call, until none is left to read the addresses with.
        """
        with self._turn:
            self._next = msgspec.json.encode(kept)
            begins, self._writing = not self._writing, True
        if begins or self._written is None:
            self._written = asyncio.get_running_loop().run_in_executor(None, self._write)
            self._written.add_done_callback(_noticed)
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                await asyncio.shield(self._written)
        except (OSError, TimeoutError) as error:
            if self._writes:
                log.warning("alerts-not-kept", file=FILE_NAME, error=str(error)[:200])
            self._writes = False
        else:
            self._writes = True

    def _write(self) -> None:
        """Until there is nothing newer, also after a write that fails; raises what the last did."""
        failed: BaseException | None = None
        while True:
            with self._turn:
                content, self._next = self._next, None
                if content is None:
                    self._writing = False
                    break
            try:
                replace_file(self._file, content, durable=False)
                failed = None
            except BaseException as error:
                failed = error
        if failed is not None:
            raise failed


def _noticed(written: asyncio.Future[None]) -> None:
    """Whoever had waited for it may have gone on by now."""
    if not written.cancelled():
        written.exception()
