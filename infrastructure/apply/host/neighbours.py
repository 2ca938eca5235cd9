"""Whether a stack fits beside what runs on its host already. Standard library, Python 3.9.

Looked at before anything of the stack is touched: a port that somebody else has would only be
noticed when the old container is stopped, and two stacks that do not fit into the memory together
push each other out when both are busy. Networks belong to a Compose project, and so to a stack's
name: a stack of the same name from another folder would take these containers for its own.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.containers import require_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from infrastructure.apply.protocol.requests import ApplyRequest
    from infrastructure.runtime.base import Neighbour

OURS = "gangway-"
"""How the Compose projects of stacks begin."""
ANY = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
MEGABYTE = 1024 * 1024
LISTENING = "0A"
PROXY = "docker-proxy"
"""The engine's program that listens on a published port."""
LOOKS = 15
"""Seconds in which a container comes up for which the engine listens already."""


def require_room(
    project: str,
    base: Path,
    request: ApplyRequest,
    look: Callable[[], Iterable[Neighbour]],
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """HostFailure when what the request would start does not fit.

    What runs already is let be: memory counts only when a service comes that was not there.

    Args:
        project: its Compose project.
        base: its folder.
        request: what it publishes, and what its containers may take together.
        look: every container that runs on the host, its own included.
        pause: how it waits between two looks.
    """
    for left in range(LOOKS - 1, -1, -1):
        try:
            _require_room(project, base, request, list(look()))
        except HostFailure as failure:
            if failure.code != "port-held" or not left:
                raise
            pause(1.0)
        else:
            return


def _require_room(
    project: str, base: Path, request: ApplyRequest, everybody: list[Neighbour]
) -> None:
    own = [one for one in everybody if one.project == project]
    others = [one for one in everybody if one.project != project]
    for one in own:
        require_own(one.folder, base)
    for setting, address in request.published.items():
        if request.changes.get(setting.partition(".")[0]) in ("create", "update"):
            _require_port(address, own, others)
    if "create" in request.changes.values():
        _require_memory(request.memory, others)


def _require_port(address: str, own: list[Neighbour], others: list[Neighbour]) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    for one in others:
        if any(meets(host, int(port), each) for each in one.ports):
            raise _taken(address, one.name)
    if any(meets(host, int(port), each) for one in own for each in one.ports):
        return  # ours already, and given up when its container is replaced
    if any(meets(host, int(port), each) for each in listening()):
        raise _held(address) if held_by_engine(int(port)) else _taken(address, "another program")


def _taken(address: str, who: str) -> HostFailure:
    return HostFailure("port-taken", f"{address} is already in use by {who}", "see ss -ltnp")


def _held(address: str) -> HostFailure:
    """Moby 26 leaves a port behind whose container was being started when the power went."""
    return HostFailure(
        "port-held",
        f"Docker keeps {address} for a container that does not run, as after a power cut",
        "sudo systemctl restart docker on the host frees it (a prepared host's containers run on"
        " meanwhile), then ./deploy.py up",
    )


def held_by_engine(port: int) -> bool:
    """Whether it is the engine's proxy that listens there; False when that cannot be seen."""
    sockets = {f"socket:[{inode}]" for number, inode in _listeners() if number == port}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_bytes().strip() != PROXY.encode():
                continue
            if any(str(each.readlink()) in sockets for each in (process / "fd").iterdir()):
                return True
    return False


def _listeners() -> list[tuple[int, str]]:
    """Ports that are listened on, each with its socket's number."""
    return [(int(words[1].rpartition(":")[2], 16), words[9]) for words in _sockets()]


def meets(host: str, port: int, other: tuple[str, int]) -> bool:
    """Whether two addresses cannot both be listened on."""
    theirs, number = other
    return port == number and (host == theirs or host in ANY or theirs in ANY)


def _require_memory(memory: int, others: list[Neighbour]) -> None:
    taken = {one.project: 0 for one in others if one.project.startswith(OURS)}
    for one in others:
        if one.project in taken:
            taken[one.project] += one.memory // MEGABYTE
    there = machine_memory()
    if not taken or there is None or memory + sum(taken.values()) <= there:
        return
    named = ", ".join(f"{name[len(OURS) :]} {size} MB" for name, size in sorted(taken.items()))
    raise HostFailure(
        "memory-short",
        f"the host has {there} MB; this stack may take {memory} MB, and there is {named}",
        "a larger machine, or smaller `limits` in stack.yaml for each of them",
    )


def machine_memory() -> int | None:
    """The host's memory in MB; None when it cannot be known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) // 1024
    return None


def listening() -> list[tuple[str, int]]:
    """Where something on this host listens: address and port."""
    pairs = [words[1].partition(":") for words in _sockets()]
    return [(written(address), int(port, 16)) for address, _, port in pairs]


def _sockets() -> list[list[str]]:
    """The lines of /proc/net/tcp and tcp6 that listen."""
    found = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
            found += [words for line in lines if (words := line.split())[3] == LISTENING]
    return found


def written(address: str) -> str:
    """An address of /proc/net/tcp, each word of it in the machine's own order, as people do."""
    import ipaddress
    import sys

    raw, step = bytes.fromhex(address), -1 if sys.byteorder == "little" else 1
    words = [raw[at : at + 4][::step] for at in range(0, len(raw), 4)]
    found = ipaddress.ip_address(b"".join(words))
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
