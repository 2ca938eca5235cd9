"""The Caddyfile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.render.model import RenderedFile
from infrastructure.render.templates import TEMPLATES, render

if TYPE_CHECKING:
    from infrastructure.config.models import Target
    from infrastructure.render.layout import Layout


def files(target: Target, layout: Layout) -> list[RenderedFile]:
    """What is mounted into Caddy's container."""
    text = caddyfile(target, layout)
    return [RenderedFile("caddy/Caddyfile", text.encode(), 0o644, services=("caddy",))]


def names(target: Target) -> list[str]:
    """What the certificate is for: the domain, else the host's own names."""
    caddy = target.stack.caddy
    if caddy.domain:
        return [caddy.domain]
    host = target.stack.host.address
    found = [*caddy.names, *([] if target.local else [host]), "localhost", "127.0.0.1"]
    return list(dict.fromkeys(f"[{name}]" if ":" in name else name for name in found))


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
        default_name=None if caddy.domain else shown[0].strip("[]"),
        domain=caddy.domain,
        email=caddy.email,
        max_body=caddy.max_body,
        dial_timeout=caddy.dial_timeout,
        response_timeout=caddy.response_timeout,
        read_timeout=caddy.read_timeout,
        write_timeout=caddy.write_timeout,
        stream_timeout=caddy.stream_timeout,
    )
