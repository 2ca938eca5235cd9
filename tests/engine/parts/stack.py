"""A target of a test's own: a configuration, a folder on the host, and the command to run."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.closed_port import free_port
from tests.engine.parts.engine import docker
from tests.engine.parts.ssh import SshServer

PROJECT = Path(__file__).resolve().parents[3]
COMMAND_SECONDS = 110
PRODUCT = ("deploy.py", "infrastructure", "bridge", "templates", "jts.ini.tmpl")


def checkout(folder: Path) -> Path:
    """A copy of the product, which a test may break."""
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in PRODUCT:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(PROJECT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@dataclass
class Run:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Stack:
    """One target on the test's host. `settings` is what stack.yaml says below the name.

    `seconds`: how long a command may take.
    """

    name: str
    folder: Path
    server: SshServer
    product: Path
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = COMMAND_SECONDS
    home: Path = field(init=False)
    begun: list[subprocess.Popen[str]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = self.folder / "home"
        (self.home / ".ssh").mkdir(parents=True)
        self.known_hosts.write_text(self.server.known_hosts_line())
        self.password("correct")
        self.settings = {
            "host": {
                "address": "127.0.0.1",
                "user": "root",
                "port": self.server.port,
                "identity": str(self.server.client_key),
                "known_hosts": str(self.known_hosts),
            },
            "folder": str(self.folder / "opt"),
            "profile": "e2-micro",
            "gateway": {
                "username": "demo",
                "mode": "paper",
                "password": {"file": str(self.folder / "password")},
            },
            "bridge": {"port": free_port()},
            "caddy": {
                "listen": "127.0.0.1",
                "http_port": free_port(),
                "https_port": free_port(),
            },
        }

    # --- configuration ------------------------------------------------------------------------
    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    @property
    def project(self) -> str:
        return f"gangway-{self.name}"

    @property
    def base(self) -> Path:
        return Path(self.settings["folder"]) / self.name

    def password(self, value: str) -> None:
        path = self.folder / "password"
        path.write_text(value)
        path.chmod(0o600)

    def write(self) -> Path:
        path = self.folder / "stack.yaml"
        path.write_text(yaml.safe_dump({"targets": {self.name: self.settings}}))
        return path

    # --- commands -----------------------------------------------------------------------------
    def command(self, *arguments: str) -> list[str]:
        config = str(self.write())
        return [sys.executable, str(self.product / "deploy.py"), "--config", config, *arguments]

    def environment(self) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        return known | {"HOME": str(self.home), "COLUMNS": "200"}

    def fed(self, text: str, *arguments: str) -> Run:
        """A command with this on its standard input."""
        began = time.monotonic()
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            input=text,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=self.seconds,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """A command that runs on; what a failed test leaves of it is ended by `remove`."""
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )
        self.begun.append(process)
        return process

    def deploy(self, *arguments: str, **variables: str) -> Run:
        began = time.monotonic()
        process = self.start(*arguments, **variables)
        try:
            out, err = process.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{arguments} did not end:\n{out}\n{err}") from None
        return Run(process.returncode, out, err, time.monotonic() - began)

    def up(self, *arguments: str, code: int = 0, **variables: str) -> Run:
        done = self.deploy("up", "--yes", *arguments, **variables)
        assert done.code == code, f"exit {done.code}\n{done.out}\n{done.err}"
        return done

    # --- the host -----------------------------------------------------------------------------
    def container(self, service: str) -> dict[str, Any]:
        """`docker inspect` of the service's only container."""
        labels = ("project=" + self.project, "service=" + service)
        filters = [
            part for one in labels for part in ("--filter", f"label=com.docker.compose.{one}")
        ]
        ids = docker("ps", "-aq", *filters).split()
        assert len(ids) == 1, f"{len(ids)} containers of {service}"
        found: dict[str, Any] = json.loads(docker("inspect", ids[0]))[0]
        return found

    def started(self) -> dict[str, tuple[str, str]]:
        """`{service: (container id, since)}`: differs when anything was restarted."""
        return {
            name: (found["Id"], found["State"]["StartedAt"])
            for name in ("gateway", "bridge", "caddy")
            for found in [self.container(name)]
        }

    def metrics(self) -> dict[str, str]:
        """What the bridge measures, but for what has labels."""
        key = (self.base / "current/secrets/bridge-admin-key").read_text().strip()
        url = f"http://127.0.0.1:{self.settings['bridge']['port']}/metrics"
        request = urllib.request.Request(url, headers={"X-API-KEY": key})
        with urllib.request.urlopen(request, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {words[0]: words[1] for line in lines if len(words := line.split()) == 2}

    def log(self, service: str) -> str:
        container = self.container(service)["Id"]
        return docker("logs", container)

    def release(self) -> str:
        return (self.base / "current").readlink().name

    def ledger(self) -> list[dict[str, Any]]:
        lines = (self.base / "ledger.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def remove(self) -> None:
        """Every trace of the stack on the engine, and its commands."""
        for process in self.begun:
            process.kill()
            process.communicate()
        mark = f"label=com.docker.compose.project={self.project}"
        if ids := docker("ps", "-aq", "--filter", mark).split():
            docker("rm", "-f", "-v", *ids)
        if networks := docker("network", "ls", "-q", "--filter", mark).split():
            docker("network", "rm", *networks)
        if images := docker("image", "ls", "-q", f"gangway/{self.name}-*").split():
            docker("image", "rm", "--force", *images)
