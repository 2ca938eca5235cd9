"""A small HTTP/1.1 server on asyncio for the control port and the Client Portal.

Bounded everywhere: 16 KiB of head, 1 MiB of body, 30 s to send a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024
IDLE_SECONDS = 30.0


class BadRequestError(ValueError):
    """The request cannot be understood; the text is for the caller."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Request:
    """One request; header names are lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; an empty body is an empty object.

        Raises:
            BadRequestError: it is not JSON.
        """
        if not self.body.strip():
            return {}
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise BadRequestError("the body is not JSON") from error

    def fields(self) -> dict[str, Any]:
        """The JSON object of the body joined with the query; anything else counts as empty."""
        try:
            decoded = self.json()
        except BadRequestError:
            decoded = {}
        return {**self.query, **(decoded if isinstance(decoded, dict) else {})}


@dataclass(frozen=True)
class Response:
    """An answer; `silent` means that none is given and the connection is left hanging."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Response:
        kinds = {"Content-Type": "application/json", **headers}
        return cls(status, json.dumps(value).encode(), kinds)


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Listens until closed; `port` is the one that it got."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, listen: str, port: int) -> None:
        """Begin to listen; port 0 takes a free one."""
        self._server = await asyncio.start_server(self._serve, listen, port, limit=HEAD_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await serve_connection(reader, writer, self._handler)


async def serve_connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
) -> None:
    """Answers the requests of one connection, one after the other, until it ends."""
    try:
        with suppress(OSError, EOFError, asyncio.CancelledError, TimeoutError):
            while await _exchange(reader, writer, handler):
                pass
    finally:
        writer.close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
) -> bool:
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            request = await _read_request(reader)
        response = await handler(request)
        keep = request.headers.get("connection", "").lower() != "close"
    except ValueError as error:
        status = error.status if isinstance(error, BadRequestError) else HTTPStatus.BAD_REQUEST
        response, keep = Response.json({"error": str(error)}, status), False
    if response.silent:
        # The client's own time-out ends this; reading notices that it went away.
        await reader.read(1)
        return False
    writer.write(_encoded(response, keep))
    await writer.drain()
    return keep


async def _read_request(reader: asyncio.StreamReader) -> Request:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError:
        raise BadRequestError(
            "the head is too large", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        ) from None
    first, *lines = head.split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError("the request line is malformed")
    headers = dict(_header(line) for line in lines if line)
    body = await reader.readexactly(_length(headers))
    try:
        url = urlsplit(parts[1])
    except ValueError:
        raise BadRequestError("the address is malformed") from None
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    return Request(parts[0].upper(), url.path, query, headers, body)


def _header(line: str) -> tuple[str, str]:
    name, separator, value = line.partition(":")
    if not separator or not name:
        raise BadRequestError("a header is malformed")
    return name.strip().lower(), value.strip()


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError("say how long the body is", HTTPStatus.LENGTH_REQUIRED)
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 9:
        raise BadRequestError("the body's length is malformed")
    if int(length) > BODY_LIMIT:
        raise BadRequestError("the body is too large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(length)


def _encoded(response: Response, keep: bool) -> bytes:
    reason = HTTPStatus(response.status).phrase
    headers = {
        "Content-Length": str(len(response.body)),
        "Connection": "keep-alive" if keep else "close",
        **response.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {reason}\r\n{lines}\r\n".encode("latin-1") + response.body
