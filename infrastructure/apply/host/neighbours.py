"""Whether a stack fits beside what runs on its host already. Standard library, Python 3.9.

Looked at before anything of the stack is touched: a port that somebody else has would only be
noticed when the old container is stopped, and two stacks that do not fit into the memory together
push each other out when both are busy. Networks belong to a Compose project, and so to a stack's
name: a stack of the same name from another folder would take these containers for its own.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infrastructure.apply.protocol.requests import ApplyRequest
    from infrastructure.runtime.base import Neighbour

OURS = "gangway-"
"""How the Compose projects of stacks begin."""
ANY = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
MEGABYTE = 1024 * 1024
LISTENING = "0A"


def require_room(
    project: str, base: Path, request: ApplyRequest, found: Iterable[Neighbour]
) -> None:
    """HostFailure when what the request would start does not fit.

    What runs already is let be: memory counts only when a service comes that was not there.

    Args:
        project: its Compose project.
        base: its folder.
        request: what it publishes, and what its containers may take together.
        found: every container that runs on the host, its own included.
    """
    everybody = list(found)
    own = [one for one in everybody if one.project == project]
    others = [one for one in everybody if one.project != project]
    for one in own:
        if one.folder and not _within(one.folder, base):
            raise HostFailure(
                "name-taken",
                f"another stack of this name runs here, from {one.folder}",
                "give the target another name, or set `folder` to where it lies",
            )
    for setting, address in request.published.items():
        if request.changes.get(setting.partition(".")[0]) in ("create", "update"):
            _require_port(address, own, others)
    if "create" in request.changes.values():
        _require_memory(request.memory, others)


def _within(folder: str, base: Path) -> bool:
    place = Path(folder)
    return base in (place, *place.parents) or base.resolve() in (place, *place.resolve().parents)


def _require_port(address: str, own: list[Neighbour], others: list[Neighbour]) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    for one in others:
        if any(meets(host, int(port), each) for each in one.ports):
            raise _taken(address, one.name)
    if any(meets(host, int(port), each) for one in own for each in one.ports):
        return  # ours already, and given up when its container is replaced
    if any(meets(host, int(port), each) for each in listening()):
        raise _taken(address, "another program")


def _taken(address: str, who: str) -> HostFailure:
    return HostFailure("port-taken", f"{address} is already in use by {who}", "see ss -ltnp")


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
    found = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENING:
                    address, _, port = words[1].partition(":")
                    found.append((written(address), int(port, 16)))
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
