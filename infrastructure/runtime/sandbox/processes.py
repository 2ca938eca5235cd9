"""A service's process: its definition, and how it is asked for its health."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.release_files import SANDBOX_FILE
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Definition:
    """One service of sandbox.json with its placeholders filled in."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    probe: tuple[str, ...]
    grace: int

    @classmethod
    def load(cls, release: Path, service: str, images: Path) -> Definition:
        """A service's definition in a release's folder."""
        found = json.loads((release / SANDBOX_FILE).read_text())["services"][service]
        programs = Path(sys.executable).parent
        known = {
            "{python}": sys.executable,
            "{caddy}": str(programs / "caddy"),
            "{image}": str(images / image_folder(found["image"])),
        }

        def fill(value: str) -> str:
            for mark, text in known.items():
                value = value.replace(mark, text)
            return value

        return cls(
            image=found["image"],
            command=tuple(fill(word) for word in found["command"]),
            environment=found["environment"],
            folder=fill(found["folder"]),
            probe=tuple(fill(word) for word in found["probe"]),
            grace=found["grace"],
        )

    def settings(self, log: Path) -> dict[str, str]:
        """The program's section in supervisord's configuration."""
        pairs = [f"{name}={_quoted(value)}" for name, value in self.environment.items()]
        return {
            "command": shlex.join(self.command),
            "directory": self.folder,
            "environment": ",".join(pairs),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "2",
            "startretries": "2",
            "stopwaitsecs": str(self.grace),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(log),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "1",
        }

    def as_json(self) -> dict[str, Any]:
        """What is kept beside the program."""
        return {"image": self.image, "command": list(self.command), "probe": list(self.probe)}


def _quoted(value: str) -> str:
    """A variable's value as supervisord reads it: it knows quotes, but no escapes in them."""
    for mark in ('"', "'"):
        if mark not in value:
            return f"{mark}{value}{mark}"
    raise HostFailure("bad-value", "a variable of the sandbox may not hold both kinds of quotes")


def image_folder(image: str) -> str:
    """The folder name of an image's unpacked sources."""
    return image.rpartition("/")[2].replace(":", "-")


def probe(command: Sequence[str], seconds: float) -> tuple[bool, str]:
    """Whether a service's own check passes now, and what it said.

    `http URL` asks for an answer of 200 to 299; anything else is a program that must exit with 0.
    """
    if command and command[0] == "http":
        return _http(command[1], seconds)
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"the health check did not end: {type(error).__name__}"
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def _http(address: str, seconds: float) -> tuple[bool, str]:
    try:
        with urllib.request.urlopen(address, timeout=seconds) as answer:  # noqa: S310 - our own
            return True, f"{address} answers {answer.status}"
    except urllib.error.HTTPError as error:
        error.close()
        return False, f"{address} answers {error.code}"
    except OSError as error:
        return False, f"{address}: {error}"
