"""What every request passes first: an id, limits, a line in the log, a count in the metrics."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api import problems
from bridge.api.errors import BodyTooLargeError, TooManyPendingError
from bridge.api.metrics import HttpMetrics
from bridge.errors import BridgeError

log = structlog.get_logger(__name__)
_SAFE_ID = re.compile(
    r"[A-Za-z0-9._-]{1,15}|[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
"""A client's own id stands in every log: it is short, a UUID or a trace's id, never a key."""
ALWAYS = ("/ping", "/ready", "/health", "/metrics")  # answered however much is pending


def is_always(method: str, path: str) -> bool:
    """Whether a request is taken however much is pending: so are cancels and the kill switch."""
    if path in ALWAYS:
        return True
    return (method == "DELETE" and path.startswith("/order/")) or (
        method == "POST" and path == "/trading/halt"
    )


SECURITY_HEADERS: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Gate:
    """A plain ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, metrics: HttpMetrics, *, max_body: int, max_pending: int
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body = max_body
        self._max_pending = max_pending
        self.pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _id(scope)
        scope["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(requestId=request_id)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._http(scope, receive, send, request_id)

    async def _http(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        begun = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *SECURITY_HEADERS,
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        self.pending += 1
        try:
            refused = self._refusal(scope)
            if refused:
                await problems.response(refused, request_id)(scope, receive, observed)
            else:
                await self._app(scope, _Limited(receive, self._max_body), observed)
        except BodyTooLargeError as error:
            await problems.response(error, request_id)(scope, receive, observed)
        finally:
            self.pending -= 1
            self._finished(scope, status, time.perf_counter() - begun)

    def _refusal(self, scope: Scope) -> BridgeError | None:
        if self.pending > self._max_pending and not is_always(scope["method"], scope["path"]):
            return TooManyPendingError(f"{self.pending} requests are pending", retry_after=1.0)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            return _too_large(self._max_body)
        return None

    def _finished(self, scope: Scope, status: int, seconds: float) -> None:
        endpoint_path = scope.get("route_path_template", "unknown")
        self._metrics.finished(scope["method"], endpoint_path, status, seconds)
        write = log.info if status < 500 else log.warning
        if scope["path"] in ALWAYS:
            write = log.debug
        write(
            "request",
            method=scope["method"],
            path=endpoint_path,
            status=status,
            ms=round(seconds * 1000, 1),
            by=scope.get("key_id", ""),
            code=scope.get("problem_code", ""),
        )


class _Limited:
    """A receive that refuses a body which grows too large."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0

    async def __call__(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise _too_large(self._limit)
        return message


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {limit} bytes")


def _id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if _SAFE_ID.fullmatch(given) else secrets.token_hex(8)
