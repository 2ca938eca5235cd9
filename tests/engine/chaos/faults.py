"""What fails below a stack, each with how long it lasts and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.engine.chaos.engine_process import RESTARTS_AFTER, SURVIVING, EngineProcess
from tests.engine.chaos.outside import Network, run
from tests.engine.parts.engine import docker
from tests.engine.parts.stack import Stack

CONTROL: Final = "http://127.0.0.1:4099"
ASK: Final = """
import sys, urllib.request
method, url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() or None, method=method)
sys.stdout.write(urllib.request.urlopen(request, timeout=10).read().decode())
"""
SERVICES: Final = ("gateway", "bridge", "caddy")
EATER: Final = """
import os, pathlib, sys
group, main, badness = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
pathlib.Path(badness).write_text("1000")
(group / "cgroup.procs").write_text(str(os.getpid()))
eaten = []
while main.exists() and len(eaten) < 4096:
    eaten.append(bytearray(os.urandom(1024) * 1024))
"""
"""Takes memory, a megabyte at a time, until it is killed or the program beside it is."""


@dataclass
class Containers:
    """Those of a stack, as the host sees them."""

    stack: Stack

    def pid(self, service: str) -> int:
        """Of the container's first process."""
        pid: int = self.stack.container(service)["State"]["Pid"]
        assert pid
        return pid

    def address(self, service: str, network: str) -> str:
        """Of the container on one of the stack's networks."""
        networks = self.stack.container(service)["NetworkSettings"]["Networks"]
        found: str = networks[f"{self.stack.project}_{network}"]["IPAddress"]
        assert found
        return found


@dataclass
class Target(Containers):
    """What the faults are done to."""

    network: Network
    engine: EngineProcess


class BehindTheGateway:
    """The simulator in the gateway's container, asked from inside its network."""

    def __init__(self, pid: int) -> None:
        self._inside = ["nsenter", "--target", str(pid), "--net", sys.executable, "-c", ASK]

    def _ask(self, method: str, path: str, body: str = "") -> str:
        command = [*self._inside, method, CONTROL + path, body]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def fault(self, name: str, seconds: float) -> None:
        """Begins a fault."""
        self._ask("POST", "/faults", json.dumps({"fault": name, "seconds": seconds}))

    def clear(self) -> None:
        """Ends every fault."""
        self._ask("DELETE", "/faults")

    def book(self) -> dict[str, Any]:
        """Its own record."""
        found: dict[str, Any] = json.loads(self._ask("GET", "/book"))
        return found


Doing = Callable[[Target, float], None]


@dataclass(frozen=True)
class Kind:
    """One kind of fault. `seconds`: it lasts so long; 0: it is over at once.

    `hidden`: nobody on the host can see it, so `status` need not.
    """

    name: str
    told: str
    seconds: float
    do: Doing
    hidden: bool = False
    asked_after: float = 1.0
    """Seconds until `status` looks: not before it can be known."""


# --- containers ----------------------------------------------------------------------------------
def _kill_main(service: str) -> Doing:
    return lambda target, _: os.kill(target.pid(service), signal.SIGKILL)


def _kill_shim(service: str) -> Doing:
    def kill(target: Target, _: float) -> None:
        shim = _parent(target.pid(service))
        assert b"containerd-shim" in Path(f"/proc/{shim}/cmdline").read_bytes()
        os.kill(shim, signal.SIGKILL)

    return kill


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _pause(service: str) -> Doing:
    def pause(target: Target, seconds: float) -> None:
        container = target.stack.container(service)["Id"]
        docker("pause", container)
        try:
            time.sleep(seconds)
        finally:
            docker("unpause", container)

    return pause


def _restart(service: str) -> Doing:
    return lambda target, _: void(docker("restart", target.stack.container(service)["Id"]))


def _stop(service: str) -> Doing:
    """Someone stops it; it stays so until the next `up`."""

    def stop(target: Target, seconds: float) -> None:
        docker("stop", target.stack.container(service)["Id"])
        time.sleep(seconds)
        target.stack.up()

    return stop


def void(_: object) -> None:
    """For its effect only."""


def _kill_java(target: Target, _: float) -> None:
    docker("exec", target.stack.container("gateway")["Id"], "pkill", "-KILL", "-x", "java")


# --- the engine ----------------------------------------------------------------------------------
def _engine(number: int) -> Doing:
    def end(target: Target, _: float) -> None:
        target.engine.stop(number)
        time.sleep(RESTARTS_AFTER)
        target.engine.start(SURVIVING)

    return end


def _engine_away(target: Target, seconds: float) -> None:
    """No name is found in a container meanwhile: the engine answers for them."""
    broker = BehindTheGateway(target.pid("gateway"))
    target.engine.stop()
    try:
        time.sleep(seconds / 4)
        broker.fault("fin", 0.01)
        time.sleep(seconds * 3 / 4)
    finally:
        target.engine.start(SURVIVING)


def _kill_containerd(target: Target, _: float) -> None:
    os.kill(target.engine.containerd(), signal.SIGKILL)


# --- the network ---------------------------------------------------------------------------------
@contextlib.contextmanager
def _rules(inside: tuple[str, ...], rules: list[tuple[str, ...]]) -> Iterator[None]:
    """Rules of iptables at the head of their chains, in a network of its own."""
    put: list[tuple[str, ...]] = []
    try:
        for rule in rules:
            run(*inside, "iptables", "-w", "-I", *rule)
            put.append(rule)
        yield
    finally:
        for rule in put:
            run(*inside, "iptables", "-w", "-D", *rule)


def _cut_client(target: Target, seconds: float) -> None:
    inside = ("ip", "netns", "exec", target.network.name)
    with _rules(inside, [("INPUT", "-j", "DROP"), ("OUTPUT", "-j", "DROP")]):
        time.sleep(seconds)


@contextlib.contextmanager
def vanishing(containers: Containers, service: str, other: str, network: str) -> Iterator[None]:
    """Whatever passes between two containers vanishes."""
    far = containers.address(other, network)
    rules: list[tuple[str, ...]] = [("INPUT", "-s", far), ("OUTPUT", "-d", far)]
    with _rules(_inside(containers, service), [(*rule, "-j", "DROP") for rule in rules]):
        yield


def _cut(service: str, other: str, network: str) -> Doing:
    def cut(target: Target, seconds: float) -> None:
        with vanishing(target, service, other, network):
            time.sleep(seconds)

    return cut


def _refuse(service: str, other: str, network: str) -> Doing:
    """The first answers whatever comes from the other with a reset."""

    def refuse(target: Target, seconds: float) -> None:
        rule = ("INPUT", "-p", "tcp", "-s", target.address(other, network), "-j", "REJECT")
        with _rules(_inside(target, service), [(*rule, "--reject-with", "tcp-reset")]):
            time.sleep(seconds)

    return refuse


def _inside(containers: Containers, service: str) -> tuple[str, ...]:
    return ("nsenter", "--target", str(containers.pid(service)), "--net")


def _unplug(service: str, network: str) -> Doing:
    """The container is taken off a network, name and address, and put back."""

    def unplug(target: Target, seconds: float) -> None:
        container = target.stack.container(service)["Id"]
        name = f"{target.stack.project}_{network}"
        docker("network", "disconnect", name, container)
        try:
            time.sleep(seconds)
        finally:
            docker("network", "connect", "--alias", service, name, container)

    return unplug


# --- memory and disk -----------------------------------------------------------------------------
def _eat(service: str, *, spared: bool) -> Doing:
    """The container's memory fills up to its limit, and the kernel ends somebody in it.

    `spared`: the kernel chooses what has filled it, else the service's own program.
    """

    def eat(target: Target, _: float) -> None:
        pid, before = target.pid(service), target.stack.container(service)["State"]["StartedAt"]
        worker = max(_below(pid), key=_resident)
        command = [sys.executable, "-S", "-E", "-c", EATER, str(_memory_group(pid))]
        chosen = worker if not spared else "self"
        eater = subprocess.Popen([*command, f"/proc/{worker}/exe", f"/proc/{chosen}/oom_score_adj"])
        code = eater.wait(60)
        if spared:
            assert code == -signal.SIGKILL, f"the eater ended with {code}"
            assert target.stack.container(service)["State"]["StartedAt"] == before
        else:
            assert not Path(f"/proc/{worker}/exe").exists(), "it lives"

    return eat


def _memory_group(pid: int) -> Path:
    """The cgroup that counts a process's memory (version 1 or 2)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
    return Path("/sys/fs/cgroup") / path.lstrip("/")


def _below(pid: int) -> list[int]:
    """All processes of a container but its first."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_below(child)]
    return found


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _fill_disk(target: Target, seconds: float) -> None:
    """Nothing more can be written where the stack keeps its data."""
    filler = target.stack.base / "data" / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        time.sleep(seconds)
    finally:
        filler.unlink()


# --- the way to the host -------------------------------------------------------------------------
def _kill_sshd_status(target: Target, _: float) -> None:
    """While `status` looks."""
    process = target.stack.start("status", "--watch", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    _end_sshd(target)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 5, f"{process.returncode}: {err}"
    target.stack.server.again()


def _kill_sshd_up(target: Target, _: float) -> None:
    """While `up` exchanges the bridge; the host ends what it began, and the next finds it done."""
    stack = target.stack
    entries, level = len(stack.ledger()), stack.settings["bridge"].get("log_level", "info")
    stack.settings["bridge"]["log_level"] = "debug" if level == "info" else "info"
    process = stack.start("up", "--yes", "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if "connecting to the gateway" in line:
            break
    _end_sshd(target)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 5, f"{process.returncode}: {err}"
    deadline = time.monotonic() + 60
    while len(stack.ledger()) == entries:
        assert time.monotonic() < deadline, "the host does not end it"
        time.sleep(0.1)
    assert stack.ledger()[-1]["result"] == "healthy", stack.ledger()[-1]
    stack.server.again()
    assert stack.up("--json").document["changed"] is False


def _end_sshd(target: Target) -> None:
    target.stack.server.kill()


_WORDS: Final = {"gateway": "the gateway", "bridge": "the bridge", "caddy": "Caddy"}


def _each(name: str, told: str, seconds: float, do: Callable[[str], Doing]) -> list[Kind]:
    return [Kind(f"{one}-{name}", told.format(_WORDS[one]), seconds, do(one)) for one in SERVICES]


KINDS: Final = (
    *_each("killed", "{}: its container's first process is killed", 0, _kill_main),
    Kind("gateway-java", "the gateway: Java alone is killed", 0, _kill_java),
    *_each("shim", "{}: its containerd-shim is killed", 0, _kill_shim),
    *_each("restarted", "{}: `docker restart`", 0, _restart),
    *_each("paused", "{}: `docker pause`", 8, _pause),
    *_each("stopped", "{}: `docker stop`, then `./deploy.py up`", 4, _stop),
    Kind("engine-restarted", "the engine restarts", 0, _engine(signal.SIGTERM)),
    Kind("engine-killed", "the engine is killed", 0, _engine(signal.SIGKILL)),
    Kind("containerd-killed", "containerd is killed", 0, _kill_containerd),
    Kind("engine-away", "the engine is away, and the gateway closes every connection", 10,
         _engine_away),
    Kind("client-cut", "client – Caddy: packets vanish", 6, _cut_client, hidden=True),
    Kind("caddy-cut", "Caddy – bridge: packets vanish", 8, _cut("caddy", "bridge", "web")),
    Kind("caddy-refused", "Caddy – bridge: refused", 5, _refuse("bridge", "caddy", "web")),
    Kind("caddy-unplugged", "Caddy is taken off its network", 5, _unplug("caddy", "web")),
    Kind("tws-cut", "bridge – gateway: packets vanish", 12, _cut("bridge", "gateway", "tws"),
         asked_after=6),
    Kind("tws-refused", "bridge – gateway: refused", 10, _refuse("gateway", "bridge", "tws"),
         asked_after=6),
    Kind("tws-unplugged", "the gateway is taken off the bridge's network", 10,
         _unplug("gateway", "tws"), asked_after=6),
    Kind("bridge-beside", "the bridge's memory is full, another is the largest", 0,
         _eat("bridge", spared=True)),
    Kind("bridge-memory", "the bridge's memory is full: the kernel kills it", 0,
         _eat("bridge", spared=False)),
    Kind("gateway-beside", "the gateway's memory is full, another is the largest", 0,
         _eat("gateway", spared=True)),
    Kind("gateway-memory", "the gateway's memory is full: the kernel kills Java", 0,
         _eat("gateway", spared=False)),
    Kind("caddy-memory", "Caddy's memory is full: the kernel kills it", 0,
         _eat("caddy", spared=False)),
    Kind("disk-full", "the disk of the stack's data is full", 8, _fill_disk, asked_after=4),
    Kind("sshd-status", "sshd is killed during `status`", 0, _kill_sshd_status),
    Kind("sshd-up", "sshd is killed while `up` exchanges the bridge", 0, _kill_sshd_up),
)  # fmt: skip
