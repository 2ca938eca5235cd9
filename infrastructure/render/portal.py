"""The Client Portal gateway in a container (IBeam): its settings, variables and secrets.

Facts from IBeam's own sources: with IBEAM_SECRETS_SOURCE=fs the account and password variables are
paths of files, `conf.yaml` in /srv/inputs replaces the gateway's settings, port 5001 answers
/livez, and its user is 1000:1000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.render.model import CONTAINER_UID, RenderedFile
from infrastructure.render.templates import TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.config.models import Target

SECRETS = ("portal-username", "portal-password")
_PROBE = "import urllib.request as r; r.urlopen('http://127.0.0.1:5001/livez', timeout=8)"
HEALTHCHECK = ["CMD", "python", "-c", _PROBE]
_SERVICE = ("portal",)


def files(target: Target, secrets: Mapping[str, bytes]) -> list[RenderedFile]:
    """What is mounted into its container; nothing when the stack has none."""
    settings = target.stack.portal
    if not settings.enabled:
        return []
    values = {
        "portal-username": (settings.username or "").encode(),
        "portal-password": secrets["portal-password"],
    }
    conf = (TEMPLATES / "portal.yaml").read_bytes()
    return [
        RenderedFile("portal/conf.yaml", conf, 0o644, services=_SERVICE),
        *(
            RenderedFile(f"secrets/{name}", value, 0o400, True, _SERVICE, CONTAINER_UID)
            for name, value in values.items()
        ),
    ]


def environment(target: Target) -> dict[str, str]:
    """IBeam's variables."""
    return {
        "IBEAM_SECRETS_SOURCE": "fs",
        "IBEAM_ACCOUNT": "/run/secrets/portal-username",
        "IBEAM_PASSWORD": "/run/secrets/portal-password",
        "IBEAM_USE_PAPER_ACCOUNT": str(target.stack.gateway.mode == "paper"),
        "IBEAM_MAX_FAILED_AUTH": "3",
        "IBEAM_LOG_TO_FILE": "False",
        "TZ": target.stack.gateway.time_zone,
    }
