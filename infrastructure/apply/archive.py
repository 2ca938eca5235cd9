"""A release as a tar, in memory: secrets never touch this machine's disk."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from infrastructure.plan.model import ObservedFile
    from infrastructure.render.model import Release


def pack(release: Release, without: Collection[str] = ()) -> bytes:
    """The files of the release but those `without`; owners are set on the host (`owners`)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as tar:
        for item in release.files:
            if item.path in without:
                continue
            entry = tarfile.TarInfo(item.path)
            entry.size, entry.mode = len(item.content), item.mode
            tar.addfile(entry, io.BytesIO(item.content))
    return buffer.getvalue()


def owners(release: Release) -> dict[str, int]:
    """Path to uid, of files that must not belong to whoever unpacks them."""
    return {item.path: item.uid for item in release.files if item.uid is not None}


def reused(release: Release, known: Mapping[str, ObservedFile]) -> dict[str, int]:
    """Path to mode, of files that lie in the host's current release with the same content.

    They do not travel: a changed source of the bridge is a few kilobytes.
    """
    return {
        item.path: item.mode
        for item in release.files
        if item.path in known and known[item.path].digest == item.digest
    }
