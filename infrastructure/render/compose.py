"""compose.yaml, and the hash of each service over all that it reads."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from infrastructure.observe.controller import IBG_CONTROLLER
from infrastructure.render import bridge, gateway, portal
from infrastructure.render.layout import (
    API_PORTS,
    BRIDGE_PORT,
    CADDY_HEALTH_PORT,
    HOOKS_FOLDER,
    RELAY_PORTS,
    SETTINGS_FOLDER,
    STATE_FOLDER,
    bracketed,
    compose_layout,
)
from infrastructure.render.model import RenderedFile, Service
from infrastructure.render.templates import TEMPLATES, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from infrastructure.config.models import Target

FILE = "compose.yaml"
"""Its name in the release."""
_PING = (
    "import socket; s = socket.create_connection(('127.0.0.1', 8080), 4);"
    " s.sendall(b'GET /ping HTTP/1.0\\r\\n\\r\\n');"
    " raise SystemExit(b' 200 ' not in s.recv(64))"
)
IBG_CONTROLLER_STOPS = 90
"""Seconds that ibg-controller wants for a clean log-off through the window."""
FILES = {"caddy": 512}
"""Open files where 10,000 are too many: a TLS connection takes Caddy 30 to 90 KB before anybody is
known, and its memory has to hold as many as there can be."""
PROCESSES = {"gateway": 2048, "bridge": 256, "caddy": 256, "portal": 2048}
"""Processes and threads: Java and a browser have hundreds, the others some tens."""


def compose(target: Target, user: str, bridge_image: str, hashes: Mapping[str, str]) -> str:
    """The text of compose.yaml; `hashes` by service go into the labels."""
    return render(
        TEMPLATES / "compose.yaml.j2",
        project=target.project,
        stack=target.name,
        current=str(target.base / "current"),
        data=str(target.base / "data"),
        gateway=_gateway(target, user, hashes),
        bridge=_bridge(target, bridge_image, hashes),
        caddy=_caddy(target, hashes),
        portal=_portal(target, hashes) if target.stack.portal.enabled else None,
        secrets={name: f"secrets/{name}" for name in secret_files(target)},
    )


def secret_files(target: Target) -> tuple[str, ...]:
    """The files below `secrets/` of a release."""
    names = (*gateway.password_names(target), *bridge.secret_names(target))
    return (*names, *portal.SECRETS) if target.stack.portal.enabled else names


def services(
    target: Target, user: str, bridge_image: str, files: Iterable[RenderedFile]
) -> tuple[tuple[Service, ...], str]:
    """The services with their hashes, and compose.yaml with those in its labels."""
    import yaml

    files = list(files)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = compose(target, user, bridge_image, {})
    bare: dict[str, Any] = yaml.load(text, Loader=loader)["services"]  # noqa: S506 - a safe one
    hashes = {name: content_hash(name, definition, files) for name, definition in bare.items()}
    found = tuple(
        Service(name, bare[name]["image"], hashes[name], name == "gateway", "build" in bare[name])
        for name in bare
    )
    return found, compose(target, user, bridge_image, hashes)


def content_hash(name: str, definition: Any, files: Iterable[RenderedFile]) -> str:
    """The hash of a service: its definition and every file that it reads."""
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode())
    for item in sorted(files, key=lambda file: file.path):
        if name in item.services:
            digest.update(f"{item.path}\0{item.mode}\0{item.digest}\0".encode())
    return digest.hexdigest()[:32]


def _common(target: Target, name: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    memory, with_swap = target.stack.budget(name)
    return {
        "name": name,
        "hash": hashes.get(name, ""),
        "memory": memory,
        "with_swap": with_swap,
        "stop_grace": "15s",
        "files": FILES.get(name, 10_000),
        "processes": PROCESSES[name],
        "restart": "unless-stopped",
    }


def _gateway(target: Target, user: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    settings = target.stack.gateway
    ports = [str(API_PORTS[mode]) for mode in target.stack.sessions]
    published = []
    stop_grace = settings.stop_grace
    if settings.controller == IBG_CONTROLLER:
        stop_grace = max(stop_grace, IBG_CONTROLLER_STOPS)
    if settings.publish_api:
        published = [f"{settings.publish_api}:{RELAY_PORTS[target.stack.session]}"]
    return {
        **_common(target, "gateway", hashes),
        "image": settings.image,
        "environment": gateway.environment(target, user),
        "secrets": gateway.password_names(target),
        "settings": SETTINGS_FOLDER,
        "hooks": HOOKS_FOLDER,
        "state": STATE_FOLDER,
        "ports": published,
        "stop_grace": f"{stop_grace}s",
        "healthcheck": ["CMD", "bash", f"{HOOKS_FOLDER}/healthcheck.sh", *ports],
        "health_timeout": f"{12 * len(ports)}s",
        "start_period": f"{settings.login_dialog_timeout + 180}s",
    }


def _bridge(target: Target, image: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    settings = target.stack.bridge
    return {
        **_common(target, "bridge", hashes),
        "image": image,
        "build_arguments": bridge.build_arguments(target),
        "environment": bridge.environment(target, compose_layout(target)),
        "secrets": bridge.secret_names(target),
        "ports": [f"127.0.0.1:{settings.port}:{BRIDGE_PORT}"],
        "networks": ["tws", "web", *(["portal"] if target.stack.portal.enabled else [])],
        "healthcheck": ["CMD", "python", "-S", "-E", "-c", _PING],
    }


def _caddy(target: Target, hashes: Mapping[str, str]) -> dict[str, Any]:
    settings, layout = target.stack.caddy, compose_layout(target)
    memory, _ = target.stack.budget("caddy")
    probe = f"http://127.0.0.1:{CADDY_HEALTH_PORT}/healthz"
    return {
        **_common(target, "caddy", hashes),
        "image": settings.image,
        "environment": {
            "GOMEMLIMIT": f"{memory * 3 // 4}MiB",
            "XDG_DATA_HOME": "/data",
            "XDG_CONFIG_HOME": "/config",
        },
        "ports": [
            f"{bracketed(settings.listen)}:{settings.http_port}:{layout.caddy_http}",
            f"{bracketed(settings.listen)}:{settings.https_port}:{layout.caddy_https}",
        ],
        "healthcheck": ["CMD", "wget", "-q", "-O", "/dev/null", probe],
    }


def _portal(target: Target, hashes: Mapping[str, str]) -> dict[str, Any]:
    return {
        **_common(target, "portal", hashes),
        "image": target.stack.portal.image,
        "environment": portal.environment(target),
        "secrets": portal.SECRETS,
        "healthcheck": portal.HEALTHCHECK,
        # A login that failed too often must not be tried again by the engine: it locks the user.
        "restart": "no",
    }
