"""The sandbox's services: the same files as on a host, run as plain processes of this machine.

The simulated gateway stands where the image would; bridge and Caddy are the real ones.

sandbox.json is `{services: {name: {image, command, environment, folder, probe, ...}}}`. `{image}`
in a value stands for the folder of the service's unpacked sources, `{python}` and `{caddy}` for
the programs of the environment that runs it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from infrastructure.program import PROJECT, files_below
from infrastructure.render import bridge, workers
from infrastructure.render.compose import content_hash
from infrastructure.render.layout import sandbox_layout
from infrastructure.render.model import RenderedFile, Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infrastructure.config.target import Target

ACCOUNT = "simulated-account.json"


def services(
    target: Target, bridge_image: str, files: Iterable[RenderedFile]
) -> tuple[tuple[Service, ...], str]:
    """The services with their hashes, and the text of sandbox.json."""
    files = list(files)
    defined = {
        "gateway": _gateway(target),
        "bridge": _bridge(target, bridge_image),
        "caddy": _caddy(target),
    }
    for name in target.stack.workers:
        of_image = workers.image(target, name, files)
        defined[name] = workers.process(target, name, of_image, sandbox_layout(target))
    found = tuple(
        Service(
            name,
            definition["image"],
            content_hash(name, definition, files),
            *(name == "gateway", builds(target, name)),
            *workers.terms(target, name),
        )
        for name, definition in defined.items()
    )
    return found, json.dumps({"services": defined}, indent=1) + "\n"


def builds(target: Target, name: str) -> bool:
    """Whether a service is made of sources that are unpacked."""
    worker = target.stack.workers.get(name)
    return name == "bridge" or (worker is not None and worker.build is not None)


def _gateway(target: Target) -> dict[str, Any]:
    ports = target.stack.simulated
    healthcheck = target.base / "current" / "gateway" / "healthcheck.sh"
    return {
        "image": f"simulator:{_simulator()}",
        "command": [
            *("{python}", "-m", "simulator", "--listen", "127.0.0.1"),
            *("--port", str(ports.tws_port), "--portal-port", str(ports.portal_port)),
            *("--control-port", str(ports.control_port)),
            *("--master-client-id", str(target.stack.master_client_id)),
            *("--state", str(target.base / "data" / "gateway" / ACCOUNT)),
        ],
        "environment": {"TZ": target.stack.gateway.time_zone},
        "folder": str(PROJECT),
        "probe": ["bash", str(healthcheck), str(ports.tws_port)],
        "grace": 5,
    }


def _bridge(target: Target, image: str) -> dict[str, Any]:
    ports, layout = target.stack.simulated, sandbox_layout(target)
    values = {
        **bridge.environment(target, layout),
        "BRIDGE_PORTAL_URL": f"http://127.0.0.1:{ports.portal_port}",
        "BRIDGE_SIMULATOR_URL": f"http://127.0.0.1:{ports.control_port}",
    }
    return {
        "image": image,
        "command": ["{python}", "-m", "bridge"],
        "environment": values,
        "folder": "{image}",
        "probe": ["http", f"http://{layout.bridge_listen}/ping"],
        "grace": 10,
    }


def _caddy(target: Target) -> dict[str, Any]:
    data = target.base / "data" / "caddy"
    caddyfile = target.base / "current" / "caddy" / "Caddyfile"
    return {
        "image": "caddy",
        "command": ["{caddy}", "run", "--adapter", "caddyfile", "--config", str(caddyfile)],
        "environment": {"XDG_DATA_HOME": str(data), "XDG_CONFIG_HOME": str(data / "config")},
        "folder": str(data),
        "probe": ["http", f"http://127.0.0.1:{target.stack.simulated.caddy_health_port}/healthz"],
        "grace": 6,
    }


def _simulator() -> str:
    """A hash of the simulator's sources: a changed one is another image."""
    digest = hashlib.sha256()
    folder = PROJECT / "simulator"
    for name in files_below(folder):
        if name.endswith(".py"):
            digest.update(f"simulator/{name}".encode() + (folder / name).read_bytes())
    return digest.hexdigest()[:16]
