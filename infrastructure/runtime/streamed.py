"""A command whose output is read while it runs. Runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Streamed:
    """Runs a command and yields the lines of its output and errors as they come; then `code`.

    It is killed after `seconds`. `descriptors` are what it inherits.
    """

    def __init__(
        self, command: Sequence[str], text: str, seconds: float, descriptors: tuple[int, ...] = ()
    ) -> None:
        self.code: int | None = None
        self._command = command
        self._text = text
        self._seconds = seconds
        self._descriptors = descriptors

    def __iter__(self) -> Iterator[str]:
        """Its lines, without their ends."""
        with tempfile.TemporaryFile() as given:
            given.write(self._text.encode())
            given.seek(0)
            with subprocess.Popen(
                self._command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=self._descriptors,
                cwd="/",
                env={**os.environ, "BUILDKIT_PROGRESS": "plain"},
            ) as process:
                limit = threading.Timer(self._seconds, process.kill)
                limit.daemon = True
                limit.start()
                try:
                    for line in process.stdout or ():
                        yield line.rstrip("\n")
                finally:
                    limit.cancel()
                self.code = process.wait()
