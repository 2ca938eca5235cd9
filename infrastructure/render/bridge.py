"""The bridge's sources, limits and variables."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from infrastructure.config.schedule import calendar
from infrastructure.program import PROJECT, files_below
from infrastructure.release_files import ADMIN_KEY, ALERTS, FLEX_TOKEN
from infrastructure.render.caddy import names
from infrastructure.render.layout import BRIDGE_IDENTITY, BRIDGE_PORT, bind, compose_layout
from infrastructure.render.model import RenderedFile, secret_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from infrastructure.config.target import Target
    from infrastructure.render.layout import Layout

USUAL_KEEP_DAYS = 730
"""As long as the bridge keeps orders unasked."""
_LOCKS = {
    "ib_async": "requirements.lock",
    "ib_insync": "requirements-ib-insync.lock",
}
REQUESTS = "/run/gangway-requests"
"""In the bridge's container: where it leaves requests to the gateway's controller."""
_LEFT_OUT = frozenset(("__pycache__", ".mypy_cache", ".ruff_cache"))
_PING = (
    "import socket; s = socket.create_connection(('127.0.0.1', 8080), 4);"
    " s.sendall(b'GET /ping HTTP/1.0\\r\\n\\r\\n');"
    " raise SystemExit(b' 200 ' not in s.recv(64))"
)


def sources(target: Target, project: Path = PROJECT) -> list[RenderedFile]:
    """The build context of the bridge's image, below `image/`: what it needs and nothing else."""
    folder = project / "bridge"
    lock = _LOCKS[target.stack.bridge.library]
    found = []
    for name in files_below(folder, _LEFT_OUT):
        if name.endswith((".pyc", ".in")):
            continue
        if name.endswith(".lock") and name.rpartition("/")[2] != lock:
            continue
        content = (folder / name).read_bytes()
        found.append(RenderedFile(f"image/bridge/{name}", content, services=("bridge",)))
    return found


def build_arguments(target: Target) -> dict[str, str]:
    """What the Dockerfile is told."""
    bridge = target.stack.bridge
    return {"BASE_IMAGE": bridge.base_image, "CLIENT_LIBRARY": bridge.library}


def image(target: Target, context: list[RenderedFile]) -> str:
    """The image's name: its tag is the hash of all that goes into it."""
    digest = hashlib.sha256(json.dumps(build_arguments(target), sort_keys=True).encode())
    for item in context:
        digest.update(f"{item.path}\0{item.digest}\0".encode())
    return f"gangway/{target.name}-bridge:{digest.hexdigest()[:16]}"


def files(target: Target, secrets: Mapping[str, bytes]) -> list[RenderedFile]:
    """What is mounted into the bridge's container, and its first key."""
    rules = json.dumps(trading_rules(target), indent=2).encode() + b"\n"
    restarts = calendar(target).text().encode()
    contents = {ADMIN_KEY: secrets[ADMIN_KEY]}
    if target.stack.alerts.urls:
        urls = [secrets[name] for name in secrets if name.startswith("alert-url-")]
        contents[ALERTS] = b"".join(url.strip() + b"\n" for url in urls)
    if target.stack.bridge.flex:
        contents[FLEX_TOKEN] = secrets[FLEX_TOKEN]
    return [
        RenderedFile("bridge/restarts.json", restarts, 0o644, services=("bridge",)),
        RenderedFile("bridge/trading.json", rules, 0o644, services=("bridge",)),
        *_position_rules(target),
        *(secret_file(name, content, "bridge") for name, content in contents.items()),
    ]


def _position_rules(target: Target) -> list[RenderedFile]:
    """The position manager's rules; no file where there are none."""
    if not _has_rules(target):
        return []
    import msgspec

    from bridge.rules.model import read

    stack = target.stack
    rules = read({"rules": list(stack.rules), "mode": stack.rules_mode})
    content = msgspec.json.format(msgspec.json.encode(rules), indent=2) + b"\n"
    return [RenderedFile("bridge/rules.json", content, 0o644, services=("bridge",))]


def _has_rules(target: Target) -> bool:
    return bool(target.stack.rules) or target.stack.rules_mode is not None


def service(target: Target, image: str) -> dict[str, Any]:
    """What is the bridge's own in compose.yaml."""
    data, current = target.base / "data", target.base / "current"
    return {
        "image": image,
        "build": {
            "context": str(current / "image"),
            "dockerfile": "bridge/Dockerfile",
            "args": build_arguments(target),
        },
        "pull_policy": "never",
        "user": "1000:1000",
        "read_only": True,
        "tmpfs": ["/tmp:mode=1777,size=16m"],  # noqa: S108 - in its container
        "oom_score_adj": 200,
        "environment": environment(target, compose_layout(target)),
        "secrets": secret_names(target),
        "volumes": [
            bind(data / "bridge", "/data", read_only=False),
            bind(data / "identity", BRIDGE_IDENTITY, read_only=False),
            bind(data / "state", "/run/gangway"),
            bind(data / "requests", REQUESTS, read_only=False),
            bind(current / "bridge", "/etc/gangway"),
        ],
        "ports": [f"127.0.0.1:{target.stack.bridge.port}:{BRIDGE_PORT}"],
        "networks": ["tws", "web", *(["portal"] if target.stack.portal.enabled else [])],
        "healthcheck": {
            "test": ["CMD", "python", "-S", "-E", "-c", _PING],
            "interval": "15s",
            "timeout": "5s",
            "retries": 3,
            "start_period": "30s",
        },
    }


def secret_names(target: Target) -> list[str]:
    """The files below `secrets/` that the bridge reads."""
    given = {ALERTS: target.stack.alerts.urls, FLEX_TOKEN: target.stack.bridge.flex}
    return [ADMIN_KEY, *(name for name, needed in given.items() if needed)]


def trading_rules(target: Target) -> dict[str, object]:
    """The limits, with the zone of their days and whether the gateway takes orders at all."""
    return {
        **target.stack.trading.model_dump(mode="json"),
        "gateway_read_only": target.stack.read_only,
        "time_zone": target.stack.gateway.time_zone,
    }


def environment(target: Target, layout: Layout) -> dict[str, str]:
    """The bridge's variables (docs/bridge-reference.md)."""
    bridge, portal = target.stack.bridge, target.stack.portal
    values = {
        "BRIDGE_LISTEN": layout.bridge_listen,
        "BRIDGE_TWS_HOST": layout.tws_host,
        "BRIDGE_TWS_PORT": str(layout.tws_port),
        "BRIDGE_CLIENT_ID": str(bridge.client_id),
        "BRIDGE_DATA_DIR": layout.bridge_data,
        "BRIDGE_ADMIN_KEY_FILE": f"{layout.secrets}/{ADMIN_KEY}",
        "BRIDGE_TRADING_MODE": target.stack.session,
        "BRIDGE_TRADING_FILE": f"{layout.bridge_config}/trading.json",
        "BRIDGE_RESTARTS_FILE": f"{layout.bridge_config}/restarts.json",
        "BRIDGE_LOG_LEVEL": bridge.log_level,
        "BRIDGE_TIME_ZONE": target.stack.gateway.time_zone,
        "BRIDGE_TRUSTED_PROXIES": layout.proxies,
        "BRIDGE_TLS_ADDRESS": layout.tls_address,
        "BRIDGE_TLS_NAME": names(target)[0].strip("[]"),
        "BRIDGE_ALERT_DISK_MB": str(target.stack.alerts.disk_megabytes),
    }
    keep_days = target.stack.journal.keep_days
    if keep_days != USUAL_KEEP_DAYS:
        values["BRIDGE_JOURNAL_KEEP_DAYS"] = str(keep_days)
    if layout.bridge_identity:
        values["BRIDGE_IDENTITY_DIR"] = layout.bridge_identity
    if layout.login_state:
        values["BRIDGE_LOGIN_STATE_FILE"] = layout.login_state
        values["BRIDGE_GATEWAY_REQUESTS"] = REQUESTS
    if not target.stack.gateway.watchdog:
        values["BRIDGE_WATCHDOG"] = "no"
    if layout.other_login:
        values["BRIDGE_OTHER_LOGIN_FILE"] = layout.other_login
    if _has_rules(target):
        values["BRIDGE_RULES_FILE"] = f"{layout.bridge_config}/rules.json"
    values |= _alerts(target, layout)
    if not bridge.page_trading:
        values["BRIDGE_PAGE_TRADING"] = "no"
    if bridge.flex:
        values["BRIDGE_FLEX_QUERY"] = bridge.flex.query
        values["BRIDGE_FLEX_TOKEN_FILE"] = f"{layout.secrets}/{FLEX_TOKEN}"
    if portal.url or portal.enabled:
        values["BRIDGE_PORTAL_URL"] = portal.url or "https://portal:5000"
    return values


def _alerts(target: Target, layout: Layout) -> dict[str, str]:
    alerts = target.stack.alerts
    if not alerts.urls:
        return {}
    values = {
        "BRIDGE_ALERTS_FILE": f"{layout.secrets}/{ALERTS}",
        "BRIDGE_ALERT_LOST_MINUTES": str(alerts.lost_minutes),
    }
    if alerts.events:
        values["BRIDGE_ALERT_EVENTS"] = ",".join(alerts.events)
    return values
