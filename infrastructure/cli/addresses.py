"""Where the page and the API are, and how the end of `up` on the sandbox shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.program import INSTALLED

if TYPE_CHECKING:
    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target


def public(target: Target) -> str:
    """Where clients find Caddy, without a slash at the end."""
    from infrastructure.render.caddy import names

    caddy = target.stack.caddy
    named = caddy.domain or caddy.names or not target.local
    port = "" if caddy.https_port == 443 else f":{caddy.https_port}"
    return f"https://{names(target)[0] if named else 'localhost'}{port}"


def links(target: Target) -> dict[str, str]:
    """The addresses of the sandbox and its first key's file, as `up --json` gives them."""
    stack, base = target.stack, Path(target.base)
    return {
        "page": f"http://127.0.0.1:{stack.bridge.port}/",
        "api": f"{public(target)}/",
        "authority": str(base / "data/caddy/caddy/pki/authorities/local/root.crt"),
        "keyFile": str(_key_file(target)),
        "faults": f"http://127.0.0.1:{stack.simulated.control_port}/faults",
    }


def _key_file(target: Target) -> Path:
    """Where the first key lies: in the store, else in the release, which always has it."""
    from infrastructure.config import secrets
    from infrastructure.release_files import ADMIN_KEY_FILE

    reference = target.stack.bridge.admin_key
    if not reference.command and (stored := secrets.path_of(target, reference)).is_file():
        return stored
    return Path(target.base) / "current" / ADMIN_KEY_FILE


def curl_lines(target: Target) -> list[str]:
    """Three requests that work when pasted into a shell, from this folder."""
    found = links(target)
    key = f'-H "X-API-KEY: $(cat {_short(found["keyFile"])})"'
    secure = f"--cacert {_short(found['authority'])}"
    return [
        f"curl -s {found['page']}ping",
        f"curl -s {key} {found['page']}health",
        f"curl -s {secure} {key} {found['api']}quote/AAPL",
    ]


def show(current: Settings, target: Target) -> None:
    """The table, the key and the lines, on stderr."""
    found = links(target)
    rows = {
        "status page": found["page"],
        "API key": Path(found["keyFile"]).read_text().strip(),
        "API by TLS": found["api"],
        "its authority": _short(found["authority"]),
        "faults": f"{found['faults']}, or the buttons on the page",
        "stop it": "make down"
        if target.file is None and not INSTALLED
        else f"./deploy.py --target {target.name} down",
    }
    for name, value in rows.items():  # plain lines: a key that a table cuts off is no use
        current.out.say(f"{name:<13}  {value}")
    current.out.say("try it:")
    for line in curl_lines(target):
        current.out.say(f"  {line}")


def _short(path: str) -> str:
    """Relative to the current folder when it lies below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
