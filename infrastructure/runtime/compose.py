"""Docker Compose as the runtime. Runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.release_files import COMPOSE_FILE, STATE_FOLDER
from infrastructure.runtime import commands, containers, plain_files
from infrastructure.runtime.base import Container, HostFailure, Neighbour
from infrastructure.runtime.containers import (
    controller_of,
    parse_inspect,
    parse_neighbours,
    parse_top,
)
from infrastructure.runtime.rfb import Viewer, no_screen
from infrastructure.runtime.streamed import (
    PREPARE,
    BuildLog,
    FollowedLog,
    Screen,
    Streamed,
    completed,
    not_started,
    scratch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infrastructure.runtime.base import Tell

BUILD_TAIL = 25
MOST_FACTS = 262_144
PULLS = 3
"""Tries of one pull: what has arrived of it is kept by the engine."""
PULL_PAUSE = 3.0
_DECIDED = re.compile(
    r"manifest unknown|name unknown|does not exist|denied|unauthorized|invalid reference"
    r"|: not found$",
    re.IGNORECASE,
)
"""A registry's answers that another try would only get again."""
_CONTEXT = re.compile(r"""^( +context: ).*/current/([\w./-]+)["']?$""", re.MULTILINE)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""Docker's name of a machine, by `uname -m`."""
CONTAINERD_STORE = "io.containerd.snapshotter"
PARKS_WITHIN = {"PAUSE": 100, "STOP": 45}
"""Seconds; IBC pauses at the next full minute where the window has no menu for it."""
QUICK, SLOW, VERY_SLOW = 30.0, 180.0, 1800.0
JUST_STARTED = 600.0
"""Seconds since boot. Until then a small machine's engine may still be starting, for minutes."""


def _uptime() -> float:
    """Seconds since the machine started; for ever where that cannot be read."""
    try:
        return float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return float("inf")


class ComposeRuntime:
    """The services as containers of one Compose project.

    Compose resolves relative paths against `current`, whatever release it reads: the definition
    of a service that did not change stays the same from release to release.
    """

    def __init__(self, base: Path, project: str, inherited: tuple[int, ...] = ()) -> None:
        self._base = base
        self._project = project
        self._inherited = inherited
        """File descriptors that children keep: the lock, so that it outlives a killed parent."""

    # --- running commands ---------------------------------------------------------------------
    def _try(
        self, command: Sequence[str], seconds: float, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        if seconds < SLOW and _uptime() < JUST_STARTED:
            seconds = SLOW
        try:
            return completed(command, text, seconds, self._inherited)
        except subprocess.TimeoutExpired:
            text = f"{' '.join(command[:3])} did not end within {seconds:.0f} s"
            raise HostFailure("docker-stuck", text, "is the host short of memory?") from None
        except OSError as error:
            raise not_started(command, error) from error

    def _run(self, command: Sequence[str], seconds: float = SLOW) -> str:
        done = self._try(command, seconds)
        if done.returncode:
            raise _explain(command, done.stderr or done.stdout)
        return done.stdout

    def _compose(self, file: Path, folder: Path, *arguments: str) -> list[str]:
        return commands.compose(self._project, str(file), str(folder), *arguments)

    # --- the runtime --------------------------------------------------------------------------
    def check(self) -> None:
        """HostFailure when Docker or Compose v2 is missing, does not answer, or is podman's."""
        if "podman" in self._try(commands.client_version(), QUICK).stdout.lower():
            raise HostFailure(
                "podman",
                "`docker` on the host is podman's: its containers do not come back after a reboot,"
                " and its networks let other containers in",
                "./deploy.py prepare installs Docker Engine; remove podman-docker first",
            )
        self._run(commands.engine_version(), QUICK)
        done = self._try(commands.compose_version(), QUICK)
        if done.returncode or done.stdout.strip().lstrip("v").startswith("1."):
            raise HostFailure(
                "compose-missing", "there is no Docker Compose v2 on the host", PREPARE
            )

    def containers(self) -> list[Container]:
        quick = containers.inspect_project(self._project)
        if quick is None:
            ids = self._run(commands.list_containers(self._project), QUICK).split()
            quick = self._run(commands.inspect(ids), QUICK) if ids else ""
        return parse_inspect(quick, self._base)

    def neighbours(self) -> list[Neighbour]:
        ids = self._run(commands.list_running(), QUICK).split()
        if not ids:
            return []
        # One that ends meanwhile is named in the error, and is no neighbour any more.
        return parse_neighbours(self._try(commands.inspect(ids), QUICK).stdout)

    def obtain(self, release: str, services: Sequence[dict[str, Any]], tell: Tell) -> None:
        folder = self._base / "releases" / release
        for service in services:
            name, image = service["name"], service["image"]
            fresh = service.get("fresh", False)
            if not fresh and self._try(commands.has_image(image), QUICK).returncode == 0:
                continue
            if service["builds"]:
                tell("step", text=f"building {name}")
                self._build(folder, name, tell, fresh=fresh)
            else:
                tell("step", text=f"pulling {image}")
                self._pull(image)
        self._fits([service["image"] for service in services])

    def _fits(self, images: Sequence[str]) -> None:
        """HostFailure when an image is for another kind of machine: it would end at once."""
        machine = os.uname().machine
        ours = ARCHITECTURES.get(machine, machine)
        for image in images:
            found = self._try(commands.image_architecture(image), QUICK).stdout.strip()
            if found and found != ours:
                raise HostFailure(
                    "architecture",
                    f"{image} is for {found}, and the host is {ours}",
                    "docker image rm it there and deploy again, or name an image for the host",
                )

    def image(self, name: str, of: str = "") -> dict[str, Any]:
        """What an image is; of an id, its digest in the repository `of`."""
        done = self._try(commands.image_facts([name]), QUICK)
        found = json.loads(done.stdout or "[]") if done.returncode == 0 else []
        if not found:
            return {"name": name}
        one = found[0]
        labels = (one.get("Config") or {}).get("Labels") or {}
        repository = repository_of(of or name)
        digests = [
            each.rpartition("@")[2]
            for each in one.get("RepoDigests") or []
            if each.rpartition("@")[0] == repository
        ]
        return {
            "name": name,
            "id": one["Id"],
            "digest": digests[0] if digests else "",
            "version": labels.get("org.opencontainers.image.version", ""),
            "created": str(one.get("Created", ""))[:10],
        }

    def at_registry(self, image: str) -> tuple[str, str]:
        return containers.at_registry(image)

    def fetch(self, image: str, digest: str) -> dict[str, Any]:
        """Pulls it by digest, which moves no name; a pull that breaks off is tried again."""
        wanted = f"{repository_of(image)}@{digest}" if digest else image
        self._pull(wanted)
        self._fits([wanted])
        return {**self.image(wanted, image), "name": image}

    def lacking(self, images: Sequence[str]) -> list[str]:
        return [one for one in images if self._try(commands.has_image(one), QUICK).returncode]

    def layers(self) -> list[list[str]]:
        """Of each image its layers; none where containerd keeps the images: it wants them all."""
        if CONTAINERD_STORE in self._run(commands.image_store(), QUICK):
            return []
        ids = list(dict.fromkeys(self._run(commands.all_images(), QUICK).split()))
        if not ids:
            return []
        lines = self._try(commands.image_layers(ids), QUICK).stdout.splitlines()
        return [found for line in lines if (found := json.loads(line))]

    def load(self, pieces: Iterable[bytes]) -> None:
        """Takes in an image; its bytes go through, they are never held whole."""
        with scratch() as said:
            try:
                process = subprocess.Popen(
                    commands.load(), stdin=subprocess.PIPE, stdout=said, stderr=said, cwd="/"
                )
            except OSError as error:
                raise not_started(commands.load(), error) from error
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                    for piece in pieces:
                        pipe.write(piece)
            try:
                code = process.wait(VERY_SLOW)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                text = f"docker load did not end within {VERY_SLOW:.0f} s"
                raise HostFailure("docker-stuck", text, "is the host short of memory?") from None
            if code:
                said.seek(0)
                text = said.read().decode(errors="replace")
                raise _known(text) or HostFailure(
                    "image-unavailable", "the host cannot load the image", "", text[-2000:]
                )

    def _build(self, folder: Path, name: str, tell: Tell, *, fresh: bool) -> None:
        """Builds from the release itself: `current` still points to the one that serves."""
        text = built_from((folder / COMPOSE_FILE).read_text(encoding="utf-8"), folder)
        text = text.replace(f"{self._base}/current/", f"{folder}/")  # what a build does not need
        command = commands.compose(self._project, "-", str(folder), "build")
        command += ["--no-cache", name] if fresh else [name]
        log, last = BuildLog(), [""]
        build = Streamed(command, text, VERY_SLOW, self._inherited)
        for line in build:
            last = [*last[1 - BUILD_TAIL :], line]
            if (step := log.feed(line)) is not None:
                tell("build", service=name, **step)
        if build.code:
            tail = "\n".join(last)
            raise _known(tail) or HostFailure(
                "build-failed",
                f"the image of {name} cannot be built",
                "mend it, then ./deploy.py up; nothing was changed",
                tail,
            )

    def _pull(self, image: str) -> None:
        """One that breaks off is tried again; what the registry has decided is not."""
        for left in range(PULLS - 1, -1, -1):
            done = self._try(commands.pull(image), VERY_SLOW)
            if not done.returncode:
                return
            if (known := _known(done.stderr)) is not None:
                raise known
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            if not left or _DECIDED.search(reason):
                raise HostFailure(
                    "image-unavailable",
                    f"the image {image} cannot be pulled: {reason}",
                    _about_image(reason),
                )
            time.sleep(PULL_PAUSE)

    def create(self, release: str, services: Sequence[str]) -> list[Container]:
        before = self.containers()
        counts = {name: sum(c.service == name for c in before) for name in services}
        file = self._base / "releases" / release / COMPOSE_FILE
        arguments = commands.create_beside(counts)
        self._run(self._compose(file, self._base / "current", *arguments))
        known = {container.id for container in before}
        return [container for container in self.containers() if container.id not in known]

    def start(self, containers: Sequence[Container]) -> None:
        if containers:
            self._run(commands.start([container.id for container in containers]))

    def stop(self, containers: Sequence[Container]) -> None:
        if containers:
            self._run(commands.stop([container.id for container in containers]), 400)

    def restart(self, container: Container) -> None:
        self._run(commands.restart([container.id]), 400)

    def remove(self, containers: Sequence[Container]) -> None:
        if containers:
            self._run(commands.remove([container.id for container in containers]))

    def down(self) -> None:
        self.containers()  # Compose itself would take another stack's of this name
        file = self._base / "current" / COMPOSE_FILE
        if file.exists():
            self._run(self._compose(file, file.parent, "down", "--remove-orphans"), 400)
        self.remove(self.containers())

    def probe(self, container: Container, seconds: float) -> tuple[bool, str]:
        """Runs its healthcheck now; a container without one passes while it runs."""
        if not container.probe:
            return container.running, ""
        try:
            done = self._try(commands.execute(container.id, container.probe), seconds)
        except HostFailure as failure:
            return False, failure.message
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def programs(self, container: Container) -> list[str]:
        quick = containers.top(container.id)
        if quick is not None:
            return quick
        done = self._try(commands.top(container.id), QUICK)
        return parse_top(done.stdout) if done.returncode == 0 else []

    def libraries(self, container: Container) -> set[str]:
        listed = ["sh", "-c", "PATH=$PATH:/sbin:/usr/sbin ldconfig -p"]
        done = self._try(commands.execute(container.id, listed), QUICK)
        return {line.split()[0] for line in done.stdout.splitlines()[1:] if line.strip()}

    def log(self, container: Container, lines: int) -> str:
        done = self._try(commands.tail(container.id, lines), QUICK)
        return (done.stdout + done.stderr).strip()

    def follow(self, container: Container, since: str = "") -> FollowedLog:
        return FollowedLog(commands.follow(container.id, since or container.since))

    def read_log(
        self, container: Container, *, since: str, lines: int, follow: bool
    ) -> FollowedLog:
        return FollowedLog(commands.read_log(container.id, since, lines, follow=follow))

    def controller(self, image: str) -> str | None:
        done = self._try(commands.image_facts([image]), QUICK)
        return controller_of(done.stdout) if done.returncode == 0 else None

    def login_facts(self) -> dict[str, str]:
        """The files in the data folder that the gateway's hook appends to."""
        found = {}
        for session in ("live", "paper"):
            with contextlib.suppress(OSError):
                folder = self._base / "data" / "state"
                found[session] = plain_files.end_of(folder, f"login-{session}", MOST_FACTS)
        return found

    def begin_afresh(self, container: Container, *, cold: bool) -> None:
        """Puts a file into the container's state folder, which its start hook looks for."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            content = b"cold\n" if cold else b"\n"
            member = tarfile.TarInfo("afresh")
            member.size, member.mode, member.uid, member.gid = len(content), 0o644, 1000, 1000
            tar.addfile(member, io.BytesIO(content))
        command = commands.put_into(container.id, STATE_FOLDER)
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            # Where it fails the start is spaced out as any other: slower, never less safe.
            subprocess.run(
                command, input=archive.getvalue(), capture_output=True, timeout=QUICK, check=False
            )

    def park(self, container: Container, session: str, port: int, word: str) -> bool:
        seconds = PARKS_WITHIN[word]
        try:
            command = commands.park(container.id, session, port, word, seconds)
            return self._try(command, seconds + QUICK).returncode == 0
        except HostFailure:
            return False

    def soft_restart(self, container: Container, ports: Sequence[int]) -> bool:
        """Tells IBC's command server inside the container to restart; the session is kept.

        Every session is told, whatever another one answers: a refusal names what restarts.
        """
        refused = {port: why for port in ports if (why := self._tell_ibc(container, port))}
        if not refused:
            return True
        hint = "./deploy.py restart gateway --cold restarts the container, with a new login"
        if len(refused) < len(ports):
            port, why = next(iter(refused.items()))
            raise HostFailure(
                "soft-restart-refused",
                f"IBC on port {port} does not take the restart: {why}; the other session restarts",
                f"./deploy.py status shows both; {hint} for each",
            )
        why = next(iter(refused.values()))
        raise HostFailure("soft-restart-refused", f"IBC does not take the restart: {why}", hint)

    def _tell_ibc(self, container: Container, port: int) -> str:
        """Why a session does not restart itself; empty when it does."""
        tell = ["bash", "-c", commands.TELL_IBC, "tell", str(port)]
        try:
            done = self._try(commands.execute(container.id, tell), QUICK)
        except HostFailure as failure:
            return failure.message
        if done.returncode or not done.stdout.startswith("OK"):
            reason = (done.stdout or done.stderr).strip().splitlines()
            return reason[-1] if reason else "no answer"
        return ""

    def prune_images(self, repository: str, kept: Sequence[str]) -> list[str]:
        found = self._try(commands.images(repository), QUICK).stdout.split()
        gone = [name for name in found if name not in kept and not name.endswith("<none>")]
        if gone:
            self._try(commands.remove_images(gone), SLOW)
        return gone

    def rename_image(self, image_id: str, name: str) -> None:
        self._run(commands.name_image(image_id, name), QUICK)

    def drop_unnamed(self, image_ids: Sequence[str]) -> None:
        """Removes images that a newer one has taken the name from; one in use stays."""
        for one in dict.fromkeys(image_ids):
            if self._try(commands.image_names(one), QUICK).stdout.strip() in ("[]", "null"):
                self._try(commands.remove_images([one]), SLOW)

    def facts(self) -> dict[str, Any]:
        found = self.containers()
        versions = self._try(commands.engine_version(), QUICK).stdout.strip()
        compose = self._try(commands.compose_version(), QUICK).stdout.strip()
        names = sorted({one.image_id for one in found})
        images = self._try(commands.image_facts(names), QUICK).stdout if names else "[]"
        digests = {item["Id"]: item.get("RepoDigests") or [] for item in json.loads(images or "[]")}
        services = {
            one.service: {
                "restarts": one.restarts,
                "digests": digests.get(one.image_id, []),
                "processes": self._processes(one) if one.running else [],
            }
            for one in found
        }
        return {"engine": versions, "compose": compose, "services": services}

    def _processes(self, container: Container) -> list[dict[str, Any]]:
        done = self._try(commands.processes(container.id), QUICK)
        rows = [line.split(None, 2) for line in done.stdout.splitlines()[1:]]
        return [{"rss": int(row[1]), "line": row[2]} for row in rows if len(row) == 3]

    def aside(
        self, service: str, arguments: Sequence[str], text: str, seconds: float
    ) -> tuple[bool, str]:
        """One more container of the service for one command."""
        file = self._base / "current" / COMPOSE_FILE
        command = self._compose(file, file.parent, *commands.run_aside(service, arguments))
        done = self._try(command, seconds, text)
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def type_code(self, container: Container, code: str) -> None:
        words = commands.interactive(container.id, ["bash", "-c", commands.TYPE_LINE])
        done = self._try(words, SLOW, f"{code}\n")
        if done.returncode == commands.NO_HOOK:
            with self._viewer(container) as viewer:
                viewer.type_line(code)
        elif done.returncode:
            raise no_screen()

    def picture(self, container: Container) -> bytes:
        with self._viewer(container) as viewer:
            return viewer.picture()

    def _viewer(self, container: Container) -> Viewer:
        return Viewer(commands.interactive(container.id, ["bash", "-c", commands.SEE_SCREEN]))

    def screen(self, container: Container) -> Screen:
        """Starts a VNC server on the gateway's display; it ends with this program."""
        return Screen(commands.interactive(container.id, ["bash", "-c", commands.SHOW_SCREEN]))


def built_from(definition: str, folder: Path) -> str:
    """A release's compose.yaml whose images are built from that release, not from `current`.

    A build context is a line of its own, however the folder before it had to be quoted.
    """

    def own(found: re.Match[str]) -> str:
        place = f"{folder}/{found[2]}".replace("$", "$$")
        return found[1] + json.dumps(place, ensure_ascii=False)

    text, count = _CONTEXT.subn(own, definition)
    if not count:
        raise HostFailure("bad-release", "the release does not say what its images are built from")
    return text


def repository_of(image: str) -> str:
    """`ghcr.io/me/gateway` of `ghcr.io/me/gateway:stable`; a port is no tag."""
    name = image.partition("@")[0]
    head, _, tail = name.rpartition(":")
    return head if head and "/" not in tail else name


def _about_image(reason: str) -> str:
    """What to do when an image cannot be had, by the registry's own words."""
    if re.search("manifest|not found|does not exist|unknown", reason, re.IGNORECASE):
        return "name one that there is in stack.yaml, then ./deploy.py up; nothing was changed"
    return "nothing was changed; once the host reaches the registry: ./deploy.py up"


def _known(errors: str) -> HostFailure | None:
    """Docker's own troubles, in words that help."""
    text = errors.lower()
    if "cannot connect to the docker daemon" in text or "is the docker daemon running" in text:
        return HostFailure(
            "docker-not-running", "Docker does not run on the host", "sudo systemctl start docker"
        )
    if "permission denied while trying to connect" in text:
        hint = "allow `sudo -n` for the login (host.sudo), or add it to the group docker"
        return HostFailure("docker-denied", "the login may not use Docker", hint)
    if "minimum supported api version" in text:
        return HostFailure(
            "compose-too-old",
            "Docker Compose on the host is older than its engine can talk to",
            "upgrade it on the host: sudo apt-get install --only-upgrade 'docker-compose*'",
        )
    if "no space left on device" in text:
        line = next(line for line in errors.splitlines() if "no space left" in line.lower())
        return HostFailure(
            "disk-full",
            f"the host's disk is full: {line.strip()[-160:]}",
            "./deploy.py doctor says what fills it",
        )
    if "port is already allocated" in text or "address already in use" in text:
        line = next(line for line in errors.splitlines() if "already" in line)
        return HostFailure(
            "port-taken",
            f"a port is taken on the host: {line.strip()[-160:]}",
            "ss -ltnp on the host shows what listens there",
        )
    return None


def _explain(command: Sequence[str], errors: str) -> HostFailure:
    known = _known(errors)
    if known is not None:
        return known
    lines = errors.strip().splitlines() or ["it gave no reason"]
    what = " ".join(word for word in command[:3] if not word.startswith("-"))
    return HostFailure(
        "docker-failed",
        f"{what}: {lines[-1].strip()}",
        "./deploy.py doctor looks at the host and its Docker",
        "\n".join(lines[-20:]),
    )
