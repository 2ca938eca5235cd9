"""`bridge.build: local`: the image is built by this machine's Docker and shipped compressed.

The Docker SDK talks to whatever `docker` on this machine talks to (`DOCKER_HOST`, or the default).
"""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

from infrastructure.errors import GangwayError
from infrastructure.render.bridge import build_arguments

if TYPE_CHECKING:
    from docker import DockerClient

    from infrastructure.config import Target
    from infrastructure.render.model import Release, Service

CONTEXT = "image/"
DOCKERFILE = "bridge/Dockerfile"


def build(target: Target, release: Release, service: Service, architecture: str) -> bytes:
    """The service's image for a host of this architecture (`uname -m`), as `docker load` reads it.

    Raises:
        GangwayError: there is no Docker here, or the build fails.
    """
    import docker
    from docker.errors import BuildError, DockerException

    try:
        client = docker.from_env(timeout=1800)
        try:
            return _built(client, target, release, service, architecture)
        finally:
            client.close()
    except BuildError as error:
        lines = [str(part.get("stream", "")).rstrip() for part in error.build_log]
        raise GangwayError(
            f"the image of {service.name} cannot be built here: {error.msg}",
            code="build-failed",
            details="\n".join(line for line in lines[-25:] if line),
        ) from error
    except DockerException as error:
        raise GangwayError(
            f"Docker on this machine does not help: {str(error).splitlines()[0]}",
            hint="start it, or set bridge.build: remote to build on the host",
            code="local-docker",
        ) from error


def _built(
    client: DockerClient, target: Target, release: Release, service: Service, architecture: str
) -> bytes:
    image, _ = client.images.build(
        fileobj=io.BytesIO(context(release)),
        custom_context=True,
        dockerfile=DOCKERFILE,
        buildargs=build_arguments(target),
        tag=service.image,
        rm=True,
        platform=PLATFORMS.get(architecture),
    )
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for chunk in image.save(named=True):
            file.write(chunk)
    return packed.getvalue()


PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
"""Docker's name of a host's architecture."""


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
