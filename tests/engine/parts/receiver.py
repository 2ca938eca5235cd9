"""A web hook on this machine that containers reach, and what came to it."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.engine.parts.engine import docker


class Receiver(ThreadingHTTPServer):
    """Takes every message."""

    daemon_threads = True

    def __init__(self) -> None:
        gateway = "{{(index .IPAM.Config 0).Gateway}}"
        self.host = docker("network", "inspect", "bridge", "--format", gateway).strip()
        super().__init__((self.host, 0), _Handler)
        self.received: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"json://{self.host}:{self.server_port}/hook"

    def wait(self, title: str, seconds: float = 30) -> dict[str, Any]:
        """The first message whose title ends so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in self.received:
                if message["title"].endswith(title):
                    return message
            time.sleep(0.1)
        raise AssertionError(f"no '{title}' among {[one['title'] for one in self.received]}")

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
