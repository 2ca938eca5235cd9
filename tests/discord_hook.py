"""A web hook that is as Discord's: takes `{"content": …}`, and answers 204 without a body."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class DiscordHook:
    """Where it listens, and the contents that reached it."""

    address: str
    received: list[str] = field(default_factory=list)


@contextmanager
def discord_hook() -> Iterator[DiscordHook]:
    """One on this machine; what has no content is refused with 400, as Discord does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["content"]
            hook.received.append(content)
            self.send_response(204 if content else 400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = DiscordHook(
        f"json://127.0.0.1:{server.server_port}/api/webhooks/1/token?:message=content"
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
