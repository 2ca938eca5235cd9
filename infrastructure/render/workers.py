"""Workers: what they are built of, their variables and limits; as containers or as processes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from infrastructure.config.worker_files import (
    DOCKERFILE,
    missing_folders,
    secret_file_name,
    variable_of,
)
from infrastructure.errors import ConfigError, UsageError
from infrastructure.release_files import WORKERS
from infrastructure.render.layout import BRIDGE_PORT, bind
from infrastructure.render.model import RenderedFile, secret_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from infrastructure.config.target import Target
    from infrastructure.config.workers import Worker
    from infrastructure.render.layout import Layout

KEY_FOLDER = "/run/gangway"
"""In a worker's container: the folder with its key, which the host writes."""
KEY_FILE = "api-key"
LEFT_OUT = {"__pycache__", ".git", ".venv", "venv", "node_modules", ".mypy_cache", ".ruff_cache"}
MOST_FILES, MOST_BYTES = 2_000, 32 * 1024 * 1024
"""Of one worker's folder: more is no program, but data or an environment."""
GRACE = 15
"""Seconds that a worker gets to end."""


def files(target: Target, secrets: Mapping[str, bytes]) -> list[RenderedFile]:
    """What the workers are built of, and their secrets.

    Raises:
        ConfigError: a folder is not there, or has no Dockerfile.
        UsageError: a folder is too big, or leads outside itself.
    """
    if absent := missing_folders(target):
        raise ConfigError("a worker cannot be built", found=tuple(absent))
    found = []
    for name, worker in target.stack.workers.items():
        for secret in worker.secrets:
            known = secret_file_name(name, secret)
            found.append(secret_file(known, secrets[known], name))
        folder = target.worker_folder(worker)
        if folder is not None:
            found += _sources(target, name, folder)
    return found


def _sources(target: Target, name: str, folder: Path) -> list[RenderedFile]:
    left_out = _ignored(folder)
    found: list[RenderedFile] = []
    size = 0
    for path in sorted(_walk(folder)):
        relative = path.relative_to(folder).as_posix()
        if relative in left_out:
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise _unfit(target, name, f"{relative} leads out of the folder")
        size += path.stat().st_size
        if len(found) >= MOST_FILES or size > MOST_BYTES:
            text = f"more than {MOST_FILES} files or {MOST_BYTES >> 20} MB are no program"
            raise _unfit(target, name, text)
        mode = 0o755 if os.access(path, os.X_OK) else 0o644
        place = f"{WORKERS}/{name}/{relative}"
        found.append(RenderedFile(place, path.read_bytes(), mode, services=(name,)))
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one not in LEFT_OUT]
        base = folder / os.path.relpath(root, folder)
        yield from (base / one for one in names if not one.endswith(".pyc"))


def _ignored(folder: Path) -> set[str]:
    """What its .dockerignore leaves out: it need not travel, either."""
    listed = folder / ".dockerignore"
    if not listed.is_file():
        return set()
    from docker.utils.build import exclude_paths

    lines = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    kept = {one.replace(os.sep, "/") for one in exclude_paths(str(folder), patterns, DOCKERFILE)}
    return {
        relative
        for path in _walk(folder)
        if (relative := path.relative_to(folder).as_posix()) not in kept
        and relative not in {DOCKERFILE, ".dockerignore"}
    }


def _unfit(target: Target, name: str, text: str) -> UsageError:
    hint = "keep what is not part of it elsewhere, or list it in .dockerignore"
    return UsageError(text, target.place("workers", name, "build"), hint, code="worker-folder")


def image(target: Target, name: str, rendered: Iterable[RenderedFile]) -> str:
    """The name of its image: as configured, else with the hash of all that goes into it."""
    worker = target.stack.workers[name]
    if worker.image is not None:
        return worker.image
    digest = hashlib.sha256()
    for item in sorted(rendered, key=lambda file: file.path):
        if item.path.startswith(f"{WORKERS}/{name}/"):
            digest.update(f"{item.path}\0{item.mode}\0{item.digest}\0".encode())
    return f"gangway/{target.name}-worker-{name}:{digest.hexdigest()[:16]}"


def terms(target: Target, name: str) -> tuple[str, str]:
    """What a deploy waits for before it starts a service, and its key's scope; empty: nothing."""
    worker = target.stack.workers.get(name)
    if worker is None:
        return "", ""
    return worker.needs or "", "" if worker.api_key == "none" else worker.api_key


def labels(target: Target, name: str) -> dict[str, str]:
    """The same in a worker's definition: a change of them is a change of the worker."""
    found = zip(("gangway.needs", "gangway.api-key"), terms(target, name), strict=True)
    return {label: value for label, value in found if value}


def service(target: Target, name: str, of_image: str, layout: Layout) -> dict[str, Any]:
    """What is a worker's own in compose.yaml."""
    worker = target.stack.workers[name]
    current = target.base / "current"
    found: dict[str, Any] = {"image": of_image}
    if worker.build is not None:
        context = str(current / WORKERS / name)
        found |= {
            "build": {"context": context, "dockerfile": DOCKERFILE},
            "pull_policy": "never",
        }
    if worker.command is not None:
        found["command"] = list(worker.command)
    key = target.base / "data" / WORKERS / name
    keys = {"volumes": [bind(key, KEY_FOLDER)]} if worker.api_key != "none" else {}
    return {
        **found,
        "user": "1000:1000",
        "read_only": True,
        "tmpfs": ["/tmp:mode=1777,size=16m"],  # noqa: S108 - in its container
        "restart": worker.restart,
        "oom_score_adj": 500,
        "environment": environment(
            worker,
            layout,
            url=f"http://bridge:{BRIDGE_PORT}",
            key=f"{KEY_FOLDER}/{KEY_FILE}",
            secrets={one: f"{layout.secrets}/{one}" for one in worker.secrets},
        ),
        "secrets": [
            {"source": secret_file_name(name, one), "target": one} for one in worker.secrets
        ],
        **keys,
        "networks": ["web", *(["tws"] if worker.tws_client_id is not None else [])],
    }


def process(target: Target, name: str, of_image: str, layout: Layout) -> dict[str, Any]:
    """A worker as a process of the sandbox: `python` is the environment's own."""
    worker = target.stack.workers[name]
    first, *rest = worker.command or ()
    data = target.base / "data" / WORKERS / name
    return {
        "image": of_image,
        "command": ["{python}" if first in ("python", "python3") else first, *rest],
        "environment": environment(
            worker,
            layout,
            url=f"http://{layout.bridge_listen}",
            key=str(data / KEY_FILE),
            secrets={
                one: f"{layout.secrets}/{secret_file_name(name, one)}" for one in worker.secrets
            },
        ),
        "folder": "{image}" if worker.build is not None else str(data),
        "probe": [],
        "grace": GRACE,
        "restart": worker.restart,
        "labels": labels(target, name),
    }


def environment(
    worker: Worker, layout: Layout, *, url: str, key: str, secrets: Mapping[str, str]
) -> dict[str, str]:
    """Its variables."""
    values = {"BRIDGE_URL": url}
    if worker.api_key != "none":
        values["BRIDGE_API_KEY_FILE"] = key
    if worker.tws_client_id is not None:
        values["TWS_HOST"] = layout.tws_host
        values["TWS_PORT"] = str(layout.tws_port)
        values["TWS_CLIENT_ID"] = str(worker.tws_client_id)
    values |= {variable_of(name): path for name, path in secrets.items()}
    return values | worker.environment
