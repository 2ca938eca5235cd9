"""Small questions over sockets: HTTP/1.0, TLS, and the engine's own socket."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infrastructure.health import probes
from infrastructure.health.probes import LIMIT, get
from infrastructure.runtime import containers
from tests.closed_port import closed_port

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
    with closed_port() as port:
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
        assert json.loads(containers.inspect_project("gangway-prod") or "") == [{"Id": "a"}]
    assert b"com.docker.compose.project%3Dgangway-prod" in asked[0]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([["7", "java", "-Xmx256m"]], ["java -Xmx256m"]),
        ([], []),
        (None, []),  # Docker 20.10, of a container that is just ending
    ],
)
def test_command_lines(
    engine: socket.socket, rows: list[list[str]] | None, lines: list[str]
) -> None:
    body = json.dumps({"Processes": rows, "Titles": ["PID", "COMMAND"]}).encode()
    with answering(engine, lambda _: http(body)):
        assert containers.top("a") == lines


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
    assert containers.inspect_project("p") is None


def test_an_error_of_the_engine_is_left_to_the_command(engine: socket.socket) -> None:
    with answering(engine, lambda _: http(b"{}", "500 Internal Server Error")):
        assert containers.inspect_project("p") is None


@contextmanager
def served(folder: Path, answer: bytes) -> Iterator[int]:
    """A TLS server with a certificate that nobody has signed; the answer to whatever is asked."""
    key, certificate = folder / "key", folder / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=x", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(listener.accept()[0], server_side=True) as client,
            ):
                client.recv(65_536)
                client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(5)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("200 OK", (True, "")),
        ("199 Odd", (False, "it answers with status 199")),
        ("502 Bad Gateway", (False, "it answers with status 502")),
    ],
)
def test_caddy_is_asked_over_tls_whoever_signed_it(
    tmp_path: Path, status: str, found: tuple[bool, str]
) -> None:
    with served(tmp_path, http(b"{}", status)) as port:
        assert probes.caddy("127.0.0.1", port, "localhost") == found


def test_without_tls_or_anybody_the_reason_is_told(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with answering(listener, lambda _: http(b"{}")):
        well, why = probes.caddy("127.0.0.1", port, "localhost")
        assert (well, why.startswith("no TLS for localhost yet: ")) == (False, True)
    assert probes.caddy("127.0.0.1", port, "localhost") == (
        False,
        f"no answer on port {port}: Connection refused",
    )


def test_an_answer_has_a_longest_length(listener: socket.socket) -> None:
    head = http(b"")
    port = listener.getsockname()[1]
    whole = [LIMIT - len(head), LIMIT - len(head) + 1]
    assert LIMIT == 16_777_216
    with answering(listener, lambda _: head + bytes(whole.pop(0))):
        with socket.create_connection(("127.0.0.1", port), 5) as stream:
            status, body = get(stream, "/", "x")
            assert (status, len(body)) == (200, LIMIT - len(head))
        with (
            socket.create_connection(("127.0.0.1", port), 5) as stream,
            pytest.raises(OSError, match="too long"),
        ):
            get(stream, "/", "x")


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1", b"SSH-2.0 200 x", b"HTTP/1.1 ok 200", b"200 HTTP/1.1 x"]
)
def test_what_is_no_answer_of_http_is_none(listener: socket.socket, said: bytes) -> None:
    port = listener.getsockname()[1]
    with (
        answering(listener, lambda _: said),
        socket.create_connection(("127.0.0.1", port), 5) as stream,
        pytest.raises(OSError, match="no HTTP answer"),
    ):
        get(stream, "/", "x")


def test_a_status_without_words_is_one(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with (
        answering(listener, lambda _: b"HTTP/1.1 204\r\n\r\n"),
        socket.create_connection(("127.0.0.1", port), 5) as stream,
    ):
        assert get(stream, "/", "x") == (204, b"")


@pytest.mark.parametrize("status", ["401", "403", "429"])
def test_only_a_key_that_is_refused_is_left_out(listener: socket.socket, status: str) -> None:
    port = listener.getsockname()[1]
    with answering(listener, lambda _: http(b"[]", f"{status} x")) as asked:
        assert probes.ready("127.0.0.1", port, "old") == (int(status), [])
    assert len(asked) == 2


@pytest.mark.parametrize("status", ["200", "400", "402", "404", "428", "430", "503"])
def test_another_answer_is_the_answer(listener: socket.socket, status: str) -> None:
    port = listener.getsockname()[1]
    with answering(listener, lambda _: http(b"[]", f"{status} x")) as asked:
        assert probes.ready("127.0.0.1", port, "old") == (int(status), [])
    assert len(asked) == 1


def test_nobody_is_waited_for_longer_than_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[object, float]] = []

    def refused(address: object, seconds: float) -> socket.socket:
        waited.append((address, seconds))
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    assert probes.bridge("192.0.2.1", 8080, "/ping") == (0, None)
    assert probes.ready("192.0.2.1", 8080, "k") == (0, None)
    assert probes.caddy("192.0.2.1", 443, "x")[0] is False
    assert waited == [
        (("192.0.2.1", 8080), 3.0),
        (("192.0.2.1", 8080), 3.0),
        (("192.0.2.1", 443), 3.0),
    ]
