"""A runtime in memory that records what is done to it, and a wire that keeps what is told."""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from infrastructure.apply.host.wire import Wire
from infrastructure.apply.protocol import encoding, events
from infrastructure.runtime.base import Container, HostFailure, Neighbour, Screen, Tell


class FakeLog:
    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def close(self) -> None:
        self._lines = ()


class FakeRuntime:
    """Containers as values. `fails` maps an action such as `start bridge-2` to its failure."""

    def __init__(self, *existing: Container) -> None:
        self.existing = list(existing)
        self.done: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.healthy: dict[str, bool] = {}
        self.logs: dict[str, list[str]] = {}
        self.new_hash = "new"
        self.new_image = ("", "")
        """Name and id of the image of a container that is created."""
        self.texts: list[str] = []
        self.sends = True
        self.facts_of_logins: dict[str, str] = {}
        self.afresh: list[str] = []
        self.images: dict[str, str] = {}
        """Names to ids."""
        self.registry: dict[str, str] = {}
        self.parks = True

    def _do(self, action: str) -> None:
        self.done.append(action)
        if action in self.fails:
            raise self.fails[action]

    def check(self) -> None:
        self._do("check")

    def containers(self) -> list[Container]:
        return list(self.existing)

    def neighbours(self) -> list[Neighbour]:
        return []

    def image(self, name: str, of: str = "") -> dict[str, Any]:
        found = self.images.get(name, name if name in self.images.values() else "")
        digest = f"sha256:of-{found}" if found else ""
        return {"name": name, "id": found, "digest": digest}

    def at_registry(self, image: str) -> tuple[str, str]:
        return self.registry.get(image, ""), "" if image in self.registry else "no such image"

    def fetch(self, image: str, digest: str) -> dict[str, Any]:
        self._do(f"fetch {image} {digest}")
        return {"name": image, "id": digest.removeprefix("sha256:of-"), "digest": digest}

    def lacking(self, images: Sequence[str]) -> list[str]:
        return list(images)

    def layers(self) -> list[list[str]]:
        return []

    def load(self, pieces: Iterable[bytes]) -> None:
        self._do(f"load {sum(map(len, pieces))}")

    def obtain(self, release: str, services: Sequence[dict[str, Any]], tell: Tell) -> None:
        self._do("obtain")

    def create(self, release: str, services: Sequence[str]) -> list[Container]:
        self._do(f"create {' '.join(services)}")
        made = []
        for name in services:
            number = 1 + max((c.number for c in self.existing if c.service == name), default=0)
            image, image_id = self.new_image
            made.append(
                Container(
                    *(name, f"{name}-{number}", number),
                    image=image,
                    image_id=image_id,
                    hash=self.new_hash,
                )
            )
        self.existing += made
        return made

    def start(self, containers: Sequence[Container]) -> None:
        for one in containers:
            self._do(f"start {one.id}")
            one.state = "running"
            one.health = "healthy" if self.healthy.get(one.id, True) else "starting"

    def stop(self, containers: Sequence[Container]) -> None:
        for one in containers:
            self._do(f"stop {one.id}")
            one.state = "exited"

    def restart(self, container: Container) -> None:
        self._do(f"restart {container.id}")
        container.state, container.health = "running", "healthy"

    def remove(self, containers: Sequence[Container]) -> None:
        for one in containers:
            self._do(f"remove {one.id}")
            self.existing.remove(one)

    def down(self) -> None:
        self.existing.clear()

    def probe(self, container: Container, seconds: float) -> tuple[bool, str]:
        return self.healthy.get(container.id, True), "not yet"

    def programs(self, container: Container) -> list[str]:
        return ["java -Xmx256m standin.Gateway"]

    def log(self, container: Container, lines: int) -> str:
        return "\n".join(self.logs.get(container.id, []))

    def follow(self, container: Container, since: str = "") -> FakeLog:
        return FakeLog(self.logs.get(container.id, []))

    def read_log(self, container: Container, *, since: str, lines: int, follow: bool) -> FakeLog:
        return self.follow(container)

    def controller(self, image: str) -> str | None:
        return None

    def login_facts(self) -> dict[str, str]:
        return self.facts_of_logins

    def begin_afresh(self, container: Container, *, cold: bool) -> None:
        self.afresh.append(f"{container.id} cold" if cold else container.id)

    def soft_restart(self, container: Container, ports: Sequence[int]) -> bool:
        return False

    def aside(
        self, service: str, arguments: Sequence[str], text: str, seconds: float
    ) -> tuple[bool, str]:
        self._do(f"aside {service} {' '.join(arguments)}")
        self.texts.append(text)
        return self.sends, "warning: x\nerror: no address\n"

    def prune_images(self, repository: str, kept: Sequence[str]) -> list[str]:
        return []

    def rename_image(self, image_id: str, name: str) -> None:
        self._do(f"rename {image_id} {name}")
        self.images[name] = image_id

    def drop_unnamed(self, image_ids: Sequence[str]) -> None:
        self._do(f"drop {' '.join(image_ids)}")

    def screen(self, container: Container) -> Screen:
        raise HostFailure("no-display", "there is no display")

    def libraries(self, container: Container) -> set[str]:
        return set()

    def park(self, container: Container, session: str, port: int, word: str) -> bool:
        self._do(f"park {session} {port} {word}")
        return self.parks

    def type_code(self, container: Container, code: str) -> None:
        self._do(f"type {code}")

    def picture(self, container: Container) -> bytes:
        return b"a picture"

    def facts(self) -> dict[str, Any]:
        return {}


class FakeWire(Wire):
    """Keeps events; `cancel_at` asks to stop when an event with these words comes."""

    def __init__(self, cancel_at: str = "") -> None:
        super().__init__(io.BytesIO(), io.BytesIO())
        self.events: list[dict[str, Any]] = []
        self._cancel_at = cancel_at

    def emit(self, event: events.Event) -> None:
        self.events.append({"event": encoding.name_of(type(event)), **vars(event)})
        if self._cancel_at and self._cancel_at in str(getattr(event, "text", "")):
            self.cancel()

    def told(self) -> list[str]:
        return [item["text"] for item in self.events if "text" in item]
