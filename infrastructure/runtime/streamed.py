"""Commands whose output is read while they run. Runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Any, cast

from infrastructure.health.pressure import Budget
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_BUILDKIT = re.compile(r"#\d+ \[(?P<stage>[^\]]*?) ?(?P<step>\d+)/(?P<steps>\d+)\] (?P<text>.+)")
_CLASSIC = re.compile(r"Step (?P<step>\d+)/(?P<steps>\d+) : (?P<text>.+)")
PREPARE = "./deploy.py prepare makes a bare Debian or Ubuntu machine ready"
LONGEST = 100
ENDED_WITHIN = 10.0


class Streamed:
    """Runs a command and yields the lines of its output and errors as they come; then `code`.

    It is killed after `seconds`, on a machine that lets programs wait later (`Budget`).
    `descriptors` are what it inherits.
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
        with scratch(self._text.encode()) as given:
            try:
                process = subprocess.Popen(
                    self._command,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    errors="replace",
                    pass_fds=self._descriptors,
                    cwd="/",
                    env={**os.environ, "BUILDKIT_PROGRESS": "plain"},
                    start_new_session=True,
                )
            except OSError as error:
                raise not_started(self._command, error) from error
            with process:
                ended = threading.Event()
                limit = (process, Budget(self._seconds), ended)
                threading.Thread(target=_kill_after, args=limit, daemon=True).start()
                try:
                    for line in process.stdout or ():
                        yield line.rstrip("\n")
                finally:
                    ended.set()
                self.code = process.wait()


def _kill_after(process: subprocess.Popen[str], budget: Budget, ended: threading.Event) -> None:
    while (left := budget.left) > 0:
        if ended.wait(left):
            return
    # With all that it has started: a child that holds the pipe would keep the reader waiting.
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def scratch(content: bytes = b"") -> IO[bytes]:
    """A file without a name that begins with this; HostFailure where there is no room for it."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        file.write(content)
        file.seek(0)
    except OSError as error:
        raise HostFailure(
            "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "folder",
            f"the host has no room for a temporary file: {error.strerror}",
            "./deploy.py doctor says what fills it",
        ) from error
    return file


def not_started(command: Sequence[str], error: OSError) -> HostFailure:
    """Why a command could not even be begun, as where memory is short."""
    if isinstance(error, FileNotFoundError):
        return HostFailure("docker-missing", "there is no Docker on the host", PREPARE)
    return HostFailure(
        "docker-failed",
        f"{' '.join(command[:2])} cannot be started: {error.strerror or error}",
        "./deploy.py doctor looks at the host and its Docker",
    )


def completed(
    command: Sequence[str], text: str, seconds: float, descriptors: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and keeps what it says; `descriptors` are what it inherits.

    Raises:
        subprocess.TimeoutExpired: it did not end within `seconds`, on a machine that lets programs
            wait within so many more, and was killed.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        pass_fds=descriptors,
        cwd="/",
    ) as process:
        budget, left = Budget(seconds), seconds
        given: str | None = text  # only at first: it goes on with what is not written yet
        while True:
            try:
                out, err = process.communicate(given, timeout=left)
                return subprocess.CompletedProcess(command, process.returncode, out, err)
            except subprocess.TimeoutExpired:
                given, left = None, budget.left
                if left <= 0:
                    process.kill()
                    raise
            except BaseException:
                process.kill()
                raise


class BuildLog:
    """Reads a build's output line by line.

    BuildKit prints `#5 [stage 2/3] RUN …` when a step begins (and again when it comes back to it),
    the classic builder `Step 2/9 : RUN …`.
    """

    def __init__(self) -> None:
        self._begun: set[tuple[str, int]] = set()
        self._stages: dict[str, int] = {}

    def feed(self, line: str) -> dict[str, Any] | None:
        """`{"step", "steps", "text"}` for a line with which a step begins.

        BuildKit names a stage when it comes to it, so `steps` may still grow.
        """
        found = _BUILDKIT.match(line) or _CLASSIC.match(line)
        if found is None:
            return None
        stage = found.groupdict().get("stage", "")
        key = (stage, int(found["step"]))
        if key in self._begun:
            return None
        self._begun.add(key)
        self._stages[stage] = int(found["steps"])
        text = " ".join(found["text"].split())
        short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
        return {"step": len(self._begun), "steps": sum(self._stages.values()), "text": short}


def _started(command: Sequence[str], stdin: int) -> subprocess.Popen[str]:
    """A command whose output and errors are one stream of text."""
    try:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise not_started(command, error) from error


class FollowedLog:
    """The output of a command that does not end by itself."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = _started(command, subprocess.DEVNULL)

    def __iter__(self) -> Iterator[str]:
        """Its lines, without their ends."""
        for line in self._process.stdout or ():
            yield line.rstrip("\n")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Screen:
    """x11vnc inside the gateway's container, for as long as standard input stays open."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = _started(command, subprocess.PIPE)
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)

    def show(self, password: str) -> int:
        """Hands the password over; the port that it listens on inside the container."""
        with contextlib.suppress(OSError):
            self._input.write(password + "\n")
            self._input.flush()
        told = []
        for line in self._output:
            if line.startswith("PORT="):
                return int(line[5:])
            told.append(line)
        raise HostFailure(
            "no-screen",
            "x11vnc does not start in the gateway's container",
            "does the image have x11vnc, and does its display run?",
            "".join(told[-8:]),
        )

    @property
    def ended(self) -> bool:
        """Whether x11vnc has ended on its own."""
        return self._process.poll() is not None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
