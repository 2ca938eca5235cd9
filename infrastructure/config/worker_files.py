"""A worker's folder, and what its secrets are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.errors import Place, Problem

if TYPE_CHECKING:
    from infrastructure.config.target import Target

DOCKERFILE = "Dockerfile"


def variable_of(secret: str) -> str:
    """The variable that holds the path of a worker's secret: `discord-url` is DISCORD_URL_FILE."""
    return f"{secret.upper().replace('-', '_')}_FILE"


def secret_file_name(worker: str, secret: str) -> str:
    """The name of a worker's secret in the release; no two of any workers are the same."""
    return f"worker.{worker}.{secret}"


def missing_folders(target: Target) -> list[Problem]:
    """Workers whose folder cannot be built from."""
    found = []
    for name, worker in target.stack.workers.items():
        folder = target.worker_folder(worker)
        if folder is None:
            continue
        at: Place = target.place("workers", name, "build")
        if not folder.is_dir():
            found.append(Problem(f"there is no folder {worker.build}", at, "beside stack.yaml"))
        elif target.stack.runtime == "compose" and not (folder / DOCKERFILE).is_file():
            hint = "such as: FROM python:3.13-slim, COPY, CMD"
            found.append(Problem(f"{worker.build} has no {DOCKERFILE}", at, hint))
    return found
