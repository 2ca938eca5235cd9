"""The ASGI application: every subject's routes behind one middleware."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope
from starlette.websockets import WebSocket

from bridge import __version__
from bridge.api import openapi
from bridge.api.dispatch import PathEndpoint, failed
from bridge.api.metrics import HttpMetrics, SessionCollector
from bridge.api.middleware import RequestMiddleware
from bridge.api.routing import IDEMPOTENCY_KEY, Call, Route, RouteTable
from bridge.callers import GuestBudget, Scope, Shares
from bridge.errors import NotFoundError
from bridge.orders.rules import load
from bridge.services import Services


def create_app(services: Services, tables: Iterable[RouteTable]) -> ASGIApp:
    """The application of one bridge; it starts and stops nothing."""
    tables = list(tables)
    key_needed = load(services.environment.trading_file).require_idempotency_key
    tables.append(_documentation(list(tables), (IDEMPOTENCY_KEY,) if key_needed else ()))
    services.metrics.register(SessionCollector(services))
    environment = services.environment
    return RequestMiddleware(
        Router(services, tables),
        HttpMetrics(services.metrics),
        max_body=environment.max_body_bytes,
        max_pending=environment.max_pending,
    )


class Router:
    """Finds the endpoint of a path: at once where it has no parameters, else by its first part.

    A path with a slash too many is another path: a redirect would have the key sent twice.
    """

    def __init__(self, services: Services, tables: Iterable[RouteTable]) -> None:
        self._services = services
        self._streams = {each.path: each.handler for table in tables for each in table.websockets}
        self._fixed: dict[str, PathEndpoint] = {}
        self._patterns: dict[str, list[tuple[re.Pattern[str], str, PathEndpoint]]] = {}
        by_path: dict[str, list[Route]] = {}
        for table in tables:
            for route in table.routes:
                by_path.setdefault(route.path, []).append(route)
        pending = Shares(services.environment.max_pending)
        guests = GuestBudget(services.clock)
        for path, routes in by_path.items():
            endpoint = PathEndpoint(services, routes, pending, guests)
            if "{" in path:
                found = self._patterns.setdefault(path[1:].partition("/")[0], [])
                found.append((_pattern(path), path, endpoint))
            else:
                self._fixed[path] = endpoint

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._stream(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive, send)
        endpoint = self._endpoint(scope)
        if endpoint is None:
            response = failed(request, NotFoundError(f"there is no {request.url.path}"))
        else:
            response = await endpoint(request)
        await response(scope, receive, send)

    def _endpoint(self, scope: ASGIScope) -> PathEndpoint | None:
        path = scope["path"]
        fixed = self._fixed.get(path)
        if fixed is not None:
            scope["route_path_template"] = path
            return fixed
        for pattern, template, endpoint in self._patterns.get(path[1:].partition("/")[0], ()):
            if found := pattern.fullmatch(path):
                scope["path_params"], scope["route_path_template"] = found.groupdict(), template
                return endpoint
        return None

    async def _stream(self, socket: WebSocket) -> None:
        handler = self._streams.get(socket.scope["path"])
        if handler is None:
            await socket.close()
        else:
            await handler(self._services, socket)


def _pattern(path: str) -> re.Pattern[str]:
    """`/order/{id}` as an expression; `{path:path}` takes slashes too."""
    parts = re.split(r"{(\w+)(:path)?}", path)
    literals, names, kinds = parts[::3], parts[1::3], parts[2::3]
    text = re.escape(literals[0])
    for name, kind, literal in zip(names, kinds, literals[1:], strict=True):
        text += f"(?P<{name}>{'.*' if kind else '[^/]+'})" + re.escape(literal)
    return re.compile(text, re.DOTALL)


def document(tables: Iterable[RouteTable]) -> dict[str, Any]:
    """The OpenAPI document of all routes, with the limits that hold where none are set."""
    return openapi.document(
        [*tables, _documentation([], ())], __version__, required=(IDEMPOTENCY_KEY,)
    )


def _documentation(tables: list[RouteTable], required: tuple[str, ...]) -> RouteTable:
    """Made once, in a thread, and kept: it takes half a second, and needs no key."""
    table = RouteTable("documentation")
    answers: dict[str, bytes] = {}
    making = asyncio.Lock()

    def found() -> dict[str, Any]:
        return openapi.document([*tables, table], __version__, required=required)

    def encoded() -> bytes:
        return msgspec.json.encode(found())

    def page() -> bytes:
        return openapi.page(found()).encode()

    async def made(name: str, make: Callable[[], bytes]) -> bytes:
        async with making:
            if name not in answers:
                answers[name] = await asyncio.to_thread(make)
        return answers[name]

    async def as_json() -> Response:
        return Response(await made("json", encoded), media_type="application/json")

    @table.get("/openapi.json", answer=dict[str, Any])
    async def openapi_document(call: Call[None, None]) -> Response:
        """This interface as an OpenAPI 3.1 document."""
        return await as_json()

    @table.get("/docs/openapi.json", answer=dict[str, Any], scope=Scope.PUBLIC)
    async def public_document(call: Call[None, None]) -> Response:
        """The same as `/openapi.json`, for the link on `/docs`, which no key can be put into."""
        return await as_json()

    @table.get("/docs", answer=str, scope=Scope.PUBLIC, media_types=("text/html",))
    async def documentation(call: Call[None, None]) -> HTMLResponse:
        """This interface as a page for people."""
        return HTMLResponse(
            await made("page", page), headers={"Content-Security-Policy": openapi.POLICY}
        )

    return table
