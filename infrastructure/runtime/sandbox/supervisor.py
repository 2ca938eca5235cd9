"""supervisord for one stack: started when it is needed, spoken to over a private socket.

And what it runs: each service's process, with its definition and its health check.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.release_files import SANDBOX_FILE
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STARTED_WITHIN = 15.0
ENDED_WITHIN = 30.0
AUTORESTART = {"": "true", "unless-stopped": "true", "on-failure": "unexpected", "no": "false"}
PASSED_ON = ("HOME", "LANG", "PATH", "TMPDIR", "USER", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that the services inherit: no key or password of the caller's."""


class Supervisor:
    """One supervisord whose programs lie in `<folder>/programs/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "programs"
        self.logs = folder / "logs"
        self._pid_file = folder / "supervisord.pid"
        # A socket's path must be short, which a project's folder need not be.
        mark = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        self._sockets = Path(tempfile.gettempdir()) / f"gangway-{os.getuid()}-{mark}"
        self._socket = self._sockets / "control"

    @property
    def running(self) -> bool:
        if not self._socket.exists():
            return False
        import xmlrpc.client

        try:
            self.call("getState")
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def call(self, method: str, *arguments: Any) -> Any:
        """One of supervisord's own XML-RPC methods."""
        import xmlrpc.client

        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def ensure(self) -> None:
        """Starts it when it does not run yet."""
        if self.running:
            return
        self._prepare()
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        command = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord"]
        done = subprocess.run(
            [*command, "--configuration", str(self.folder / "supervisord.conf")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            cwd=self.folder,
        )
        deadline = time.monotonic() + STARTED_WITHIN
        while not self.running:
            if done.returncode or time.monotonic() > deadline:
                told = (done.stderr or done.stdout).strip().splitlines()
                raise HostFailure(
                    "supervisor-failed",
                    f"supervisord does not start: {told[-1] if told else 'no answer'}",
                    f"its log is {self.folder / 'supervisord.log'}",
                )
            time.sleep(0.05)

    def add(self, name: str, settings: Mapping[str, str], script: str) -> None:
        """A new program, not started; `script` is what the shell does to become it."""
        import configparser

        from supervisor.xmlrpc import Faults

        parser = configparser.RawConfigParser()
        # supervisord expands %(…)s itself.
        parser[f"program:{name}"] = {
            key: value.replace("%", "%%") for key, value in settings.items()
        }
        self.programs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.script(name).write_text(script, encoding="utf-8")
        with (self.programs / f"{name}.ini").open("w") as file:
            parser.write(file)
        self.ensure()
        self.call("reloadConfig")
        self._quietly(Faults.ALREADY_ADDED, "addProcessGroup", name)

    def script(self, name: str) -> Path:
        """Where a program's script lies."""
        return self.programs / f"{name}.sh"

    def start(self, name: str) -> None:
        """Starts a program and does not wait for it."""
        from supervisor.xmlrpc import Faults

        self._quietly(Faults.ALREADY_STARTED, "startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stops a program, within its own grace period."""
        from supervisor.xmlrpc import Faults

        self._quietly(Faults.NOT_RUNNING, "stopProcess", name, True)

    def remove(self, name: str) -> None:
        """Takes a stopped program away."""
        from supervisor.xmlrpc import Faults

        for path in (self.programs / f"{name}.ini", self.script(name)):
            path.unlink(missing_ok=True)
        if self.running:
            self._quietly(Faults.BAD_NAME, "removeProcessGroup", name)

    def states(self) -> dict[str, dict[str, Any]]:
        """What supervisord says of each program; empty when it does not run."""
        if not self.running:
            return {}
        return {item["name"]: item for item in self.call("getAllProcessInfo")}

    def shut_down(self) -> None:
        """Ends it and all its programs, and waits until it is gone."""
        if self.running:
            self.call("shutdown")
        deadline = time.monotonic() + ENDED_WITHIN
        while self.running or self._pid_file.exists():
            if time.monotonic() > deadline:
                raise HostFailure("supervisor-stuck", "supervisord does not end")
            time.sleep(0.05)
        self._socket.unlink(missing_ok=True)
        if self._sockets.is_dir():
            self._sockets.rmdir()

    def _quietly(self, expected: int, method: str, *arguments: Any) -> None:
        import xmlrpc.client

        try:
            self.call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != expected:
                raise HostFailure(
                    "supervisor-failed", f"supervisord: {method}: {fault.faultString}"
                ) from fault

    def _prepare(self) -> None:
        import configparser

        for folder in (self.folder, self.programs, self.logs, self._sockets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._sockets.stat().st_uid != os.getuid():
            raise HostFailure("folder-denied", f"{self._sockets} belongs to someone else")
        self._pid_file.unlink(missing_ok=True)
        parser = configparser.RawConfigParser()
        parser["supervisord"] = {
            "logfile": str(self.folder / "supervisord.log"),
            "logfile_maxbytes": "1MB",
            "logfile_backups": "1",
            "pidfile": str(self._pid_file),
            "childlogdir": str(self.logs),
            "nocleanup": "true",
            "umask": "077",
            # Said outright, or supervisord warns that it did not drop root's rights.
            **({"user": "root"} if os.getuid() == 0 else {}),
        }
        parser["unix_http_server"] = {"file": str(self._socket), "chmod": "0700"}
        parser["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        }
        parser["include"] = {"files": "programs/*.ini"}
        with (self.folder / "supervisord.conf").open("w") as file:
            parser.write(file)


@dataclass(frozen=True, slots=True)
class Definition:
    """One service of sandbox.json with its placeholders filled in."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    probe: tuple[str, ...]
    grace: int
    restart: str = ""
    """Of a worker: what happens when it ends by itself; empty: a service of our own."""

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
            restart=found.get("restart", ""),
        )

    def settings(self, log: Path, script: Path) -> dict[str, str]:
        """The program's section in supervisord's configuration."""
        return {
            "command": shlex.join(["/bin/sh", str(script)]),
            "directory": self.folder,
            "autostart": "false",
            "autorestart": AUTORESTART[self.restart],
            # Of one that may end at once, supervisord would take the end for a failed start.
            "startsecs": "0" if self.restart == "no" else "2",
            "startretries": "1000" if self.restart else "2",
            "stopwaitsecs": str(self.grace),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(log),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "1",
        }

    def script(self) -> str:
        """Sets the variables and becomes the program.

        supervisord's file knows no escapes, strips quotes at the ends of a value, and takes what
        follows ` #` or ` ;` in a line for a comment.
        """
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return "\n".join([*lines, f"exec {shlex.join(self.command)}", ""])

    def as_json(self) -> dict[str, Any]:
        """What is kept beside the program."""
        return {"image": self.image, "command": list(self.command), "probe": list(self.probe)}


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
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(address, timeout=seconds) as answer:  # noqa: S310 - our own
            return True, f"{address} answers {answer.status}"
    except urllib.error.HTTPError as error:
        error.close()
        return False, f"{address} answers {error.code}"
    except OSError as error:
        return False, f"{address}: {error}"
