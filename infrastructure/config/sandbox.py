"""The built-in target `sandbox`: the same model as any other, filled in."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from infrastructure.config.target import Target
from infrastructure.program import own_folder

NAME = "sandbox"
USUAL_FOLDER = own_folder()
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


def sandbox(values: dict[str, Any] | None = None) -> Target:
    """Simulated gateway, bridge and Caddy on this machine; needs no stack.yaml and no account.

    `values`: what `settings` has said before.
    """
    from infrastructure.config.models import Stack

    return Target(NAME, Stack.model_validate(values or settings()))


def settings() -> dict[str, Any]:
    """What would stand in stack.yaml, with the ports as they are free now.

    The folder is `$GANGWAY_SANDBOX_DIR`, else that of `program.own_folder`.
    """
    folder = Path(os.environ.get("GANGWAY_SANDBOX_DIR") or USUAL_FOLDER).resolve()
    ports = reserved(folder / NAME)
    return {
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


def reserved(base: Path) -> dict[str, int]:
    """The sandbox's ports: those it runs on, else the usual ones or free ones.

    `keep` writes them to `ports.json`, so that every later command finds the same stack. While
    nothing runs they are looked at again: another program may have taken one since.
    """
    kept = _kept(base)
    if kept and _runs(base):
        return kept
    ports: dict[str, int] = {}
    for name, usual in (kept or USUAL).items():
        ports[name] = _free(usual, set(ports.values()) | set(USUAL.values()) - {USUAL[name]})
    return ports


def keep(target: Target) -> None:
    """Notes the ports of a sandbox that is about to be deployed."""
    stack, base = target.stack, Path(target.base)
    ports = {
        "bridge": stack.bridge.port,
        "http": stack.caddy.http_port,
        "https": stack.caddy.https_port,
        **{
            name: getattr(stack.simulated, f"{name}_port")
            for name in ("tws", "portal", "control", "caddy_admin", "caddy_health")
        },
    }
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = base / f"ports.{os.getpid()}"
    fresh.write_text(json.dumps(ports) + "\n")
    fresh.replace(base / "ports.json")


def clear(target: Target) -> None:
    """Removes the sandbox's folder, and the one above when it is the usual one and empty."""
    import shutil

    base = Path(target.base)
    shutil.rmtree(base, ignore_errors=True)  # nothing in it is worth keeping
    if base.parent == USUAL_FOLDER:
        with contextlib.suppress(OSError):
            base.parent.rmdir()


def _kept(base: Path) -> dict[str, int]:
    """What `ports.json` says; empty when it is not there or not whole."""
    try:
        found: dict[str, int] = json.loads((base / "ports.json").read_text())
        return found if found.keys() == USUAL.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _runs(base: Path) -> bool:
    """Whether the stack's supervisord is alive."""
    try:
        os.kill(int((base / "run" / "supervisord.pid").read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


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
