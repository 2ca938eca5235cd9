"""Leaves out of a `docker save` archive the layers that the host has already.

`docker load` identifies a layer by its own content and by all layers below it, and does not read
the data of one that it knows. So what an image of the host shares with this one from the bottom
up need not travel (docs/decisions/shipping-layers.md).
"""

from __future__ import annotations

import gzip
import json
import posixpath
import tarfile
from dataclasses import dataclass
from itertools import takewhile
from typing import IO, TYPE_CHECKING

from infrastructure.errors import GangwayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Layers:
    """An image's layers, the lowest first: where each lies in the archive, and its DiffID."""

    paths: tuple[str, ...]
    ids: tuple[str, ...]


def read(archive: IO[bytes]) -> Layers:
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


def shared(ids: Sequence[str], on_host: Iterable[Sequence[str]]) -> int:
    """How many layers, from the bottom up, one of the host's images has as well."""
    counts = (
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, other, strict=False)))
        for other in on_host
    )
    return max(counts, default=0)


def pack(archive: IO[bytes], packed: IO[bytes], layers: Layers, without: int = 0) -> int:
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
