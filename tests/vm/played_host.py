"""The host's own program with a played engine, whose containers are known at every moment of a log.

The client starts `main(FOLDER)` instead of `python3` on a host: it takes the program off its input,
and is that program. Files are written as on a host; containers are values, and after each change a
line of `FOLDER/engine.jsonl` says how long the log of the disk was then and what the engine had.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infrastructure.apply.host import backup, health_gate
from infrastructure.apply.host import main as host
from infrastructure.apply.host.store import Store
from infrastructure.health import probes
from infrastructure.runtime.base import Container, HostFailure, Tell
from tests.deploy.apply.fake import FakeRuntime

ENGINE, LOG, REGISTRY = "engine.jsonl", "log", "registry.json"


def states(folder: Path) -> list[dict[str, Any]]:
    """What the engine had after each change: `{"log", "containers", "images"}`."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in (folder / ENGINE).read_text().splitlines()]
    return []


def booted(folder: Path, states: Sequence[dict[str, Any]], length: int) -> None:
    """The engine as it comes up after a cut at this length of the log: what ran, runs again."""
    past = [one for one in states if one["log"] <= length]
    last = past[-1] if past else {"containers": [], "images": {}}
    (folder / ENGINE).write_text(json.dumps({**last, "log": 0}) + "\n")


def boot(folder: Path, base: Path) -> None:
    """What runs opens its files again."""
    engine = PlayedEngine(folder, base)
    engine.start([one for one in engine.existing if one.state == "running"])


class PlayedEngine(FakeRuntime):
    """A registry that has every image, and an engine that starts what is whole."""

    def __init__(self, folder: Path, base: Path) -> None:
        found = states(folder)
        last = found[-1] if found else {"containers": [], "images": {}}
        super().__init__(*(Container(**one) for one in last["containers"]))
        self.images = dict(last["images"])
        self._folder, self._base = folder, base
        self._rows: int = last.get("rows", 0)
        with contextlib.suppress(FileNotFoundError):
            self.registry = json.loads((folder / REGISTRY).read_text())

    def _keep(self) -> None:
        log = self._folder / LOG
        length = log.stat().st_size if log.exists() else 0
        state = {
            "log": length,
            "containers": [asdict(one) for one in self.existing],
            "images": self.images,
            "rows": self._rows,
        }
        with (self._folder / ENGINE).open("a") as file:
            file.write(json.dumps(state) + "\n")

    def obtain(self, release: str, services: Sequence[dict[str, Any]], tell: Tell) -> None:
        for one in services:
            self.images.setdefault(one["image"], f"sha256:id-of-{one['image']}")
        self._keep()

    def fetch(self, image: str, digest: str) -> dict[str, Any]:
        found = super().fetch(image, digest)
        self.images[found["id"]] = found["id"]
        self._keep()
        return found

    def create(self, release: str, services: Sequence[str]) -> list[Container]:
        store = Store(str(self._base))
        manifest, noted = store.manifest(release), store.noted(release)
        if not (store.release(release) / "compose.yaml").read_text().strip():
            raise HostFailure("compose", "the definition is empty")
        names = {one["name"]: one["image"] for one in noted["services"]}
        made = super().create(release, services)
        for one in made:
            one.hash, one.image = manifest["services"][one.service], names[one.service]
            one.image_id = self.images[one.image]
        self._keep()
        return made

    def start(self, containers: Sequence[Container]) -> None:
        for one in containers:
            one.since = "2026-01-01T00:00:00Z"
            if one.service == "bridge":
                self._open_journal()
        super().start(containers)
        for one in containers:
            one.health = "healthy"
        self._keep()

    def _open_journal(self) -> None:
        """As the bridge does: one more row, on the disk before it goes on."""
        path = self._base / "data" / backup.JOURNAL
        with contextlib.closing(sqlite3.connect(path)) as journal:
            journal.execute("PRAGMA journal_mode=WAL")
            journal.execute("PRAGMA synchronous=FULL")
            journal.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)")
            journal.execute("INSERT INTO orders DEFAULT VALUES")
            journal.commit()
            self._rows = journal.execute("SELECT count(*) FROM orders").fetchone()[0]

    def stop(self, containers: Sequence[Container]) -> None:
        super().stop(containers)
        self._keep()

    def restart(self, container: Container) -> None:
        if container.service == "bridge":
            self._open_journal()
        super().restart(container)
        self._keep()

    def remove(self, containers: Sequence[Container]) -> None:
        super().remove(containers)
        self._keep()

    def rename_image(self, image_id: str, name: str) -> None:
        super().rename_image(image_id, name)
        self._keep()

    def down(self) -> None:
        super().down()
        self._keep()

    def programs(self, container: Container) -> list[str]:
        """A JVM with the flags that the release asks for."""
        store = Store(str(self._base))
        checks = store.noted(store.current() or "").get("checks", {})
        return [" ".join(("java", *checks.get("gateway", {}).get("jvm", []), "standin.Gateway"))]

    def facts(self) -> dict[str, Any]:
        return {"engine": "27.0", "compose": "2.30", "services": {}}


def main(folder: str) -> None:
    """The host's program, with this engine and services that answer."""
    sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))  # the program, which is here already
    vars(host)["choose"] = lambda _kind, base, *_: PlayedEngine(Path(folder), base)
    health_gate.POLL = health_gate.LOOK = 0.0
    serves: dict[str, Any] = {"status": "ok", "state": "ready", "connected": True}
    probes.bridge = lambda *_, **__: (200, serves)
    probes.caddy = lambda *_, **__: (True, "")
    host.main()
