"""Looking at containers over the engine's own socket: milliseconds instead of a command each.

Only for looking, and only where the engine listens on a local socket as usual: whatever is
otherwise makes these return None, and the `docker` command is asked, which also explains what is
wrong. Runs on the host: standard library, Python 3.9.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from infrastructure.health.probes import get
from infrastructure.runtime.commands import PROJECT_LABEL

DEFAULT = "unix:///var/run/docker.sock"
SECONDS, REGISTRY_SECONDS = 10.0, 60.0


def at_registry(image: str) -> tuple[str, str]:
    """The digest that an image's name has at its registry now, or "" and why not.

    The engine asks, with its own logins, mirrors and trust.
    """
    status, body = _asked(f"/distribution/{_quoted(image)}/json", REGISTRY_SECONDS)
    if status == 200 and isinstance(body, dict):
        return str((body.get("Descriptor") or {}).get("digest", "")), ""
    said = body.get("message", "") if isinstance(body, dict) else ""
    return "", said or "the engine gives no answer"


def _ask(path: str) -> Any:
    status, body = _asked(path, SECONDS)
    return body if status == 200 else None


def _asked(path: str, seconds: float) -> tuple[int, Any]:
    address = os.environ.get("DOCKER_HOST") or DEFAULT
    if not address.startswith("unix://") or os.environ.get("DOCKER_CONTEXT"):
        return 0, None
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(seconds)
            stream.connect(address[len("unix://") :])
            status, body = get(stream, path, "docker")
            return status, json.loads(body)
    except (OSError, ValueError):
        return 0, None


def inspect_project(project: str) -> str | None:
    """What `docker inspect` prints for all containers of a project; None when it cannot be had."""
    label = json.dumps({"label": [f"{PROJECT_LABEL}={project}"]}, separators=(",", ":"))
    listed = _ask(f"/containers/json?all=1&filters={_quoted(label)}")
    if listed is None:
        return None
    found = [_ask(f"/containers/{item['Id']}/json") for item in listed]
    return None if None in found else json.dumps(found)


def top(container: str) -> list[str] | None:
    """The command lines in a container; None when they cannot be had."""
    found = _ask(f"/containers/{container}/top?ps_args=-eo%20pid,args")
    if found is None:
        return None
    return [" ".join(row[1:]) for row in found["Processes"]]


def _quoted(text: str) -> str:
    """Percent-encoded for a query, without loading urllib."""
    return "".join(c if c.isalnum() or c in "-._~" else f"%{ord(c):02X}" for c in text)
