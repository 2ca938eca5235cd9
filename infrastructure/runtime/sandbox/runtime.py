"""The `Runtime` of the sandbox."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.release_files import RELEASE_FILE, WORKERS
from infrastructure.runtime.base import Container, HostFailure, Neighbour
from infrastructure.runtime.sandbox.supervisor import Definition, Supervisor, image_folder, probe

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from infrastructure.runtime.base import Screen, Tell

STATES = {
    "STOPPED": "exited",
    "STARTING": "running",
    "RUNNING": "running",
    "BACKOFF": "restarting",
    "STOPPING": "running",
    "EXITED": "exited",
    "FATAL": "dead",
    "UNKNOWN": "dead",
}
QUICK = 2.0
POLL = 0.1
GRACE_OF_START = 30.0
UNTIMED = "-"
"""Stands for the time of a line that tells none."""


class SandboxRuntime:
    """The services as processes under supervisord; a process plays the container's part."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._supervisor = Supervisor(base / "run")
        self._images = base / "images"

    def check(self) -> None:
        """HostFailure when a needed program is missing."""
        import sys
        from pathlib import Path

        caddy = Path(sys.executable).parent / "caddy"
        if not caddy.exists():
            raise HostFailure("caddy-missing", "there is no Caddy in the environment", "make setup")

    def neighbours(self) -> list[Neighbour]:
        return []

    def containers(self) -> list[Container]:
        states = self._supervisor.states()
        return [self._container(note, states) for note in self._notes()]

    def obtain(self, release: str, services: Sequence[dict[str, Any]], tell: Tell) -> None:
        """Unpacks the sources of what is built; they stay while a process uses them."""
        for service in services:
            target = self._images / image_folder(service["image"])
            if not service["builds"] or (target.exists() and not service.get("fresh")):
                continue
            tell("step", text=f"unpacking {service['name']}")
            partial = target.with_name(f".{target.name}")
            shutil.rmtree(partial, ignore_errors=True)
            self._images.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = self._base / "releases" / release
            own = folder / WORKERS / service["name"]
            shutil.copytree(own if own.is_dir() else folder / "image", partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)

    def image(self, name: str, of: str = "") -> dict[str, Any]:
        return {"name": name}

    def at_registry(self, image: str) -> tuple[str, str]:
        return "", "the sandbox has no images"

    def fetch(self, image: str, digest: str) -> dict[str, Any]:
        raise HostFailure("no-images", "the sandbox has no images")

    def lacking(self, images: Sequence[str]) -> list[str]:
        """None: sources are unpacked from the release."""
        return []

    def layers(self) -> list[list[str]]:
        """None: there are no images here."""
        return []

    def load(self, pieces: Iterable[bytes]) -> None:
        """There are no images here."""
        raise HostFailure("image-unavailable", "the sandbox takes no images")

    def create(self, release: str, services: Sequence[str]) -> list[Container]:
        """A new process of each service, beside the old one, not started."""
        folder = self._base / "releases" / release
        hashes = json.loads((folder / RELEASE_FILE).read_text())["services"]
        numbers = dict.fromkeys(services, 0)
        for note in self._notes():
            if note["service"] in numbers:
                numbers[note["service"]] = max(numbers[note["service"]], note["number"])
        made = []
        for name in services:
            identity = f"{name}-{numbers[name] + 1}"
            definition = Definition.load(folder, name, self._images)
            note = {
                **definition.as_json(),
                "service": name,
                "number": numbers[name] + 1,
                "hash": hashes[name],
                "started": 0.0,
                "offset": 0,
            }
            script = self._supervisor.script(identity)
            settings = definition.settings(self._log(identity), script)
            self._supervisor.add(identity, settings, definition.script())
            self._note(identity, note)
            made.append(self._container({**note, "id": identity}, self._supervisor.states()))
        return made

    def start(self, containers: Sequence[Container]) -> None:
        self._supervisor.ensure()
        for container in containers:
            self._begin(container.id)
            self._supervisor.start(container.id)

    def stop(self, containers: Sequence[Container]) -> None:
        if not self._supervisor.running:
            return
        for container in containers:
            self._supervisor.stop(container.id)

    def restart(self, container: Container) -> None:
        self.stop([container])
        self.start([container])

    def remove(self, containers: Sequence[Container]) -> None:
        self.stop(containers)
        for container in containers:
            self._supervisor.remove(container.id)
            for path in (self._path(container.id), self._log(container.id)):
                path.unlink(missing_ok=True)
        used = {note["image"] for note in self._notes()}
        for image in {container.image for container in containers} - used:
            shutil.rmtree(self._images / image_folder(image), ignore_errors=True)

    def down(self) -> None:
        """Removes every process, and supervisord itself."""
        self.remove(self.containers())
        self._supervisor.shut_down()

    def probe(self, container: Container, seconds: float) -> tuple[bool, str]:
        return probe(container.probe, seconds) if container.probe else (container.running, "")

    def programs(self, container: Container) -> list[str]:
        note = json.loads(self._path(container.id).read_text())
        return [" ".join(note["command"])] if container.running else []

    def libraries(self, container: Container) -> set[str]:
        return set()

    def log(self, container: Container, lines: int) -> str:
        try:
            text = self._log(container.id).read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def follow(self, container: Container, since: str = "") -> Generator[str, None, None]:
        offset = json.loads(self._path(container.id).read_text())["offset"]
        return self._lines(container, offset)

    def read_log(
        self, container: Container, *, since: str, lines: int, follow: bool
    ) -> Generator[str, None, None]:
        """Lines of its log since a time: one without a time has that of the one before it.

        What comes before any time is shown: a program may tell none at all.
        """
        log = self._log(container.id)
        content = log.read_bytes() if log.exists() else b""
        found, told = list[str](), ""
        for line in map(timed, content.decode(errors="replace").splitlines()):
            at = line.partition(" ")[0]
            told = told if at == UNTIMED else at
            if not told or told >= since:
                found.append(line)
        yield from found[-lines:] if lines else found
        if follow:
            yield from map(timed, self._lines(container, len(content)))

    def controller(self, image: str) -> str | None:
        """The simulated gateway needs none."""
        return None

    def login_facts(self) -> dict[str, str]:
        """The simulated gateway logs in to nobody."""
        return {}

    def begin_afresh(self, container: Container, *, cold: bool) -> None:
        """Nothing is ever held there; `cold`: its simulated account is a new one."""
        if cold:
            words = json.loads(self._path(container.id).read_text())["command"]
            if "--state" in words:
                Path(words[words.index("--state") + 1] + ".reset").touch()  # docs/simulator.md

    def park(self, container: Container, session: str, port: int, word: str) -> bool:
        return False

    def soft_restart(self, container: Container, ports: Sequence[int]) -> bool:
        """The simulated gateway has no session to keep."""
        return False

    def screen(self, container: Container) -> Screen:
        raise _no_screen()

    def type_code(self, container: Container, code: str) -> None:
        raise _no_screen()

    def picture(self, container: Container) -> bytes:
        raise _no_screen()

    def aside(
        self, service: str, arguments: Sequence[str], text: str, seconds: float
    ) -> tuple[bool, str]:
        definition = Definition.load(self._base / "current", service, self._images)
        try:
            done = subprocess.run(
                [*definition.command, *arguments],
                input=text,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
                check=False,
                cwd=definition.folder,
                env={**os.environ, **definition.environment},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return False, type(error).__name__
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def prune_images(self, repository: str, kept: Sequence[str]) -> list[str]:
        """`remove` has done it already."""
        return []

    def rename_image(self, image_id: str, name: str) -> None:
        """Nothing: sources lie under their own name."""

    def drop_unnamed(self, image_ids: Sequence[str]) -> None:
        """`remove` has done it already."""

    def facts(self) -> dict[str, Any]:
        """The memory of each process."""
        states = self._supervisor.states()
        services = {
            note["service"]: {
                "restarts": 0,
                "digests": [],
                "processes": resident(states.get(note["id"], {}).get("pid", 0)),
            }
            for note in self._notes()
        }
        return {"engine": "", "compose": "", "services": services}

    def _lines(self, container: Container, offset: int) -> Generator[str, None, None]:
        held = b""
        while True:
            running = self._runs(container.id)
            try:
                with self._log(container.id).open("rb") as file:
                    if os.fstat(file.fileno()).st_size < offset:
                        offset = 0  # it was full: this is the next one
                    file.seek(offset)
                    piece = file.read()
            except OSError:
                return
            offset += len(piece)
            *whole, held = (held + piece).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
            if not running:
                return
            time.sleep(POLL)

    # --- notes: what supervisord does not keep --------------------------------------------------
    def _path(self, identity: str) -> Path:
        return self._supervisor.programs / f"{identity}.json"

    def _log(self, identity: str) -> Path:
        return self._supervisor.logs / f"{identity}.log"

    def _note(self, identity: str, note: dict[str, Any]) -> None:
        self._path(identity).write_text(json.dumps(note))

    def _notes(self) -> list[dict[str, Any]]:
        paths = sorted(self._supervisor.programs.glob("*.json"))
        return [{**json.loads(path.read_text()), "id": path.stem} for path in paths]

    def _begin(self, identity: str) -> None:
        note = json.loads(self._path(identity).read_text())
        log = self._log(identity)
        note["offset"] = log.stat().st_size if log.exists() else 0
        note["started"] = time.time()
        self._note(identity, note)

    def _runs(self, identity: str) -> bool:
        state = self._supervisor.states().get(identity)
        return state is not None and STATES[state["statename"]] in ("running", "restarting")

    def _container(self, note: dict[str, Any], states: dict[str, dict[str, Any]]) -> Container:
        state = states.get(note["id"])
        shown = STATES[state["statename"]] if state else "exited"
        if not note["started"]:
            shown = "created"
        began = state["start"] if state and state["start"] else note["started"]
        return Container(
            service=note["service"],
            id=note["id"],
            number=note["number"],
            state=shown,
            health=self._health(note) if shown == "running" else "none",
            image=note["image"],
            image_id=note["image"],
            hash=note["hash"],
            since=_stamp(began) if began else "",
            exit_code=state["exitstatus"] if state and shown == "exited" else None,
            probe=list(note["probe"]),
        )

    def _health(self, note: dict[str, Any]) -> str:
        if not note["probe"]:
            return "none"
        passed, _ = probe(note["probe"], QUICK)
        if passed:
            return "healthy"
        return "starting" if time.time() - note["started"] < GRACE_OF_START else "unhealthy"


def _no_screen() -> HostFailure:
    return HostFailure(
        "no-screen",
        "the sandbox's gateway is simulated and has no screen",
        "its status page and `./deploy.py logs gateway` show what it does",
    )


def timed(line: str) -> str:
    """A line with its time before it: the one in a JSON line, else `-`."""
    with contextlib.suppress(ValueError, TypeError):
        found = json.loads(line)
        if "timestamp" in found:
            return f"{found['timestamp']} {line}"
        if "ts" in found:  # Caddy's
            return f"{_stamp(found['ts'])} {line}"
    return f"{UNTIMED} {line}"


def resident(pid: int) -> list[dict[str, Any]]:
    """Resident memory in KB and command line of a process; empty when it does not run."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return []
    rss = [row.split()[1] for row in status.splitlines() if row.startswith("VmRSS:")]
    line = command.replace("\0", " ").strip()
    return [{"rss": int(rss[0]) if rss else 0, "line": line}]


def _stamp(seconds: float) -> str:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
