"""Configuration to files: pure functions, no I/O but reading templates and the bridge's sources.

`release(target, secrets)` gives everything that a deploy pushes. Layout of a release:

    compose.yaml            the Compose project; mounts go through `<base>/current/…`
    release.json            id, digest of every file, hash of every service
    gateway/                start hooks and their data; mounted into the gateway's container
    caddy/Caddyfile         mounted into Caddy's container
    bridge/restarts.json    the gateway's planned restarts, likewise
    bridge/trading.json     mounted into the bridge's container
    image/                  the bridge image's build context
    secrets/                0400, owned by uid 1000, as Compose file secrets
"""

from infrastructure.render.model import DataFolder, Release, RenderedFile, Service
from infrastructure.render.release import release

__all__ = ["DataFolder", "Release", "RenderedFile", "Service", "release"]
