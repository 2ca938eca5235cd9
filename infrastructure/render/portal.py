"""The Client Portal gateway in a container (IBeam): its settings, variables and secrets.

Facts from IBeam's own sources: with IBEAM_SECRETS_SOURCE=fs the account and password variables are
paths of files, `conf.yaml` in /srv/inputs replaces the gateway's settings, port 5001 answers
/livez, and its user is 1000:1000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infrastructure.render.layout import JAVA_PROCESSES, MOUNTED_SECRETS, bind
from infrastructure.render.model import TEMPLATES, RenderedFile, secret_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.config.target import Target

USERNAME, PASSWORD = "portal-username", "portal-password"
_PROBE = "import urllib.request as r; r.urlopen('http://127.0.0.1:5001/livez', timeout=8)"


def files(target: Target, secrets: Mapping[str, bytes]) -> list[RenderedFile]:
    """What is mounted into its container; nothing when the stack has none, or a simulated one."""
    settings = target.stack.portal
    if not settings.enabled or target.stack.runtime == "sandbox":
        return []
    values = {USERNAME: (settings.username or "").encode(), PASSWORD: secrets[PASSWORD]}
    conf = (TEMPLATES / "portal.yaml").read_bytes()
    return [
        RenderedFile("portal/conf.yaml", conf, 0o644, services=("portal",)),
        *(secret_file(name, value, "portal") for name, value in values.items()),
    ]


def service(target: Target) -> dict[str, Any]:
    """What is the portal's own in compose.yaml."""
    return {
        "image": target.stack.portal.image,
        # A login that failed too often must not be tried again by the engine: it locks the user.
        "restart": "no",
        "oom_score_adj": 100,
        "shm_size": "256m",
        "pids_limit": JAVA_PROCESSES,
        "environment": environment(target),
        "secrets": [USERNAME, PASSWORD],
        "volumes": [bind(target.base / "current" / "portal", "/srv/inputs")],
        "networks": ["portal"],
        "healthcheck": {
            "test": ["CMD", "python", "-c", _PROBE],
            "interval": "30s",
            "timeout": "10s",
            "retries": 3,
            "start_period": "120s",
        },
    }


def environment(target: Target) -> dict[str, str]:
    """IBeam's variables."""
    return {
        "IBEAM_SECRETS_SOURCE": "fs",
        "IBEAM_ACCOUNT": f"{MOUNTED_SECRETS}/{USERNAME}",
        "IBEAM_PASSWORD": f"{MOUNTED_SECRETS}/{PASSWORD}",
        "IBEAM_USE_PAPER_ACCOUNT": str(target.stack.gateway.mode == "paper"),
        "IBEAM_MAX_FAILED_AUTH": "3",
        "IBEAM_LOG_TO_FILE": "False",
        "TZ": target.stack.gateway.time_zone,
    }
