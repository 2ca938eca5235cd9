"""The gateway's health check, run by bash against sockets that behave like gateways do."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from infrastructure.render.model import TEMPLATES
from tests.closed_port import closed_port

Serve = Callable[[socket.socket], None]


@contextmanager
def gateway(serve: Serve) -> Iterator[int]:
    """Accepts one connection and serves it; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            connection, _ = server.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield server.getsockname()[1]
        thread.join(20)


def check(*ports: int, deadline: str = "60") -> tuple[int, str]:
    """Exit code and output; the deadline inside the script is the test's."""
    script = (TEMPLATES / "gateway" / "healthcheck.sh").read_text()
    script = script.replace("timeout 5", f"timeout {deadline}")
    done = subprocess.run(
        ["bash", "-c", script, "healthcheck.sh", *map(str, ports)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def greeting(connection: socket.socket) -> bytes:
    return connection.recv(64)


def frame(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def test_a_gateway_that_answers() -> None:
    seen = []

    def serve(connection: socket.socket) -> None:
        seen.append(greeting(connection))
        connection.sendall(frame(b"178\x0020260102 10:11:12 EST\x00"))

    with gateway(serve) as port:
        assert check(port) == (0, f"API answers on {port}, server version 178")
    assert seen == [b"API\0" + frame(b"v157..178")]


def test_an_answer_in_pieces() -> None:
    def serve(connection: socket.socket) -> None:
        greeting(connection)
        for byte in frame(b"176\x0020260102 10:11:12 EST\x00"):
            connection.sendall(bytes([byte]))

    with gateway(serve) as port:
        assert check(port)[0] == 0


def test_refused() -> None:
    with closed_port() as port:
        assert check(port) == (1, f"API on {port} refuses: not logged in yet")


def test_relay_that_accepts_and_closes() -> None:
    with gateway(lambda connection: None) as port:
        code, text = check(port)
    assert code == 1
    assert "does not answer" in text


def test_hung_gateway_is_given_up() -> None:
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        greeting(connection)
        done.wait(20)

    with gateway(serve) as port:
        code, text = check(port, deadline="1.5")
        done.set()
    assert (code, text) == (1, f"API on {port} accepts but does not answer within 5 s")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(b"hello\0world\0"),
        frame(b"12\0old\0"),
        struct.pack(">I", 5_000_000),
    ],
)
def test_something_else_answers(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        greeting(connection)
        connection.sendall(answer)

    with gateway(serve) as port:
        code, text = check(port)
    assert (code, text) == (1, f"API on {port} answers something else")


def test_both_sessions_must_answer() -> None:
    def serve(connection: socket.socket) -> None:
        greeting(connection)
        connection.sendall(frame(b"178\x0020260102 10:11:12 EST\x00"))

    with closed_port() as closed, gateway(serve) as port:
        code, text = check(port, closed)
    assert code == 1
    assert text.splitlines()[-1] == f"API on {closed} refuses: not logged in yet"
