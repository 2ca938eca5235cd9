"""A service's log line as people read it; what is not understood stays as it is.

The bridge writes JSON lines (`bridge/logs.py`), Caddy its own (its docs, "JSON logs"), the gateway
plain text.
"""

from __future__ import annotations

import json
from typing import Any

_NOISE = {"event", "level", "timestamp", "requestId", "kind", "logger", "msg", "ts"}


def readable(line: str) -> str:
    """`GET /quote/{symbol} 200 5.6 ms`, or `connected version=178`; warnings begin with WARNING."""
    if not line.startswith("{"):
        return line
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict):
        return line
    text = _request(found) or _event(found)
    level = str(found.get("level", "info")).upper()
    return text if level in {"INFO", "DEBUG"} else f"{level} {text}"


def _request(found: dict[str, Any]) -> str:
    """An answered request, of the bridge's log or of Caddy's."""
    request = found.get("request")
    if isinstance(request, dict) and "status" in found:
        seconds = found.get("duration")
        took = f" {seconds * 1000:.1f} ms" if isinstance(seconds, int | float) else ""
        who = request.get("client_ip", "")
        return f"{request.get('method')} {request.get('uri')} {found['status']}{took} {who}".strip()
    if found.get("event") == "request" and "path" in found:
        parts = [found.get("method"), found["path"], found.get("status"), f"{found.get('ms')} ms"]
        parts += [found.get("by"), found.get("code")]
        return " ".join(str(part) for part in parts if part)
    return ""


def _event(found: dict[str, Any]) -> str:
    event = found.get("event", "")
    if "msg" in found:
        event = ": ".join(str(found[name]) for name in ("logger", "msg") if found.get(name))
    elif event == "connection-event" and "kind" in found:
        event = found["kind"]
    details = [f"{name}={_value(value)}" for name, value in found.items() if name not in _NOISE]
    return " ".join([str(event), *details]).strip()


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=') else text
