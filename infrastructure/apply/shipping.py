"""`bridge.build: local`: images are built here, and travel without the layers that the host has."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any, Protocol

from infrastructure.apply import layers
from infrastructure.apply.local_build import build

if TYPE_CHECKING:
    from infrastructure.apply.session import Listener
    from infrastructure.config import Target
    from infrastructure.render.model import Release, Service


class Way(Protocol):
    """The connection to the host's program."""

    def ask(self, answer: str, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer."""

    def upload(
        self, what: str, source: IO[bytes], size: int, answer: str, **request: Any
    ) -> dict[str, Any]:
        """Sends a request, its `size` and so many bytes, and waits for its answer."""


class Shipping:
    """Builds images on this machine and loads them on the host."""

    def __init__(self, way: Way, target: Target, release: Release, listener: Listener) -> None:
        self._way = way
        self._target = target
        self._release = release
        self._listener = listener

    def ship(self, services: list[Service], *, fresh: bool) -> None:
        """Ships what the host lacks; with `fresh` everything is built anew and shipped.

        Raises:
            GangwayError: an image cannot be built here.
            DeployFailed: the host cannot load it.
        """
        names = [service.image for service in services]
        answer = self._way.ask("lacking", op="lacking", images=names)
        for service in services:
            if fresh or service.image in answer["images"]:
                self._say(f"building {service.name} on this machine")
                with build(
                    self._target,
                    self._release,
                    service,
                    answer["architecture"],
                    self._listener,
                    fresh=fresh,
                ) as archive:
                    self._send(service, archive, answer["layers"])

    def _send(self, service: Service, archive: IO[bytes], on_host: list[list[str]]) -> None:
        found = layers.read(archive)
        known = layers.shared(found.ids, on_host)
        if not self._load(service, archive, found, known):
            # An image of the host has gone since it was asked, or its engine wants every layer.
            self._say("the host wants the whole image")
            self._load(service, archive, found, 0)

    def _load(self, service: Service, archive: IO[bytes], found: layers.Layers, known: int) -> bool:
        """Whether the host took the image; a whole one that it refuses is a failure."""
        with tempfile.TemporaryFile() as packed:
            size = layers.pack(archive, packed, found, known)
            count = len(found.ids)
            self._say(
                f"shipping {service.name}: {size / 1e6:.1f} MB, {count - known} of {count} layers"
            )
            packed.seek(0)
            answer = self._way.upload(
                service.name, packed, size, "loaded", op="load", partial=known > 0
            )
        return not answer["refused"]

    def _say(self, text: str) -> None:
        self._listener.event({"event": "step", "text": text})
