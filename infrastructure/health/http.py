"""Questions over an open socket, as HTTP/1.0. Runs on the host: standard library, Python 3.9.

Its own few lines, because they are sent and loaded with every command: http.client and what it
loads would take longer than all questions together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

LIMIT = 16 * 1024 * 1024


def get(stream: socket.socket, path: str, host: str) -> tuple[int, bytes]:
    """`ask` without anything to send."""
    return ask(stream, "GET", path, host, {})


def ask(
    stream: socket.socket,
    method: str,
    path: str,
    host: str,
    headers: dict[str, str],
    content: bytes = b"",
) -> tuple[int, bytes]:
    """The status and the body; OSError when the other side does not speak HTTP."""
    lines = [f"{method} {path} HTTP/1.0", f"Host: {host}"]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
    answer = bytearray()
    while chunk := stream.recv(65_536):
        answer += chunk
        if len(answer) > LIMIT:
            raise OSError("the answer is too long")
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError(f"no HTTP answer: {head[:60].decode('latin-1')!r}")
    return int(words[1]), body
