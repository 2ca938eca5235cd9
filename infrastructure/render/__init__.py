"""Configuration to files: pure functions, no I/O but reading templates and the bridge's sources.

`release(target, secrets)` gives everything that a deploy pushes. Layout of a release:

    compose.yaml            the Compose project; mounts go through `<base>/current/…`
    release.json            id, digest of every file, hash of every service
    gateway/                start hooks and their data; mounted into the gateway's container
    caddy/Caddyfile         mounted into Caddy's container
    bridge/restarts.json    the gateway's planned restarts, likewise
    bridge/rules.json       the position manager's rules, where there are some
    bridge/trading.json     mounted into the bridge's container
    workers/<name>/         what a worker is built of
    image/                  the bridge image's build context
    secrets/                0400, owned by uid 1000, as Compose file secrets
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

from infrastructure.release_files import COMPOSE_FILE, RELEASE_FILE, SANDBOX_FILE, WORKERS
from infrastructure.render import bridge, caddy, compose, gateway, portal, sandbox, workers
from infrastructure.render.layout import layout
from infrastructure.render.model import DataFolder, Release, RenderedFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.config.target import Target

FOLDERS = tuple(
    DataFolder(name) for name in ("gateway", "bridge", "caddy", "state", "requests", "identity")
)
OWN_FOLDERS = tuple(dataclasses.replace(folder, uid=None) for folder in FOLDERS)


def release(target: Target, secrets: Mapping[str, bytes]) -> Release:
    """Renders a target. `secrets` holds the value of every name in `secrets.needed(target)`.

    Pure: the same configuration, sources and secrets give the same files and the same id.
    """
    context = bridge.sources(target)
    image = bridge.image(target, context)
    files = [
        *gateway.files(target, secrets),
        *caddy.files(target, layout(target)),
        *bridge.files(target, secrets),
        *portal.files(target, secrets),
        *workers.files(target, secrets),
        *context,
    ]
    if target.stack.runtime == "sandbox":
        # Its processes run as whoever deploys.
        files = [dataclasses.replace(file, uid=None) for file in files]
        services, text = sandbox.services(target, image, files)
        definition, folders = SANDBOX_FILE, OWN_FOLDERS
    else:
        user = gateway.username(target, secrets)
        services, text = compose.services(target, user, image, files)
        definition, folders = COMPOSE_FILE, FOLDERS
    folders += tuple(
        dataclasses.replace(folders[0], path=f"{WORKERS}/{name}") for name in target.stack.workers
    )
    files.append(RenderedFile(definition, text.encode(), 0o644))
    files.sort(key=lambda file: file.path)
    identity = _identity(files)
    listing = {
        "id": identity,
        "files": {file.path: file.digest for file in files},
        "services": {service.name: service.hash for service in services},
    }
    files.append(RenderedFile(RELEASE_FILE, json.dumps(listing, indent=1).encode(), 0o644))
    return Release(
        identity, target.name, target.project, tuple(files), services, folders, definition
    )


def _identity(files: list[RenderedFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.mode}\0{file.digest}\0".encode())
    return digest.hexdigest()[:12]
