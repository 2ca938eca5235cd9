"""Two stacks on one host: what does not fit is refused before anything is touched."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infrastructure.apply.exchange import failure
from infrastructure.apply.host import neighbours
from infrastructure.apply.host.neighbours import meets, require_room, written
from infrastructure.apply.protocol import events, requests
from infrastructure.apply.session import published
from infrastructure.runtime.base import HostFailure, Neighbour
from infrastructure.runtime.containers import parse_neighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.config import Target

MEGABYTE = 1024 * 1024
CREATE: dict[str, Any] = {"gateway": "create", "bridge": "create", "caddy": "create"}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """A host of 2,000 MB on which nothing listens; what is added does."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(neighbours, "listening", lambda: found)
    monkeypatch.setattr(neighbours, "machine_memory", lambda: 2_000)
    return found


def other(name: str = "gangway-first-caddy-1", **more: Any) -> Neighbour:
    values = {"project": "gangway-first", "folder": "/opt/gangway/first/current", **more}
    return Neighbour(name, **values)


def asked(target: Target, changes: dict[str, Any] | None = None, memory: int = 864) -> Any:
    return requests.ApplyRequest(
        release="r1",
        services=[],
        changes=CREATE if changes is None else changes,
        checks={},
        wait=1.0,
        by="me",
        published=published(target),
        memory=memory,
    )


def refused(target: Target, *found: Neighbour, **more: Any) -> Any:
    """The error as a person gets it."""
    with pytest.raises(HostFailure) as raised:
        require_room(target.project, Path(target.base), asked(target, **more), lambda: found)
    return failure(events.Failed(**raised.value.as_event()), target)


def test_a_port_of_another_stack_is_named_with_its_place(make: Callable[..., Target]) -> None:
    error = refused(make(), other(ports=(("0.0.0.0", 443),)))
    assert error.code == "port-taken"
    assert error.message == "port 443 is taken by gangway-first-caddy-1"
    assert str(error.place).endswith("caddy.https_port")
    assert "caddy.https_port" in error.hint
    error = refused(make(), other("gangway-first-bridge-1", ports=(("127.0.0.1", 8080),)))
    assert (error.message, error.place.path) == (
        "port 8080 is taken by gangway-first-bridge-1",
        "bridge.port",
    )


def test_a_port_of_any_program_is_noticed(
    make: Callable[..., Target], machine: list[tuple[str, int]]
) -> None:
    machine.append(("0.0.0.0", 80))
    error = refused(make())
    assert error.message == "port 80 is taken by another program"


def test_its_own_ports_are_its_own(
    make: Callable[..., Target], machine: list[tuple[str, int]]
) -> None:
    target = make()
    machine.extend([("0.0.0.0", 443), ("0.0.0.0", 80), ("127.0.0.1", 8080), ("127.0.0.1", 22)])
    own: dict[str, Any] = {"project": target.project, "folder": f"{target.base}/current"}
    found = [
        Neighbour("a", ports=(("0.0.0.0", 443), ("::", 443), ("0.0.0.0", 80)), **own),
        Neighbour("b", ports=(("127.0.0.1", 8080),), memory=10_000 * MEGABYTE, **own),
        other(ports=(("127.0.0.1", 8081),)),
    ]
    require_room(target.project, Path(target.base), asked(target), lambda: found)


def test_what_is_not_started_needs_no_port_and_no_memory(make: Callable[..., Target]) -> None:
    target = make()
    found = [other(ports=(("0.0.0.0", 443),), memory=1_900 * MEGABYTE)]
    require_room(
        target.project, Path(target.base), asked(target, {"bridge": "update"}), lambda: found
    )


def test_memory_is_counted_together(make: Callable[..., Target]) -> None:
    fits = [other(memory=640 * MEGABYTE), other("x", memory=496 * MEGABYTE)]
    target = make()
    require_room(target.project, Path(target.base), asked(target), lambda: fits)
    stranger = Neighbour("database", memory=4_000 * MEGABYTE)  # no stack: not ours to judge
    require_room(target.project, Path(target.base), asked(target), lambda: [*fits, stranger])
    error = refused(target, *fits, other("y", memory=MEGABYTE))
    assert error.code == "memory-short"
    assert "2000 MB; this stack may take 864 MB, and there is first 1137 MB" in error.message
    assert error.place is not None
    assert "limits" in error.hint


def test_a_machine_alone_may_take_more_than_there_is(make: Callable[..., Target]) -> None:
    target = make()
    require_room(target.project, Path(target.base), asked(target, memory=9_000), list)


def test_a_stack_of_the_same_name_from_another_folder_is_left_alone(
    make: Callable[..., Target],
) -> None:
    target = make()
    theirs = other(project=target.project, folder="/srv/gangway/prod/current")
    error = refused(target, theirs)
    assert (error.code, "/srv/gangway/prod" in error.message) == ("name-taken", True)


@pytest.mark.parametrize(
    ("host", "theirs", "expected"),
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "127.0.0.1", False),
        ("127.0.0.1", "::", True),
    ],
)
def test_addresses_that_cannot_both_be_listened_on(host: str, theirs: str, expected: bool) -> None:
    assert meets(host, 80, (theirs, 80)) is expected
    assert not meets(host, 80, (theirs, 81))


def test_what_the_engine_says() -> None:
    item = {
        "Name": "/gangway-first-caddy-1",
        "Config": {
            "Labels": {
                "com.docker.compose.project": "gangway-first",
                "com.docker.compose.project.working_dir": "/opt/gangway/first/current",
            }
        },
        "HostConfig": {"Memory": 96 * MEGABYTE},
        "NetworkSettings": {
            "Ports": {"443/tcp": [{"HostIp": "0.0.0.0", "HostPort": "443"}], "2019/tcp": None}
        },
    }
    bare = {"Name": "/x", "Config": {"Labels": None}, "NetworkSettings": {"Ports": None}}
    assert parse_neighbours(json.dumps([item, bare])) == [
        other(ports=(("0.0.0.0", 443),), memory=96 * MEGABYTE),
        Neighbour("x"),
    ]


def test_addresses_of_the_kernel_are_read() -> None:
    assert written("0100007F") == "127.0.0.1"
    assert written("00000000") == "0.0.0.0"
    assert written("00000000000000000000000001000000") == "::1"
    assert written("0000000000000000FFFF00000100007F") == "127.0.0.1"


def test_who_listens_here_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        assert server.getsockname() in neighbours.listening()
    assert (neighbours.machine_memory() or 0) > 100


def test_a_process_whose_name_is_no_text_hides_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    own = Path("/proc/self/comm")
    before = own.read_bytes()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        try:
            own.write_bytes("Überwachungsdié".encode()[:15])  # cut in a letter, by the kernel
            assert neighbours.held_by_engine(server.getsockname()[1]) is False
        finally:
            own.write_bytes(before.strip())


# a port that the engine keeps
@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The engine's proxy without a container: its name, and a port on which it listens."""
    named = tmp_path / neighbours.PROXY
    named.symlink_to(os.path.realpath(sys.executable))
    listen = "import socket as s; l = s.create_server(('127.0.0.1', 0)); "
    listen += "print(l.getsockname()[1], flush=True); input()"
    command = [str(named), "-I", "-S", "-c", listen]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.communicate("\n")


def test_a_port_that_the_engine_keeps_is_told_from_another_program(
    make: Callable[..., Target], proxy: tuple[Any, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    port = proxy[1]
    target = make(bridge={"port": port})
    pauses: list[float] = []
    with pytest.raises(HostFailure) as raised:
        require_room(
            target.project,
            Path(target.base),
            asked(target, {"bridge": "update"}),
            list,
            pauses.append,
        )
    error = failure(events.Failed(**raised.value.as_event()), target)
    assert error.code == "port-held"
    assert error.message.startswith(f"Docker keeps 127.0.0.1:{port} for a container")
    assert "systemctl restart docker" in error.hint
    assert pauses == [1.0] * (neighbours.LOOKS - 1)
    with socket.create_server(("127.0.0.1", 0)) as plain:
        assert not neighbours.held_by_engine(plain.getsockname()[1])


def test_a_container_that_is_coming_up_is_waited_for(
    make: Callable[..., Target], proxy: tuple[Any, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a boot, or in a loop of restarts: the engine listens before the container runs."""
    monkeypatch.undo()
    target = make(bridge={"port": proxy[1]})
    mine = other("bridge-1", project=target.project, folder=target.base)
    mine = replace(mine, ports=(("127.0.0.1", proxy[1]),))
    looks: list[list[Neighbour]] = [[], [], [mine]]
    request = asked(target, {"bridge": "update"})
    require_room(
        target.project, Path(target.base), request, lambda: looks.pop(0), lambda seconds: None
    )
    assert not looks
