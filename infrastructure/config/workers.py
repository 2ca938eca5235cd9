"""`workers:`: containers of one's own in the stack, and what they may not be."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from infrastructure.config.base import (
    SecretRef,
    Section,
    check_image,
    plain_text,
)
from infrastructure.errors import Place, Problem
from infrastructure.release_files import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infrastructure.config.checks import Placer
    from infrastructure.config.models import Stack, Target

RESERVED = (*SERVICES, "worker", "localhost")
"""Names that mean something else in a stack, on its networks or in a command."""
OURS = ("BRIDGE_URL", "BRIDGE_API_KEY_FILE", "TWS_HOST", "TWS_PORT", "TWS_CLIENT_ID")
"""Variables that a worker gets."""
TRIAL_IDS = range(9_000, 10_000)
"""Client ids that the bridge tries a connection's settings with."""
DOCKERFILE = "Dockerfile"
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?")
_SECRET = re.compile(r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TELLTALE = re.compile(r"PASS(?:WORD|WD)?$|SECRET|TOKEN|API_?KEY$|PRIVATE_?KEY", re.IGNORECASE)


class Worker(Section):
    """A container of your own beside the bridge (docs/workers.md)."""

    image: str | None = None
    """Image by tag or digest; this or `build`."""
    build: str | None = None
    """Folder with a Dockerfile, beside stack.yaml: it is shipped, and built on the host."""
    command: tuple[str, ...] | None = None
    """What it runs instead of the image's own command; the sandbox needs it."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables for it; those that gangway gives are refused."""
    secrets: dict[str, SecretRef] = Field(default_factory=dict)
    """Name to [secret](#configuration): a file in its container, whose path is in NAME_FILE."""
    api_key: Literal["none", "read", "trade"] = "none"
    """Scope of a key of its own for the bridge: made, renewed and revoked with the worker."""
    memory: int = Field(default=96, ge=16, le=1_048_576)
    """Its memory limit in MB, without swap; all services and workers have to fit the profile."""
    restart: Literal["unless-stopped", "on-failure", "no"] = "unless-stopped"
    """What happens when it ends by itself."""
    needs: Literal["bridge-ready", "gateway"] | None = None
    """What a deploy waits for before it starts the worker: `/ready`, or the gateway's API."""
    tws_client_id: int | None = Field(default=None, ge=1, le=999_999)
    """Lets it reach the gateway's API itself, under this client id; the bridge's limits on orders
    do not hold there. Unset: only the bridge."""

    @field_validator("image")
    @classmethod
    def _image(cls, value: str | None) -> str | None:
        return value if value is None else check_image(value)

    @field_validator("command", mode="before")
    @classmethod
    def _command(cls, value: Any) -> Any:
        words = shlex.split(value) if isinstance(value, str) else value
        if isinstance(words, (list, tuple)) and not words:
            raise ValueError("a command has at least one word; leave it out for the image's own")
        return words

    @field_validator("environment")
    @classmethod
    def _environment(cls, value: dict[str, str]) -> dict[str, str]:
        for _ in map(plain_text, value.values()):
            pass
        return value


def variable_of(secret: str) -> str:
    """The variable that holds the path of a worker's secret: `discord-url` is DISCORD_URL_FILE."""
    return f"{secret.upper().replace('-', '_')}_FILE"


def secret_file_name(worker: str, secret: str) -> str:
    """The name of a worker's secret in the release; no two of any workers are the same."""
    return f"worker.{worker}.{secret}"


def folder_of(target: Target, worker: Worker) -> Path | None:
    """Where a worker is built from; None: from nothing."""
    from pathlib import Path

    if worker.build is None:
        return None
    path = Path(worker.build).expanduser()
    return path if path.is_absolute() or target.file is None else target.file.parent / path


# --- what would be refused ----------------------------------------------------------------------
def problems(stack: Stack, place: Placer) -> Iterator[Problem]:
    """All that is wrong with the workers and needs no look at the disk."""
    for name, worker in stack.workers.items():
        yield from _names(name, worker, place)
        yield from _made_of(name, worker, stack.runtime == "sandbox", place)
    yield from _client_ids(stack, place)
    if stack.runtime == "compose":
        yield from _memory(stack, place)


def _names(name: str, worker: Worker, place: Placer) -> Iterator[Problem]:
    if name in RESERVED:
        yield Problem(
            f"a worker cannot be called '{name}': that is a name of gangway's own",
            place("workers", name),
            "choose another name",
        )
    elif not _NAME.fullmatch(name):
        yield Problem(
            f"'{name}' is no name of a worker", place("workers", name), "a-z, 0-9 and dash, 30 most"
        )
    files = {variable_of(secret): secret for secret in worker.secrets}
    for secret in worker.secrets:
        if not _SECRET.fullmatch(secret):
            at = place("workers", name, "secrets", secret)
            yield Problem(f"'{secret}' is no name of a worker's secret", at, "a-z, 0-9 and dash")
        elif variable_of(secret) in OURS:
            at = place("workers", name, "secrets", secret)
            yield Problem(f"{variable_of(secret)} is set by gangway", at, "choose another name")
    for variable in worker.environment:
        at = place("workers", name, "environment", variable)
        if not _VARIABLE.fullmatch(variable):
            hint = "letters, digits and underscore"
            yield Problem(f"'{variable}' is no name of a variable", at, hint)
        elif variable in OURS:
            hint = "leave it out; api_key and tws_client_id say what the worker gets"
            yield Problem(f"{variable} is set by gangway", at, hint, "dead-variable")
        elif variable in files:
            hint = f"it is the path of the secret '{files[variable]}'"
            yield Problem(f"{variable} is set by gangway", at, hint, "dead-variable")


def _made_of(name: str, worker: Worker, sandbox: bool, place: Placer) -> Iterator[Problem]:
    if worker.image is not None and worker.build is not None:
        at = place("workers", name, "build")
        yield Problem("image and build exclude each other", at, "drop one of the two")
    if worker.image is None and worker.build is None:
        at = place("workers", name)
        hint = "an image, or build: FOLDER with a Dockerfile"
        yield Problem("a worker needs image or build", at, hint, "missing-key")
    if sandbox and worker.command is None:
        at = place("workers", name)
        hint = "in the sandbox a worker is a process, such as command: python scanner.py"
        yield Problem("'command' is missing", at, hint, "missing-key")


def _client_ids(stack: Stack, place: Placer) -> Iterator[Problem]:
    taken = {stack.bridge.client_id: "the bridge's"}
    for name, worker in stack.workers.items():
        number = worker.tws_client_id
        if number is None:
            continue
        at = place("workers", name, "tws_client_id")
        owner = "kept for trying settings" if number in TRIAL_IDS else taken.get(number)
        if owner is not None:
            hint = "a session ends another one with its id; give each its own"
            yield Problem(f"client id {number} is {owner}", at, hint)
        taken.setdefault(number, f"worker {name}'s")


def _memory(stack: Stack, place: Placer) -> Iterator[Problem]:
    total = stack.memory
    left = total - sum(
        stack.budget(name).memory for name in SERVICES if name != "portal" or stack.portal.enabled
    )
    for name, worker in stack.workers.items():
        if worker.memory > max(left, 0):
            yield Problem(
                f"{worker.memory} MB for worker {name} do not fit: profile {stack.profile} has"
                f" {total} MB, of which {max(left, 0)} are not taken",
                place("workers", name, "memory"),
                "lower it or limits of the services, or choose a bigger profile",
                code="unsafe",
            )
        left -= worker.memory


def warnings(stack: Stack, place: Placer) -> Iterator[Problem]:
    """What works, and is told."""
    for name, worker in stack.workers.items():
        if worker.tws_client_id is not None:
            yield Problem(
                f"worker {name} reaches the gateway itself: limits, journal and halt of the bridge"
                " do not hold for its orders",
                place("workers", name, "tws_client_id"),
                "leave it out and order through the bridge, or keep to reading there",
            )
        for variable in worker.environment:
            if _TELLTALE.search(variable):
                yield Problem(
                    f"{variable} looks like a secret, and `docker inspect` shows it to everyone",
                    place("workers", name, "environment", variable),
                    "put it below secrets: and read the file that NAME_FILE names",
                )


def missing_folders(target: Target) -> list[Problem]:
    """Workers whose folder cannot be built from."""
    found = []
    for name, worker in target.stack.workers.items():
        folder = folder_of(target, worker)
        if folder is None:
            continue
        at: Place = target.place("workers", name, "build")
        if not folder.is_dir():
            found.append(Problem(f"there is no folder {worker.build}", at, "beside stack.yaml"))
        elif target.stack.runtime == "compose" and not (folder / DOCKERFILE).is_file():
            hint = "such as: FROM python:3.13-slim, COPY, CMD"
            found.append(Problem(f"{worker.build} has no {DOCKERFILE}", at, hint))
    return found
