"""The Caddyfile of a stack, from its settings."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from infrastructure.render.layout import CADDY_HEALTH_PORT, bind, bracketed, compose_layout
from infrastructure.render.model import TEMPLATES, RenderedFile, render

if TYPE_CHECKING:
    from infrastructure.config.target import Target
    from infrastructure.render.layout import Layout


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT")
SECTIONS = (
    *("account", "alerts", "audit", "connection", "contracts", "docs", "executions", "health"),
    *("history", "journal", "keys", "metrics", "openapi.json", "options", "order", "orders"),
    *("page", "ping", "pnl", "portal", "positions", "quote", "quotes", "ready", "rules"),
    *("sandbox", "session", "stream", "trading"),
)
"""First parts of the bridge's paths, and with them one short part is logged; nothing else is."""
LONGEST_PART = 15
"""Letters of a second part: an API key has 16 at least."""


FILES = 512
"""Open files, where 10,000 are too many: a TLS connection takes Caddy 30 to 90 KB before anybody is
known, and its memory has to hold as many as there can be."""


def service(target: Target) -> dict[str, Any]:
    """What is Caddy's own in compose.yaml."""
    settings, layout = target.stack.caddy, compose_layout(target)
    listen = bracketed(settings.listen)
    probe = f"http://127.0.0.1:{CADDY_HEALTH_PORT}/healthz"
    return {
        "image": settings.image,
        "user": "1000:1000",
        "read_only": True,
        "oom_score_adj": 300,
        "cap_add": ["NET_BIND_SERVICE"],
        "ulimits": {"nofile": {"soft": FILES, "hard": FILES}},
        "environment": {
            "GOMEMLIMIT": f"{target.stack.budget('caddy').memory * 3 // 4}MiB",
            "XDG_DATA_HOME": "/data",
            "XDG_CONFIG_HOME": "/config",
        },
        "volumes": [
            bind(target.base / "data" / "caddy", "/data", read_only=False),
            bind(target.base / "current" / "caddy", "/etc/caddy"),
        ],
        "tmpfs": ["/config:mode=1777,size=4m", "/tmp:mode=1777,size=4m"],  # noqa: S108 - inside
        "ports": [
            f"{listen}:{settings.http_port}:{layout.caddy_http}",
            f"{listen}:{settings.https_port}:{layout.caddy_https}",
        ],
        "networks": ["web"],
        "healthcheck": {
            "test": ["CMD", "wget", "-q", "-O", "/dev/null", probe],
            "interval": "15s",
            "timeout": "5s",
            "retries": 3,
            "start_period": "20s",
        },
    }


def files(target: Target, layout: Layout) -> list[RenderedFile]:
    """What is mounted into Caddy's container."""
    text = caddyfile(target, layout)
    return [RenderedFile("caddy/Caddyfile", text.encode(), 0o644, services=("caddy",))]


def public(target: Target) -> str:
    """Where clients find Caddy, without a slash at the end."""
    caddy = target.stack.caddy
    named = caddy.domain or caddy.names or not target.local
    port = "" if caddy.https_port == 443 else f":{caddy.https_port}"
    return f"https://{names(target)[0] if named else 'localhost'}{port}"


def names(target: Target) -> list[str]:
    """What the certificate is for: the domain, else the host's own names."""
    caddy = target.stack.caddy
    if caddy.domain:
        return [caddy.domain]
    host = target.stack.host.address
    own = [] if ipaddress.ip_address(caddy.listen).is_unspecified else [caddy.listen]
    found = [
        *caddy.names,
        *([] if target.local or "%" in host else [host]),
        *own,
        "localhost",
        "127.0.0.1",
    ]
    return list(dict.fromkeys(map(bracketed, found)))


def logged_methods() -> str:
    """A pattern of all that a method can be, with those that are logged as its group 1."""
    return f"(?s)^(?:({'|'.join(METHODS)})|.*)$"


def logged_paths() -> str:
    """A pattern of all that an address can be, with what is logged of it as its groups 1 and 2.

    No query, no user and password, no part that is as long as a key: a name under which a key might
    be sent need not be known. Go's syntax, which Python shares here.
    """
    sections = "|".join(map(re.escape, SECTIONS))
    known = rf"(/(?:{sections})(?:/[A-Za-z0-9._-]{{1,{LONGEST_PART}}})?)(?:[/?].*)?"
    return rf"(?s)^(?:{known}|(/)(?:\?.*)?|.*)$"


def caddyfile(target: Target, layout: Layout) -> str:
    """The text of the Caddyfile."""
    caddy = target.stack.caddy
    shown = names(target)
    return render(
        TEMPLATES / "Caddyfile.j2",
        admin=layout.caddy_admin,
        http_port=layout.caddy_http,
        https_port=layout.caddy_https,
        health_port=layout.caddy_health,
        bind=layout.caddy_bind,
        upstream=layout.upstream,
        names=shown,
        plain_names=[f"http://{name}" for name in shown],
        redirect_port="" if caddy.https_port == 443 else f":{caddy.https_port}",
        default_name=None if caddy.domain else shown[0].strip("[]"),
        domain=caddy.domain,
        email=caddy.email,
        max_body=caddy.max_body,
        dial_timeout=caddy.dial_timeout,
        response_timeout=caddy.response_timeout,
        read_timeout=caddy.read_timeout,
        write_timeout=caddy.write_timeout,
        stream_timeout=caddy.stream_timeout,
        logged_methods=logged_methods(),
        logged_paths=logged_paths(),
    )
