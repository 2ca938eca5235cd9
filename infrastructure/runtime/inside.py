"""What is done inside the gateway's container. Runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import contextlib
import subprocess
from typing import IO, TYPE_CHECKING, cast

from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

TELL_IBC = """
exec 3<>/dev/tcp/127.0.0.1/$1 || exit 1
printf 'RESTART\\n' >&3
while read -r -t 10 answer <&3; do
  case $answer in OK* | ERROR*) break ;; esac
done
printf '%s\\n' "$answer"
"""
"""Sends one command to IBC's command server on port $1 and prints its answer."""

SHOW_SCREEN = """
read -r password; umask 077; file=$(mktemp)
printf '%s\\n' "$password" >"$file"
x11vnc -display "${DISPLAY:-:1}" -passwdfile "rm:$file" -forever -shared -noipv6 -noxdamage \\
  -rfbport 5900 2>&1 &
vnc=$!
cat >/dev/null; kill "$vnc"; wait "$vnc"; rm -f "$file"
"""
"""The password comes on standard input and lies in a file until x11vnc has read it. When standard
input ends, for whatever reason, x11vnc ends too."""

ENDED_WITHIN = 10.0


class Screen:
    """x11vnc inside the gateway's container, for as long as standard input stays open."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
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
        """Ends it."""
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
