"""The page and its WebSocket over real sockets, before a server that answers bytes with bytes."""

import http.client
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from infrastructure.errors import UsageError
from infrastructure.screen import server
from infrastructure.screen.access import Access, our_users, owner_of
from infrastructure.screen.server import served

TOLD = {"password": "s3cret-8", "name": "prod"}


class Far(socketserver.ThreadingTCPServer):
    """Speaks first, as a VNC server does, then answers in capitals; ends when it hears `bye`."""

    daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"RFB 003.008\n")
            while (chunk := self.request.recv(100)) and chunk != b"bye":
                self.request.sendall(chunk.upper())

    RequestHandlerClass: Any = Handler


@pytest.fixture
def far() -> Iterator[tuple[str, int]]:
    with Far(("127.0.0.1", 0), Far.Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()


@pytest.fixture
def access(far: tuple[str, int]) -> Iterator[Access]:
    with served(lambda: socket.create_connection(far, 30), TOLD) as found:
        yield found


def get(access: Access, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", access.port, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=names)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def traded(access: Access) -> str:
    status, body, _ = get(access, "/key", Authorization=f"Bearer {access.ticket}")
    assert status == 200
    found = json.loads(body)
    assert {name: found[name] for name in TOLD} == TOLD
    key: str = found["key"]
    return key


def opened(access: Access, key: str, origin: str | None = "") -> ClientConnection:
    shown = f"http://127.0.0.1:{access.port}" if origin == "" else origin
    return connect(
        f"ws://127.0.0.1:{access.port}/screen",
        subprotocols=[Subprotocol("binary"), Subprotocol(key)],
        origin=None if shown is None else Origin(shown),
        open_timeout=30,
    )


def test_the_page_and_the_client_are_served_and_nothing_else(access: Access) -> None:
    status, body, headers = get(access, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"screen.js" in body
    for forbidden in ("frame-ancestors 'none'", "default-src 'none'"):
        assert forbidden in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    status, body, headers = get(access, "/novnc/core/rfb.js?x=1")
    assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert b"export default class RFB" in body
    for path in ("/novnc/vnc.html", "/../access.py", "/novnc/../server.py", "/favicon.ico"):
        assert get(access, path)[0] == 404


def test_bytes_go_both_ways_for_the_tab_that_brings_the_ticket(access: Access) -> None:
    assert access.address == f"http://127.0.0.1:{access.port}/#{access.ticket}"
    key = traded(access)
    assert access.used
    with opened(access, key) as tab:
        assert tab.subprotocol == "binary"
        assert tab.recv(30) == b"RFB 003.008\n"
        tab.send(b"hello")
        assert tab.recv(30) == b"HELLO"
        with opened(access, key) as reloaded:
            assert reloaded.recv(30) == b"RFB 003.008\n"
        tab.send(b"bye")
        with pytest.raises(ConnectionClosed):
            tab.recv(30)


def test_the_ticket_is_good_once_even_for_many_at_a_time(access: Access) -> None:
    statuses: list[int] = []

    def trade() -> None:
        statuses.append(get(access, "/key", Authorization=f"Bearer {access.ticket}")[0])

    threads = [threading.Thread(target=trade) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, *[403] * 7]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": "Bearer \xfc"},
        {"Authorization": "Basic {ticket}"},
        {"Authorization": "Bearer {ticket}", "Sec_Fetch_Site": "cross-site"},
    ],
)
def test_without_the_ticket_nothing_is_told(access: Access, headers: dict[str, str]) -> None:
    shown = {name: value.replace("{ticket}", access.ticket) for name, value in headers.items()}
    status, body, _ = get(access, "/key", **shown)
    assert status == 403
    assert b"s3cret" not in body
    traded(access)


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:{port}", "127.0.0.1", ""])
def test_a_name_that_is_bent_to_this_machine_gets_nothing(access: Access, host: str) -> None:
    shown = host.replace("{port}", str(access.port))
    for path in ("/", "/key", "/screen"):
        status, _, _ = get(access, path, Host=shown, Authorization=f"Bearer {access.ticket}")
        assert status == 421
    assert not access.used


@pytest.mark.parametrize(
    "origin",
    [None, "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://evil.example"],
)
def test_another_page_opens_no_socket_even_with_the_key(access: Access, origin: str | None) -> None:
    key = traded(access)
    shown = origin.replace("{port}", str(access.port)) if origin else None
    with pytest.raises(InvalidStatus) as refused, opened(access, key, shown):
        pass
    assert refused.value.response.status_code == 403


def test_no_socket_opens_without_the_key_or_before_it_was_handed_out(access: Access) -> None:
    for key in ("x", access.ticket, access._key):
        with pytest.raises(InvalidStatus), opened(access, key):
            pass
    key = traded(access)
    for wrong in (key[:-1], access.ticket):
        with pytest.raises(InvalidStatus), opened(access, wrong):
            pass
    with opened(access, key) as tab:
        assert tab.recv(30) == b"RFB 003.008\n"


def test_another_user_of_the_machine_is_refused(
    far: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "our_users", lambda: frozenset({os.getuid() + 1}))
    with served(lambda: socket.create_connection(far, 30), TOLD) as access:
        for path in ("/", "/key"):
            status, body, _ = get(access, path, Authorization=f"Bearer {access.ticket}")
            assert (status, b"another user" in body) == (403, True)
        assert not access.used


def test_the_owner_of_a_connection_is_known() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        ends = client.getsockname(), server.getsockname()
        assert owner_of(*ends) == os.getuid()
        assert owner_of(ends[0], ("127.0.0.1", 9)) is None
        assert owner_of(*ends, table=Path("/none")) is None
    assert os.getuid() in our_users()


def test_the_end_closes_an_open_screen_soon_and_the_port(far: tuple[str, int]) -> None:
    with ExitStack() as open_things:
        with served(lambda: socket.create_connection(far, 30), TOLD) as access:
            here = ("127.0.0.1", access.port)
            tab = open_things.enter_context(opened(access, traded(access)))
            assert tab.recv(30) == b"RFB 003.008\n"
            # As browsers open ahead.
            open_things.enter_context(socket.create_connection(here))
            ending = time.monotonic()
        assert time.monotonic() - ending < 20
        with pytest.raises(ConnectionClosed):
            tab.recv(30)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", access.port))


def test_a_vnc_server_that_is_gone_ends_the_socket() -> None:
    def nowhere() -> socket.socket:
        raise ConnectionRefusedError

    with (
        served(nowhere, TOLD) as access,
        opened(access, traded(access)) as tab,
        pytest.raises(ConnectionClosed),
    ):
        tab.recv(30)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)) as told, served(lambda: None, TOLD, port):
            pass
    assert told.value.code == "local-port-taken"


def test_a_package_without_the_client_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"x")
    for name in ("broken.zip", "none.zip"):
        with pytest.raises(UsageError) as told:
            server.read_client(tmp_path / name)
        assert told.value.code == "no-web-viewer"


def test_only_the_client_is_taken_out_of_the_package() -> None:
    found = server.client_files()
    assert {"core/rfb.js", "vendor/pako/lib/zlib/inflate.js"} <= found.keys()
    assert all(name.startswith(("core/", "vendor/")) for name in found)


@pytest.mark.parametrize(
    ("variables", "opens"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "x"}, False),
        ({"DISPLAY": ":0", "BROWSER": "lynx"}, False),
    ],
)
def test_a_browser_is_started_on_a_desktop_only(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], opens: bool
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    class Controller:
        name = variables.get("BROWSER", "firefox")

    monkeypatch.setattr("webbrowser.get", Controller)
    assert server.can_open() is opens
