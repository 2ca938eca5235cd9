"""`bridge.build: local`: images are built here, and travel without the layers that the host has.

The Docker SDK talks to whatever `docker` on this machine talks to (`DOCKER_HOST`, or the default).
`docker load` identifies a layer by its own content and by all layers below it, and does not read
the data of one that it knows. So what an image of the host shares with this one from the bottom
up need not travel (docs/decisions/shipping-layers.md).
"""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import IO, TYPE_CHECKING

from infrastructure.apply.exchange import WORK_WITHIN
from infrastructure.apply.protocol import events, requests
from infrastructure.config.worker_files import DOCKERFILE
from infrastructure.errors import GangwayError
from infrastructure.release_files import WORKERS
from infrastructure.render.bridge import build_arguments
from infrastructure.runtime.streamed import BuildLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from docker import DockerClient

    from infrastructure.apply.exchange import Exchange, Listener
    from infrastructure.config import Target
    from infrastructure.render.model import Release, Service


MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Layers:
    """An image's layers, the lowest first: where each lies in the archive, and its DiffID."""

    paths: tuple[str, ...]
    ids: tuple[str, ...]


def read_layers(archive: IO[bytes]) -> Layers:
    """The layers of the one image in a `docker save` archive.

    Raises:
        GangwayError: it is no such archive.
    """
    archive.seek(0)
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            [image] = json.loads(_content(tar, MANIFEST))
            ids = json.loads(_content(tar, image["Config"]))["rootfs"]["diff_ids"]
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise GangwayError(
            f"Docker on this machine saves images in a way that is not understood: {error}",
            hint="set bridge.build: remote to build on the host",
            code="local-docker",
        ) from error
    return Layers(tuple(image["Layers"]), tuple(ids))


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()


def shared_layers(ids: Sequence[str], on_host: Iterable[Sequence[str]]) -> int:
    """How many layers, from the bottom up, one of the host's images has as well."""
    counts = (
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, other, strict=False)))
        for other in on_host
    )
    return max(counts, default=0)


def pack_layers(archive: IO[bytes], packed: IO[bytes], layers: Layers, without: int = 0) -> int:
    """Writes the archive compressed, without the data of its lowest layers; the size in bytes."""
    archive.seek(0)
    with (
        tarfile.open(fileobj=archive, mode="r:") as tar,
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w|") as out,
    ):
        members = tar.getmembers()
        dropped = _dropped(members, layers, without)
        for member in members:
            if member.name not in dropped:
                out.addfile(member, tar.extractfile(member) if member.isfile() else None)
    return packed.tell()


def _dropped(members: list[tarfile.TarInfo], layers: Layers, without: int) -> set[str]:
    """The lowest layers' files, but those that a higher layer is made of, too."""
    links = {
        member.name: posixpath.normpath(
            posixpath.join(posixpath.dirname(member.name), member.linkname)
        )
        for member in members
        if member.issym()
    }
    needed = {name for path in layers.paths[without:] for name in (path, links.get(path, path))}
    return set(layers.paths[:without]) - needed


CONTEXT = "image/"
PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
"""Docker's name of a host's architecture."""
TAIL = 25


@contextmanager
def build(
    target: Target,
    release: Release,
    service: Service,
    architecture: str,
    listener: Listener,
    *,
    fresh: bool = False,
) -> Iterator[IO[bytes]]:
    """The service's image for a host of this architecture (`uname -m`), as `docker save` writes it.

    `fresh` builds every layer anew. The file is gone after the block.

    Raises:
        GangwayError: there is no Docker here, or the build fails.
    """
    import docker
    from docker.errors import DockerException

    with tempfile.TemporaryFile() as archive:
        try:
            client = docker.from_env(timeout=1800)
            try:
                _build_image(client, target, release, service, architecture, listener, fresh=fresh)
                for chunk in client.images.get(service.image).save(named=True):
                    archive.write(chunk)
            finally:
                client.close()
        except DockerException as error:
            raise GangwayError(
                f"Docker on this machine does not help: {str(error).splitlines()[0]}",
                hint="start it, or set bridge.build: remote to build on the host",
                code="local-docker",
            ) from error
        yield archive


def _build_image(
    client: DockerClient,
    target: Target,
    release: Release,
    service: Service,
    architecture: str,
    listener: Listener,
    *,
    fresh: bool,
) -> None:
    """Builds the image and tells each step."""
    told: list[str] = []
    log = BuildLog()
    of = f"{WORKERS}/{service.name}/" if service.worker else CONTEXT
    for part in client.api.build(
        fileobj=io.BytesIO(context(release, of)),
        custom_context=True,
        dockerfile=DOCKERFILE if service.worker else "bridge/Dockerfile",
        buildargs={} if service.worker else build_arguments(target),
        tag=service.image,
        rm=True,
        nocache=fresh,
        platform=PLATFORMS.get(architecture),
        decode=True,
    ):
        if "error" in part:
            reason = part["error"].strip().splitlines()[-1]
            raise GangwayError(
                f"the image of {service.name} cannot be built here: {reason}",
                code="build-failed",
                details="\n".join(told[-TAIL:]),
            )
        for line in str(part.get("stream", "")).splitlines():
            told += [line.rstrip()] if line.strip() else []
            if (step := log.feed(line)) is not None:
                listener.event(events.Build(service.name, **step))


def context(release: Release, of: str = CONTEXT) -> bytes:
    """The build context: a folder of the release, the bridge's if no other, as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for item in release.files:
            if item.path.startswith(of):
                entry = tarfile.TarInfo(item.path.removeprefix(of))
                entry.size, entry.mode = len(item.content), item.mode
                tar.addfile(entry, io.BytesIO(item.content))
    return buffer.getvalue()


class Shipping:
    """Builds images on this machine and loads them on the host."""

    def __init__(self, exchange: Exchange, target: Target, release: Release) -> None:
        self._exchange = exchange
        self._target = target
        self._release = release

    def ship(self, services: list[Service], *, fresh: bool) -> None:
        """Ships what the host lacks; with `fresh` everything is built anew and shipped.

        Raises:
            GangwayError: an image cannot be built here.
            DeployFailed: the host cannot load it.
        """
        names = [service.image for service in services]
        answer = self._exchange.ask(events.Lacking, requests.LackingRequest(names))
        for service in services:
            if fresh or service.image in answer.images:
                self._say(f"building {service.name} on this machine")
                with build(
                    self._target,
                    self._release,
                    service,
                    answer.architecture,
                    self._exchange.listener,
                    fresh=fresh,
                ) as archive:
                    self._send(service, archive, answer.layers)

    def _send(self, service: Service, archive: IO[bytes], on_host: list[list[str]]) -> None:
        found = read_layers(archive)
        known = shared_layers(found.ids, on_host)
        if not self._load(service, archive, found, known):
            # An image of the host has gone since it was asked, or its engine wants every layer.
            self._say("the host wants the whole image")
            self._load(service, archive, found, 0)

    def _load(self, service: Service, archive: IO[bytes], found: Layers, known: int) -> bool:
        """Whether the host took the image; a whole one that it refuses is a failure."""
        with tempfile.TemporaryFile() as packed:
            size = pack_layers(archive, packed, found, known)
            count = len(found.ids)
            self._say(
                f"shipping {service.name}: {size / 1e6:.1f} MB, {count - known} of {count} layers"
            )
            packed.seek(0)
            self._exchange.send(requests.LoadRequest(size, partial=known > 0))
            self._exchange.pour(service.name, packed, size)
            return not self._exchange.until(events.Loaded, WORK_WITHIN).refused

    def _say(self, text: str) -> None:
        self._exchange.listener.event(events.Step(text))
