"""A deploy over SSH at 50 ms round trip, beside other tools that keep the same stack up to date.

Real parts: the private engine and an SSH server of `make engine`, a relay that delays each
direction by 25 ms and counts connections and client turns (bursts of the client).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import Figure
from tests.engine.parts import engine_missing, ssh
from tests.engine.parts.relay import Relay
from tests.engine.parts.stack import Stack, checkout
from tests.engine.parts.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[1]
TOOLS = PROJECT / ".venv-bench" / "bin"
LIMIT = 900


class Peers:
    """Peers for one stack that is up: its release's files, its Compose project, its SSH server.

    All files are there already, as the last `up` left them: each run finds nothing to change.
    """

    def __init__(self, stack: Stack, port: int, folder: Path) -> None:
        self._stack = stack
        self._port = port
        self._folder = folder
        folder.mkdir(parents=True)
        shutil.copytree(stack.base / "current", folder / "files")
        self._config = folder / "ssh_config"
        self._config.write_text(
            f"Host *\n  IdentityFile {stack.server.client_key}\n"
            f"  UserKnownHostsFile {stack.known_hosts}\n  LogLevel ERROR\n"
        )

    def _run(self, command: list[str], **variables: str) -> None:
        done = subprocess.run(
            command,
            env=os.environ | {"HOME": str(self._stack.home)} | variables,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if done.returncode:
            sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
            raise RuntimeError(f"{command[0]} failed")

    @property
    def _up(self) -> list[str]:
        current = self._stack.base / "current"
        return [
            *("docker", "compose", "--project-name", self._stack.project),
            *("--file", f"{current}/compose.yaml", "--project-directory", str(current)),
            *("up", "--detach", "--no-build", "--quiet-pull"),
        ]

    def compose(self) -> None:
        """`docker compose up` on this machine, with the engine over ssh://."""
        wrapper = self._folder / "bin" / "ssh"
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self._config} "$@"\n')
        wrapper.chmod(0o755)
        path = f"{wrapper.parent}:{os.environ['PATH']}"
        self._run(self._up, DOCKER_HOST=f"ssh://root@127.0.0.1:{self._port}", PATH=path)

    def pyinfra(self) -> None:
        """A deploy of pyinfra: each file, then the Compose command."""
        current = str(self._stack.base / "current")
        script = self._folder / "deploy.py"
        script.write_text(
            "from pathlib import Path\nfrom pyinfra.operations import files, server\n"
            "folder = Path('files')\nfor path in sorted(folder.rglob('*')):\n"
            "    if path.is_file():\n"
            f"        files.put(src=str(path), dest={current!r} + '/' + "
            "str(path.relative_to(folder)))\n"
            f"server.shell(commands=[{' '.join(self._up)!r}])\n"
        )
        key = str(self._stack.server.client_key)
        self._run(
            [
                *(str(TOOLS / "pyinfra"), "-y", "127.0.0.1", "--user", "root"),
                *("--port", str(self._port), "--key", key, "--data", "ssh_config_file=ssh_config"),
                "deploy.py",
            ]
        )

    def ansible(self) -> None:
        """A playbook: the files, then the Compose command; pipelining and one shared connection."""
        playbook = [
            {
                "hosts": "all",
                "gather_facts": False,
                "tasks": [
                    {
                        "ansible.builtin.copy": {
                            "src": f"{self._folder}/files/",
                            "dest": f"{self._stack.base}/current/",
                            "mode": "preserve",
                        }
                    },
                    {"ansible.builtin.command": {"argv": self._up}},
                ],
            }
        ]
        (self._folder / "playbook.yml").write_text(json.dumps(playbook))
        host = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self._port,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": f"-F {self._config} -o ControlPersist=60s",
            "ansible_pipelining": True,
        }
        inventory = {"all": {"hosts": {"host": host}}}
        (self._folder / "inventory.yml").write_text(json.dumps(inventory))
        self._run(
            [str(TOOLS / "ansible-playbook"), "-i", "inventory.yml", "playbook.yml"],
            ANSIBLE_SSH_ARGS="-o ControlMaster=auto -o ControlPersist=60s",
        )


ONE_WAY = 0.025
REPEATS = 5
SERVICES = ("gateway", "bridge", "caddy")
SYNCS = 3


@contextmanager
def stack_behind(relay: Relay, folder: Path, server: ssh.SshServer) -> Iterator[Stack]:
    """A stack whose host is reached through the relay only."""
    stack = Stack("bench", folder / "stack", server, checkout(folder / "product"))
    stack.settings["host"]["port"] = relay.port
    stack.known_hosts.write_text(server.known_hosts_line(relay.port))
    try:
        yield stack
    finally:
        stack.remove()


def best(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """The least of some runs, in seconds: what the machine's other work adds is left out."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        found.append(time.perf_counter() - began)
    return min(found)


def counted(relay: Relay, action: Callable[[], object]) -> tuple[int, int]:
    """Connections and client turns of one run."""
    relay.reset()
    action()
    return relay.connections, relay.turns


def figures() -> list[Figure]:
    """What `up` costs, when everything changes and when nothing does."""
    if missing := engine_missing():
        sys.stderr.write(f"bench deploy is left out: {missing}\n")
        return []
    subprocess.run([PROJECT / "scripts/setup", "bench"], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        server = ssh.start(folder / "ssh")
        try:
            with Relay(server.port, ONE_WAY) as relay, stack_behind(relay, folder, server) as stack:
                return measure(relay, stack, folder)
        finally:
            server.stop()


def settled(stack: Stack, limit: float = 120.0) -> None:
    """Waits until the engine's own healthchecks have passed, as on a stack that runs for days."""
    until = time.monotonic() + limit
    while any(stack.container(name)["State"]["Health"]["Status"] != "healthy" for name in SERVICES):
        if time.monotonic() > until:
            raise RuntimeError("the stack did not settle")
        time.sleep(1)


def measure(relay: Relay, stack: Stack, folder: Path) -> list[Figure]:
    """A first `up`, no-op ones, and the peers' no-ops."""
    first = best(stack.up, 1)
    first_cost = relay.connections, relay.turns
    settled(stack)
    noop = best(stack.up)
    connections, turns = counted(relay, stack.up)
    peers = Peers(stack, relay.port, folder / "peers")
    found = [
        Figure("first up to healthy, images there", first, "s"),
        Figure("first up, connections", first_cost[0], "connections", 1),
        Figure("first up, client turns", first_cost[1], "turns"),
        Figure("no-op up", noop, "s"),
        Figure("no-op up, connections", connections, "connections", 1),
        Figure("no-op up, client turns", turns, "turns", 12),
    ]
    tools = (
        ("docker compose over ssh://", peers.compose, REPEATS, 2),
        ("pyinfra", peers.pyinfra, 1, 8),
        ("Ansible", peers.ansible, 1, 30),
    )
    for name, run, repeats, bar in tools:
        relay.reset()
        seconds = best(run, repeats)
        cost = f"{relay.connections // repeats} connections, {relay.turns // repeats} turns"
        sys.stderr.write(f"{name}: {seconds:.2f} s, {cost}\n")
        found.append(Figure(f"no-op up, faster than {name}", seconds / noop, "x", bar, least=True))
    return found + synced(relay, stack)


def synced(relay: Relay, stack: Stack) -> list[Figure]:
    """What `sync bridge` costs when one source has changed, the image's other layers cached."""
    gateway, gaps, seconds, costs = stack.started()["gateway"], [], [], []
    source = stack.product / "bridge" / "clock.py"
    for number in range(SYNCS):
        source.write_text(f"{source.read_text()}# change {number}\n")
        relay.reset()
        with Watch(stack.settings["bridge"]["port"]) as watch:
            done = stack.deploy("sync", "bridge", "--json")
        if done.code:
            raise RuntimeError(f"sync failed: {done.err}")
        gaps.append(watch.longest)
        seconds.append(done.seconds)
        costs.append((relay.connections, relay.turns))
    connections, turns = max(costs)
    restarts = int(stack.started()["gateway"] != gateway)
    return [
        Figure("sync bridge: unavailable, worst of 3", max(gaps), "s", 3),
        Figure("sync bridge: seconds", min(seconds), "s"),
        Figure("sync bridge: connections", connections, "connections", 1),
        Figure("sync bridge: client turns", turns, "turns", 16),
        Figure("sync bridge: gateway restarts", restarts, "restarts", 0),
    ]
