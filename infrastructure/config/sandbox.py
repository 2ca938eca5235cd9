"""The built-in target `sandbox`: the same model as any other, filled in."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from infrastructure.config.models import Stack, Target

NAME = "sandbox"
USUAL = {
    "bridge": 8080,
    "http": 8088,
    "https": 8443,
    "tws": 4002,
    "portal": 5000,
    "control": 4099,
    "caddy_admin": 2019,
    "caddy_health": 8081,
}
"""The ports that are taken when they are free."""


def sandbox() -> Target:
    """Simulated gateway, bridge and Caddy on this machine; needs no stack.yaml and no account.

    Its folder is `$GANGWAY_SANDBOX_DIR`, else `.gangway` in the project's folder.
    """
    default = Path(__file__).resolve().parents[2] / ".gangway"
    folder = Path(os.environ.get("GANGWAY_SANDBOX_DIR") or default).resolve()
    ports = reserved(folder / NAME)
    stack = Stack.model_validate(
        {
            "host": "local",
            "profile": "standard",
            "runtime": "sandbox",
            "folder": str(folder),
            "gateway": {
                "username": "sandbox",
                "mode": "paper",
                "two_factor": {"asked": False},
            },
            "bridge": {"port": ports["bridge"]},
            "caddy": {
                "listen": "127.0.0.1",
                "http_port": ports["http"],
                "https_port": ports["https"],
            },
            "simulated": {
                f"{name}_port": ports[name]
                for name in ("tws", "portal", "control", "caddy_admin", "caddy_health")
            },
        }
    )
    return Target(NAME, stack)


def reserved(base: Path) -> dict[str, int]:
    """The sandbox's ports: those of its first start, else the usual ones or free ones.

    They are kept in `ports.json`, so that every later command finds the same stack.
    """
    file = base / "ports.json"
    try:
        kept: dict[str, int] = json.loads(file.read_text())
    except (OSError, ValueError):
        kept = {}
    if kept.keys() == USUAL.keys():
        return kept
    ports: dict[str, int] = {}
    for name, usual in USUAL.items():
        ports[name] = _free(usual, set(ports.values()) | set(USUAL.values()) - {usual})
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = base / f"ports.{os.getpid()}"
    fresh.write_text(json.dumps(ports) + "\n")
    fresh.replace(file)
    return ports


def _free(usual: int, taken: set[int]) -> int:
    """The usual port, or the next free one above it."""
    for port in range(usual, usual + 200):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return usual
