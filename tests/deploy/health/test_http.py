"""Small questions over sockets: HTTP/1.0, TLS, and the engine's own socket."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infrastructure.health import probes
from infrastructure.health.http import get
from infrastructure.runtime import engine_api

Answer = Callable[[bytes], bytes]


@contextmanager
def answering(listener: socket.socket, answer: Answer) -> Iterator[list[bytes]]:
    """Answers every connection once, and keeps what was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                asked.append(client.recv(65_536))
                client.sendall(answer(asked[-1]))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.fixture
def listener() -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    found.listen()
    return found


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n".encode() + body


def test_the_bridge_is_asked_with_its_key(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with answering(listener, lambda _: http(b'{"ready": true}')) as asked:
        assert probes.bridge("127.0.0.1", port, "/ready", "k3y") == (200, {"ready": True})
    assert asked[0].startswith(b"GET /ready HTTP/1.0\r\n")
    assert b"X-API-KEY: k3y\r\n" in asked[0]


def test_a_key_that_is_not_taken_yet_leaves_the_bare_answer(listener: socket.socket) -> None:
    port = listener.getsockname()[1]

    def answer(request: bytes) -> bytes:
        if b"X-API-KEY" in request:
            return http(b"{}", "401 Unauthorized")
        return http(b'{"ready": true}')

    with answering(listener, answer) as asked:
        assert probes.ready("127.0.0.1", port, "old") == (200, {"ready": True})
        assert probes.ready("127.0.0.1", port, "") == (200, {"ready": True})
    assert [b"X-API-KEY" in each for each in asked] == [True, False, False]


def test_something_can_be_sent_along(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with answering(listener, lambda _: http(b"{}", "201 Created")) as asked:
        status, _ = probes.bridge(
            "127.0.0.1", port, "/keys", "k", method="POST", body={"scope": "read"}
        )
    assert status == 201
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /keys HTTP/1.0")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"scope": "read"}


def test_no_answer_is_zero() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert probes.bridge("127.0.0.1", port, "/ready") == (0, None)


def test_an_answer_that_is_no_json(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with answering(listener, lambda _: http(b"<html>", "502 Bad Gateway")):
        assert probes.bridge("127.0.0.1", port, "/ready") == (502, None)


def test_what_is_no_http_is_an_error(listener: socket.socket) -> None:
    with (
        answering(listener, lambda _: b"SSH-2.0-x\r\n"),
        socket.create_connection(listener.getsockname()) as stream,
        pytest.raises(OSError, match="no HTTP answer"),
    ):
        get(stream, "/", "x")


def test_a_port_without_tls_is_no_caddy(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with answering(listener, lambda _: http(b"")):
        passed, reason = probes.caddy("127.0.0.1", port, "localhost")
    assert not passed
    assert "no TLS for localhost yet" in reason


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(tmp_path / "docker.sock"))
    found.listen()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    return found


def test_containers_of_a_project(engine: socket.socket) -> None:
    def answer(request: bytes) -> bytes:
        return http(b'[{"Id": "a"}]' if b"/containers/json" in request else b'{"Id": "a"}')

    with answering(engine, answer) as asked:
        assert json.loads(engine_api.inspect_project("gangway-prod") or "") == [{"Id": "a"}]
    assert b"com.docker.compose.project%3Dgangway-prod" in asked[0]


def test_command_lines(engine: socket.socket) -> None:
    body = json.dumps({"Processes": [["7", "java", "-Xmx256m"]]}).encode()
    with answering(engine, lambda _: http(body)):
        assert engine_api.top("a") == ["java -Xmx256m"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKER_HOST", "tcp://127.0.0.1:1"),
        ("DOCKER_HOST", "unix:///none"),
        ("DOCKER_CONTEXT", "x"),
    ],
)
def test_otherwise_the_command_is_asked(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert engine_api.inspect_project("p") is None


def test_an_error_of_the_engine_is_left_to_the_command(engine: socket.socket) -> None:
    with answering(engine, lambda _: http(b"{}", "500 Internal Server Error")):
        assert engine_api.inspect_project("p") is None
