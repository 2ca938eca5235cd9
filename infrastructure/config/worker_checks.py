"""What workers may not be, and what is said of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infrastructure.config.worker_files import variable_of
from infrastructure.config.workers import OURS, RESERVED, TRIAL_IDS
from infrastructure.errors import Problem
from infrastructure.release_files import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from infrastructure.config.base import Placer
    from infrastructure.config.models import Stack
    from infrastructure.config.workers import Worker

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?")
_SECRET = re.compile(r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TELLTALE = re.compile(r"PASS(?:WORD|WD)?$|SECRET|TOKEN|API_?KEY$|PRIVATE_?KEY", re.IGNORECASE)


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
        hint = "put it below secrets: and read the file that NAME_FILE names"
        yield from in_the_open(worker.environment, place, ("workers", name), hint)


def in_the_open(
    environment: Iterable[str], place: Placer, section: tuple[str, ...], hint: str
) -> Iterator[Problem]:
    """What is said of a section's variables that look like a secret."""
    for variable in telltale(environment):
        yield Problem(
            f"{variable} looks like a secret, and `docker inspect` shows it to everyone",
            place(*section, "environment", variable),
            hint,
        )


def telltale(environment: Iterable[str]) -> list[str]:
    """The variables that look like a secret."""
    return [variable for variable in environment if _TELLTALE.search(variable)]
