"""`bridge.build: local`: images that are built here travel without the layers that the host has."""

import io
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import docker as sdk
import pytest

from infrastructure.apply import shipping
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.compose import ComposeRuntime
from tests.engine.parts.engine import ENGINE_HOST, docker
from tests.engine.parts.stack import Stack, checkout

BASE = "python:3.13-slim-trixie"
SHIPPED = re.compile(r"shipping bridge: (\d+\.\d) MB, (\d+) of (\d+) layers")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> ComposeRuntime:
    """The host's side of it, with the private engine."""
    monkeypatch.setenv("DOCKER_HOST", ENGINE_HOST)
    return ComposeRuntime(Path("/nonexistent"), "gangway-shipping")


@pytest.fixture
def saved() -> Iterator[tuple[str, IO[bytes]]]:
    """An image of two layers on top of the base, as an archive; the engine has only the base."""
    name = f"gangway-test/{uuid.uuid4().hex[:8]}:1"
    for parent, number in ((BASE, 1), (name, 2)):
        made = docker("create", parent, "sh", "-c", "true").strip()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"part{number}").write_text(f"{name} part {number}")
            docker("cp", f"{folder}/part{number}", f"{made}:/part{number}")
        docker("commit", made, name)
        docker("rm", made)
    with tempfile.TemporaryFile() as archive:
        client = sdk.DockerClient(ENGINE_HOST)
        for chunk in client.images.get(name).save(named=True):
            archive.write(chunk)
        client.close()
        docker("image", "rm", name)
        yield name, archive
    docker("image", "rm", name, check=False)


def _pieces(archive: IO[bytes], without: int) -> bytes:
    packed = io.BytesIO()
    shipping.pack_layers(archive, packed, shipping.read_layers(archive), without)
    return packed.getvalue()


def test_the_engine_takes_an_image_without_what_it_has(
    host: ComposeRuntime, saved: tuple[str, IO[bytes]]
) -> None:
    name, archive = saved
    ids = shipping.read_layers(archive).ids
    known = shipping.shared_layers(ids, host.layers())
    assert known == len(ids) - 2, "the base is there, the two layers on top are not"
    thin = _pieces(archive, known)
    assert len(thin) < 10_000
    assert host.lacking([name]) == [name]
    host.load(iter([thin]))
    assert host.lacking([name]) == []
    assert docker("run", "--rm", name, "cat", "/part1", "/part2") == f"{name} part 1{name} part 2"


def test_the_engine_refuses_an_image_without_what_it_lacks(
    host: ComposeRuntime, saved: tuple[str, IO[bytes]]
) -> None:
    name, archive = saved
    ids = shipping.read_layers(archive).ids
    with pytest.raises(HostFailure) as refused:
        host.load(iter([_pieces(archive, len(ids) - 1)]))
    assert refused.value.code == "image-unavailable"
    assert host.lacking([name]) == [name]


def test_a_changed_source_ships_little(make_stack: Callable[[str], Stack], tmp_path: Path) -> None:
    stack = make_stack("ship")
    stack.product = checkout(tmp_path / "product")
    stack.settings["bridge"]["build"] = "local"
    first = stack.up(DOCKER_HOST=ENGINE_HOST)
    assert "· building bridge on this machine" in first.err
    assert "bridge: build step 1/" in first.err
    assert "· building bridge\n" not in first.err, "nothing is built on the host"
    assert SHIPPED.search(first.err)

    before = stack.started()
    source = stack.product / "bridge" / "clock.py"
    source.write_text(source.read_text() + "# changed\n")
    done = stack.deploy("sync", "bridge", DOCKER_HOST=ENGINE_HOST)
    assert done.code == 0, done.err
    found = SHIPPED.search(done.err)
    assert found, done.err
    megabytes, travelled, layer_count = float(found[1]), int(found[2]), int(found[3])
    assert megabytes < 3
    assert travelled < layer_count
    after = stack.started()
    assert after["bridge"] != before["bridge"]
    assert (after["gateway"], after["caddy"]) == (before["gateway"], before["caddy"])

    again = stack.deploy("rebuild", "bridge", DOCKER_HOST=ENGINE_HOST)
    assert again.code == 0, again.err
    assert "· building bridge on this machine" in again.err
    assert "· building bridge\n" not in again.err
    assert SHIPPED.search(again.err), "a fresh image is shipped, although its name is the same"
    assert stack.started()["bridge"] != after["bridge"]


def test_no_docker_here_is_explained(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("nowhere")
    stack.settings["bridge"]["build"] = "local"
    done = stack.up(code=1, DOCKER_HOST="tcp://127.0.0.1:1")
    assert "Docker on this machine does not help" in done.err
    assert "bridge.build: remote" in done.err
