"""Asks the bridge that runs on this data folder, for commands that cannot have the journal.

The journal belongs to one process at a time. A command that finds it taken lets that process do the
work; it needs the key of BRIDGE_ADMIN_KEY_FILE for that.
"""

from __future__ import annotations

import http.client
from typing import Any

import msgspec

from bridge.environment import Environment
from bridge.errors import BridgeError

ANSWER_SECONDS = 30.0


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
