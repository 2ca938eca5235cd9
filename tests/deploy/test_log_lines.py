"""Log lines as people read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infrastructure.cli.commands.logs import readable


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            {"method": "GET", "path": "/quote/{symbol}", "status": 200, "ms": 5.6}
            | {"by": "phone", "code": "", "event": "request", "requestId": "1a", "level": "info"},
            "GET /quote/{symbol} 200 5.6 ms phone",
        ),
        (
            {"event": "connection-event", "kind": "state", "previous": "connecting"}
            | {"state": "ready", "level": "info", "timestamp": "2026-11-28T15:20:24Z"},
            "state previous=connecting state=ready",
        ),
        (
            {"event": "stop-failed", "error": "a b", "level": "warning"},
            'WARNING stop-failed error="a b"',
        ),
        (
            {"level": "info", "msg": "handled request", "status": 404, "duration": 0.0014}
            | {"request": {"method": "GET", "uri": "/x", "client_ip": "192.0.2.9"}},
            "GET /x 404 1.4 ms 192.0.2.9",
        ),
        (
            {"level": "error", "logger": "tls", "msg": "no certificate", "identifier": "a.b"},
            "ERROR tls: no certificate identifier=a.b",
        ),
        ([1], "[1]"),
        ("2026-11-28 15:00:00:000 IBC: Login has completed", None),
        ("{half a line", None),
    ],
)
def test_lines(line: Any, shown: str | None) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    assert readable(text) == (text if shown is None else shown)
