"""What a runtime offers to the deploy program. Runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Tell = Callable[..., None]
"""Receives events for the client as `Wire.emit` does: a name, and its fields by keyword."""


class HostFailure(Exception):  # noqa: N818 - it reads as what happened
    """Something on the host failed: one line, a hint, a stable code, perhaps a log's tail."""

    def __init__(self, code: str, message: str, hint: str = "", details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details
        self.restored = False
        self.trace = ""
        """Where in the program nobody expected it, for `-v`."""

    def as_event(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
            "restored": self.restored,
            "trace": self.trace,
        }

    @classmethod
    def of(cls, error: Exception) -> HostFailure:
        """What went wrong as one of these; what nobody expected has its traceback as `trace`."""
        if isinstance(error, cls):
            return error
        if isinstance(error, OSError) and (known := _of_system(error)) is not None:
            return known
        import traceback

        failure = cls("unexpected", f"unexpected {type(error).__name__}: {error}")
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        failure.trace = "".join(lines)
        return failure


def _of_system(error: OSError) -> HostFailure | None:
    """What the system itself refuses about a file or a disk; None: that is nobody's daily trouble.

    Whether anything was changed only those know who tried.
    """
    at = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"the host's disk is full: {error.strerror}"  # or a quota, which says so
        return HostFailure("disk-full", f"{text}{at}", "./deploy.py doctor says what fills it")
    if error.errno in (errno.EROFS, errno.EIO):
        code, text = "folder", f"the host's disk fails: {error.strerror}"
        if error.errno == errno.EROFS:
            code, text = "disk-read-only", "the host's disk can only be read"
        hint = "a disk with faults becomes so: journalctl -k on the host says why"
        return HostFailure(code, f"{text}{at}", hint)
    if isinstance(error, ConnectionError) or not error.filename:
        return None
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "allow `sudo -n` for the login (host.sudo), or set a folder of its own (folder:)"
        return HostFailure("folder-denied", f"the login may not use {error.filename}", hint)
    hint = "look at it on the host; ./deploy.py doctor looks at the rest"
    return HostFailure("folder", f"{error.strerror}{at}", hint)


@dataclass
class Container:
    """One container (or process) of a service, as the engine reports it.

    `state`: created, running, restarting, paused, exited, dead. `health`: starting, healthy,
    unhealthy, none. `since` is ISO 8601 UTC, "" when it never ran. `probe` is the command of its
    own healthcheck, empty when there is none. `pid` is its first process as the host counts, 0 when
    it does not run or has no file system of its own.
    """

    service: str
    id: str
    number: int = 1
    state: str = "created"
    health: str = "none"
    image: str = ""
    image_id: str = ""
    hash: str = ""
    since: str = ""
    exit_code: int | None = None
    restarts: int = 0
    probe: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    pid: int = 0

    @property
    def running(self) -> bool:
        """Whether it runs now, and not merely between two attempts."""
        return self.state == "running"

    def as_json(self) -> dict[str, Any]:
        """For the wire: what `plan.ObservedService` is made of."""
        return {
            "name": self.service,
            "state": self.state,
            "health": self.health,
            "image": self.image,
            "image_id": self.image_id,
            "hash": self.hash,
            "since": self.since,
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True)
class Neighbour:
    """A container that runs on the host, whosever it is.

    `project` and `folder` are Compose's, empty without it; `ports` what it publishes, `memory` its
    limit in bytes, 0 without one.
    """

    name: str
    project: str = ""
    folder: str = ""
    ports: tuple[tuple[str, int], ...] = ()
    memory: int = 0


class Log(Protocol):
    """A log that is being followed."""

    def __iter__(self) -> Iterator[str]:
        """Its lines, as they come."""

    def close(self) -> None:
        """Ends it, also while another thread waits for the next line."""


class Screen(Protocol):
    """A VNC server that runs until it is closed."""

    def show(self, password: str) -> int:
        """Hands the password over; the port that it listens on."""

    @property
    def ended(self) -> bool:
        """Whether it has ended on its own."""

    def close(self) -> None: ...


class Runtime(Protocol):
    """Starts, stops and watches the services of one stack."""

    def check(self) -> None:
        """HostFailure when the host cannot run the stack at all."""

    def containers(self) -> list[Container]:
        """Every container of the stack, also stopped ones."""

    def neighbours(self) -> list[Neighbour]:
        """Every container that runs on the host; none where a stack shares no engine."""

    def obtain(self, release: str, services: Sequence[dict[str, Any]], tell: Tell) -> None:
        """Pulls or builds what the services' images lack; touches no container."""

    def image(self, name: str, of: str = "") -> dict[str, Any]:
        """`{"name", "id", "digest", "version", "created"}`, of one that is not there its name.

        `of`: the image's name, where `name` is an id.
        """

    def at_registry(self, image: str) -> tuple[str, str]:
        """The digest that a name has at its registry now, or "" and why not."""

    def fetch(self, image: str, digest: str) -> dict[str, Any]:
        """Gets an image by its digest, without giving it the name; as `image`."""

    def lacking(self, images: Sequence[str]) -> list[str]:
        """Which of these images are not there."""

    def layers(self) -> list[list[str]]:
        """Of each image that is there, its layers (DiffIDs, the lowest first).

        Empty where `load` needs the data of every layer.
        """

    def load(self, pieces: Iterable[bytes]) -> None:
        """Takes in an image as `docker save` writes it (compressed or not)."""

    def create(self, release: str, services: Sequence[str]) -> list[Container]:
        """Makes a new container for each service, beside the old one, without starting it."""

    def start(self, containers: Sequence[Container]) -> None:
        """Starts them, in the order given."""

    def stop(self, containers: Sequence[Container]) -> None:
        """Stops them, each within its own grace period; they stay, stopped."""

    def restart(self, container: Container) -> None:
        """Stops and starts it in place."""

    def remove(self, containers: Sequence[Container]) -> None:
        """Removes them; data folders stay."""

    def down(self) -> None:
        """Removes every container and network of the stack."""

    def probe(self, container: Container, seconds: float) -> tuple[bool, str]:
        """Runs the container's own healthcheck now: whether it passed, and what it printed."""

    def programs(self, container: Container) -> list[str]:
        """The command lines that run in the container."""

    def libraries(self, container: Container) -> set[str]:
        """Names of the shared libraries in a container; empty when they cannot be seen."""

    def log(self, container: Container, lines: int) -> str:
        """The end of its log."""

    def follow(self, container: Container, since: str = "") -> Log:
        """Its log since it started (or since then), until it stops or the log is closed."""

    def read_log(self, container: Container, *, since: str, lines: int, follow: bool) -> Log:
        """Lines of its log, each with its time (ISO 8601 UTC, or `-`) and a blank before it."""

    def controller(self, image: str) -> str | None:
        """What logs in within a gateway image (`observe.controller`); None: it is not there."""

    def login_facts(self) -> dict[str, str]:
        """What the gateway's container has written down of its logins, by session."""

    def begin_afresh(self, container: Container, *, cold: bool) -> None:
        """A person asks for the gateway's next start: what is held is tried again, at once.

        `cold`: with a full login, whatever session is saved.
        """

    def park(self, container: Container, session: str, port: int, word: str) -> bool:
        """Has IBC end a session's gateway by a word (`PAUSE` keeps the session, `STOP` logs off).

        The container stays up until it is stopped. False where that cannot be, as in one that an
        earlier release has made.
        """

    def soft_restart(self, container: Container, ports: Sequence[int]) -> bool:
        """Has the gateway restart itself with its session kept; False where there is none."""

    def prune_images(self, repository: str, kept: Sequence[str]) -> list[str]:
        """Removes images of a repository (without tag) but those kept; names of what went."""

    def rename_image(self, image_id: str, name: str) -> None:
        """Gives a name to an image that is there, whatever had it before."""

    def drop_unnamed(self, image_ids: Sequence[str]) -> None:
        """Removes those of these images that have no name and no container any more."""

    def screen(self, container: Container) -> Screen:
        """Starts a VNC server on the gateway's display; HostFailure where there is no display."""

    def type_code(self, container: Container, code: str) -> None:
        """Types a code into the gateway's window; HostFailure where there is none."""

    def picture(self, container: Container) -> bytes:
        """The gateway's screen as a PNG; HostFailure where there is none."""

    def aside(
        self, service: str, arguments: Sequence[str], text: str, seconds: float
    ) -> tuple[bool, str]:
        """Runs a service's program once beside it, as it is defined, with other arguments.

        `text` goes to its standard input. Whether it ended well, and what it said.
        """

    def facts(self) -> dict[str, Any]:
        """Versions, and per service what only the engine knows: `{"engine", "services"}`."""
