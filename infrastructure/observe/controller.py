"""Which program logs the gateway in, as its image tells. Pure; standard library, Python 3.9.

Sources: the start scripts and Dockerfiles of gnzsnz/ib-gateway (IBC) and of ibg-controller, which
builds on it and takes over when USE_IBG_CONTROLLER=yes; ibcontroller's variables (IBC_USERID, …).
"""

from __future__ import annotations

import json
from typing import Any

IBC, IBCONTROLLER, IBG_CONTROLLER = "ibc", "ibcontroller", "ibg-controller"


def controller_of(text: str) -> str | None:
    """From `docker image inspect`; None when the image is not there."""
    found: list[dict[str, Any]] = json.loads(text or "[]")
    if not found:
        return None
    config = found[0].get("Config") or {}
    names = dict(pair.partition("=")[::2] for pair in config.get("Env") or [])
    words = " ".join(
        [
            *(found[0].get("RepoTags") or []),
            *(config.get("Labels") or {}).values(),
            *(config.get("Entrypoint") or []),
            *(config.get("Cmd") or []),
        ]
    ).lower()
    if "USE_IBG_CONTROLLER" in names or "ibg-controller" in words:
        return IBG_CONTROLLER
    if "IBC_APP_DIR" in names or "ibcontroller" in words or "ib-controller" in words:
        return IBCONTROLLER
    return IBC
