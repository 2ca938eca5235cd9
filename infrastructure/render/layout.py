"""Where things stand: addresses, ports and paths, by the runtime that carries the stack.

The same templates serve Docker Compose and the sandbox; only these values differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infrastructure.release_files import SECRETS

if TYPE_CHECKING:
    from infrastructure.config.target import Target

HOME = "/home/ibgateway"
SETTINGS_FOLDER = f"{HOME}/settings"
"""The volume of the gateway's settings: beside the program's folder, never over it."""
SETTINGS_PATH = f"{SETTINGS_FOLDER}/tws"
"""TWS_SETTINGS_PATH; with `both` the image appends `_live` and `_paper`."""
API_PORTS = {"live": 4001, "paper": 4002}
"""Java's ports, inside the gateway's container only."""
RELAY_PORTS = {"live": 4003, "paper": 4004}
"""The relay's ports, which other containers connect to."""
COMMAND_PORTS = {"live": 14003, "paper": 14004}
"""IBC's command server on 127.0.0.1 inside the container; `1` before the relay's port, so that
two machines in one container (`both`) do not collide."""
BRIDGE_PORT = 8080
MOUNTED_SECRETS = "/run/secrets"
"""Where Compose mounts a service's secrets in its container."""
JAVA_PROCESSES = 2048
"""Processes and threads of what runs Java or a browser: hundreds; the others have some tens."""
CADDY_HEALTH_PORT = 8081


BRIDGE_IDENTITY = "/var/lib/gangway/identity"
"""In its container; on the host `data/identity`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What Caddy and the bridge are told about their surroundings."""

    bridge_listen: str
    bridge_data: str
    bridge_config: str
    bridge_identity: str | None
    """Where it keeps the name of its journal besides; None: nowhere."""
    secrets: str
    tws_host: str
    tws_port: int
    upstream: str
    caddy_http: int
    caddy_https: int
    caddy_admin: str
    caddy_health: int
    tls_address: str
    """Where the bridge reaches Caddy, to look at its certificate."""
    caddy_bind: str | None = None
    login_state: str | None = None
    """The file with the gateway's login state; None where no hook writes one."""
    other_login: str | None = None
    """That of the other session, with `both`."""
    proxies: str = "127.0.0.1"
    """Whose forwarded addresses the bridge believes: Caddy's."""


def bracketed(name: str) -> str:
    """A name or address as it stands before a port."""
    return f"[{name}]" if ":" in name else name


def bind(source: object, target: str, *, read_only: bool = True) -> dict[str, object]:
    """A folder of the host as Compose mounts it."""
    mount: dict[str, object] = {"type": "bind", "source": str(source), "target": target}
    return {**mount, "read_only": True} if read_only else mount


def compose_layout(target: Target) -> Layout:
    """Addresses inside the private networks of the Compose project."""
    stack = target.stack
    other = next((each for each in stack.sessions if each != stack.session), None)
    return Layout(
        bridge_listen=f"0.0.0.0:{BRIDGE_PORT}",
        bridge_data="/data",
        bridge_config="/etc/gangway",
        bridge_identity=BRIDGE_IDENTITY,
        secrets=MOUNTED_SECRETS,
        tws_host="gateway",
        tws_port=RELAY_PORTS[stack.session],
        upstream=f"bridge:{BRIDGE_PORT}",
        caddy_http=8080,
        caddy_https=8443,
        caddy_admin="127.0.0.1:2019",
        caddy_health=CADDY_HEALTH_PORT,
        tls_address="caddy:8443",
        login_state=f"/run/gangway/login-{stack.session}",
        other_login=f"/run/gangway/login-{other}" if other else None,
        proxies="caddy",
    )


def sandbox_layout(target: Target) -> Layout:
    """Addresses on this machine's loopback, for plain processes."""
    simulated, caddy, bridge = target.stack.simulated, target.stack.caddy, target.stack.bridge
    current = target.base / "current"
    return Layout(
        bridge_listen=f"127.0.0.1:{bridge.port}",
        bridge_data=str(target.base / "data" / "bridge"),
        bridge_config=str(current / "bridge"),
        bridge_identity=str(target.base / "data" / "identity"),
        secrets=str(current / SECRETS),
        tws_host="127.0.0.1",
        tws_port=simulated.tws_port,
        upstream=f"127.0.0.1:{bridge.port}",
        caddy_http=caddy.http_port,
        caddy_https=caddy.https_port,
        caddy_admin=f"127.0.0.1:{simulated.caddy_admin_port}",
        caddy_health=simulated.caddy_health_port,
        tls_address=f"{bracketed(caddy.listen)}:{caddy.https_port}",
        caddy_bind=bracketed(caddy.listen),
    )


def layout(target: Target) -> Layout:
    """The layout of the target's runtime."""
    return sandbox_layout(target) if target.stack.runtime == "sandbox" else compose_layout(target)
