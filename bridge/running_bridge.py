"""What a command needs that works on a bridge's data folder: a journal, or the bridge that has it.

The journal belongs to one process at a time. A command that finds it taken lets that process do the
work; it needs the key of BRIDGE_ADMIN_KEY_FILE for that.
"""

from __future__ import annotations

import http.client
from typing import Any

import msgspec

from bridge.environment import Environment
from bridge.errors import BridgeError
from bridge.store.database import FILE_NAME

ANSWER_SECONDS = 30.0


def need_journal(environment: Environment, deployed: str, *, make: bool = False) -> None:
    """Sees to it that a command looks at a bridge's folder, and makes none by surprise.

    `deployed` is the command for a bridge that `stack.yaml` describes. With `make` a folder that
    BRIDGE_DATA_DIR names may still be empty.

    Raises:
        BridgeError: there is no journal.
    """
    if (environment.data_dir / FILE_NAME).exists() or (make and environment.data_dir_named):
        return
    raise BridgeError(
        f"there is no bridge's journal in {environment.data_dir.absolute()}",
        next_step=f"{deployed} for a deployed bridge; for this one set BRIDGE_DATA_DIR",
    )


def ask(environment: Environment, method: str, path: str, body: bytes | None = None) -> Any:
    """The decoded answer; None when it has no body.

    Raises:
        BridgeError: there is no key to ask with, or the bridge said no.
        OSError: the bridge does not answer.
    """
    if environment.admin_key_file is None:
        raise BridgeError(
            "a bridge is running on this data folder",
            next_step="set BRIDGE_ADMIN_KEY_FILE, so that it can be asked to make the change",
        )
    key = environment.admin_key_file.read_text(encoding="utf-8").strip()
    host = environment.listen_host
    connection = http.client.HTTPConnection(
        "127.0.0.1" if host in {"0.0.0.0", "::"} else host,  # noqa: S104 - not bound here
        environment.listen_port,
        timeout=ANSWER_SECONDS,
    )
    try:
        headers = {"X-API-KEY": key, "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    document: Any = msgspec.json.decode(content) if content else None
    if answer.status >= 400:
        raise BridgeError(document["detail"], next_step=document["nextStep"])
    return document
