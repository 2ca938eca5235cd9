"""Asks a Client Portal gateway that nobody is logged in to, and prints what it answers as JSON.

Usage: portal.py PORT. It waits until the gateway listens, at most a minute.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SILENCE_SECONDS = 3.0
ORIGIN = {"Origin": "https://app.example"}
PREFLIGHT = {**ORIGIN, "Access-Control-Request-Method": "POST"}
API = "/v1/api"
REAUTHENTICATE = f"{API}/iserver/reauthenticate"
CALLS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("GET", "/", {}),
    ("HEAD", "/", {}),
    ("GET", "/?a=1", {}),
    ("OPTIONS", "/", {}),
    ("GET", "/", ORIGIN),
    ("GET", "/nothing", {}),
    ("GET", "/nothing?x=1&y=2", {}),
    ("POST", "/nothing", {}),
    ("GET", "/favicon.ico", {}),
    ("GET", "/v1", {}),
    ("GET", API, {}),
    ("GET", "/v1/portal", {}),
    ("GET", "/portal", {}),
    ("GET", "/oauth", {}),
    ("POST", REAUTHENTICATE, {}),
    ("POST", REAUTHENTICATE, ORIGIN),
    ("GET", REAUTHENTICATE, {}),
    ("PUT", REAUTHENTICATE, {}),
    ("OPTIONS", REAUTHENTICATE, {}),
    ("POST", "/v1/portal/iserver/reauthenticate", {}),
    ("OPTIONS", REAUTHENTICATE, PREFLIGHT),
    ("OPTIONS", f"{API}/tickle", PREFLIGHT),
    ("OPTIONS", "/", PREFLIGHT),
    ("OPTIONS", "/nothing", PREFLIGHT),
    ("OPTIONS", "/sso/Login", PREFLIGHT),
    ("OPTIONS", f"{API}/iserver/accounts", {}),
    ("GET", "/sso/Login", {}),
    ("POST", "/sso/Dispatcher", {}),
    ("GET", f"{API}/iserver/auth/status", {}),
    ("POST", f"{API}/iserver/auth/status", {}),
    ("POST", f"{API}/iserver/auth/ssodh/init", {}),
    ("GET", f"{API}/tickle", {}),
    ("POST", f"{API}/tickle", {}),
    ("GET", f"{API}/sso/validate", {}),
    ("POST", f"{API}/logout", {}),
    ("GET", f"{API}/iserver/accounts", {}),
    ("GET", f"{API}/portfolio/accounts", {}),
    ("GET", f"{API}/unknown", {}),
    ("GET", "/v1/portal/tickle", {}),
)
SHOWN = ("location", "content-type", "access-control-allow-origin")
SHOWN += ("access-control-allow-methods", "access-control-allow-headers")


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def ask(port: int, method: str, path: str, headers: dict[str, str]) -> Any:
    """Status, headers and body; None when there is no answer."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, context=context(), timeout=SILENCE_SECONDS
    )
    body = "" if method in ("POST", "PUT") else None
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
    except TimeoutError:
        return None
    finally:
        connection.close()
    kept = {name: answer.getheader(name) for name in SHOWN if answer.getheader(name)}
    return {"status": answer.status, "body": content.decode(), **kept}


def secured(port: int) -> dict[str, Any]:
    """The newest TLS that it speaks, and what its certificate says."""
    plain = socket.create_connection(("127.0.0.1", port))
    with plain, context().wrap_socket(plain) as wrapped:
        found = wrapped.getpeercert(binary_form=True)
        version = wrapped.version()
    assert found is not None
    return {"tls": version, "digest": hashlib.sha256(found).hexdigest(), "der": found.hex()}


def wait(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def main() -> None:
    port = int(sys.argv[1])
    wait(port)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: ask(port, *call), CALLS))
    seen = [
        {"call": f"{method} {path}", "headers": sorted(headers), "answer": answer}
        for (method, path, headers), answer in zip(CALLS, answers, strict=True)
    ]
    print(json.dumps({"secured": secured(port), "answers": seen}))


if __name__ == "__main__":
    main()
