"""`bridge.build: local`: the image is built by this machine's Docker, and saved to be shipped.

The Docker SDK talks to whatever `docker` on this machine talks to (`DOCKER_HOST`, or the default).
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from infrastructure.errors import GangwayError
from infrastructure.observe.build_log import BuildLog
from infrastructure.render.bridge import build_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from infrastructure.apply.session import Listener
    from infrastructure.config import Target
    from infrastructure.render.model import Release, Service

CONTEXT = "image/"
DOCKERFILE = "bridge/Dockerfile"
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
                _build(client, target, release, service, architecture, listener, fresh=fresh)
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


def _build(
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
    for part in client.api.build(
        fileobj=io.BytesIO(context(release)),
        custom_context=True,
        dockerfile=DOCKERFILE,
        buildargs=build_arguments(target),
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
                listener.event({"event": "build", "service": service.name, **step})


def context(release: Release) -> bytes:
    """The build context: the release's `image/` folder as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for item in release.files:
            if item.path.startswith(CONTEXT):
                entry = tarfile.TarInfo(item.path.removeprefix(CONTEXT))
                entry.size, entry.mode = len(item.content), item.mode
                tar.addfile(entry, io.BytesIO(item.content))
    return buffer.getvalue()
