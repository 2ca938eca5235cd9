"""The ASGI application: every subject's routes behind one middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from bridge import __version__
from bridge.api import docs_page, openapi
from bridge.api.dispatch import FixedPaths, PathEndpoint, failed
from bridge.api.metrics import HttpMetrics, SessionCollector
from bridge.api.middleware import RequestMiddleware
from bridge.api.routing import IDEMPOTENCY_KEY, Call, RouteTable, WebSocketHandler
from bridge.api.routing import Route as Operation
from bridge.callers import Scope, Shares
from bridge.errors import NotFoundError
from bridge.orders.rules import load
from bridge.services import Services
from bridge.tws.session import TwsSession


def create_app(services: Services, tables: Iterable[RouteTable]) -> ASGIApp:
    """The application of one bridge; it starts and stops nothing."""
    tables = list(tables)
    key_needed = load(services.environment.trading_file).require_idempotency_key
    tables.append(_documentation(list(tables), (IDEMPOTENCY_KEY,) if key_needed else ()))
    routes: list[BaseRoute] = []
    by_path: dict[str, list[Operation]] = {}
    for table in tables:
        for operation in table.routes:
            by_path.setdefault(operation.path, []).append(operation)
        routes += [
            WebSocketRoute(socket.path, _websocket(services, socket.handler))
            for socket in table.websockets
        ]
    pending = Shares(services.environment.max_pending)
    endpoints = {path: PathEndpoint(services, by_path[path], pending) for path in by_path}
    with_parameters = sorted(
        (path for path in endpoints if "{" in path), key=lambda path: path.count("{")
    )
    routes += [_Route(path, endpoints.pop(path)) for path in with_parameters]
    router = Starlette(routes=routes, exception_handlers={404: _not_found})
    router.router.redirect_slashes = False  # a redirect would have the key sent twice
    services.metrics.register(SessionCollector(services[TwsSession].context))
    environment = services.environment
    return RequestMiddleware(
        FixedPaths(router, endpoints),
        HttpMetrics(services.metrics),
        max_body=environment.max_body_bytes,
        max_pending=environment.max_pending,
    )


def document(tables: Iterable[RouteTable]) -> dict[str, Any]:
    """The OpenAPI document of all routes, with the limits that hold where none are set."""
    return openapi.document(
        [*tables, _documentation([], ())], __version__, required=(IDEMPOTENCY_KEY,)
    )


class _Route(Route):
    """One path with all of its methods: the endpoint answers 405 itself, as a problem document."""

    def __init__(self, path: str, endpoint: PathEndpoint) -> None:
        async def answer(request: Request) -> Response:
            request.scope["route_path_template"] = path
            return await endpoint(request)

        super().__init__(path, answer)
        self.methods = None


def _websocket(
    services: Services, handler: WebSocketHandler
) -> Callable[[WebSocket], Awaitable[None]]:
    async def serve(socket: WebSocket) -> None:
        await handler(services, socket)

    return serve


async def _not_found(request: Request, _: Exception) -> Response:
    return failed(request, NotFoundError(f"there is no {request.url.path}"))


def _documentation(tables: list[RouteTable], required: tuple[str, ...]) -> RouteTable:
    table = RouteTable("documentation")

    def as_json() -> Response:
        found = openapi.document([*tables, table], __version__, required=required)
        return Response(msgspec.json.encode(found), media_type="application/json")

    @table.get("/openapi.json", answer=dict[str, Any])
    async def openapi_document(call: Call[None, None]) -> Response:
        """This interface as an OpenAPI 3.1 document."""
        return as_json()

    @table.get("/docs/openapi.json", answer=dict[str, Any], scope=Scope.PUBLIC)
    async def public_document(call: Call[None, None]) -> Response:
        """The same as `/openapi.json`, for the link on `/docs`, which no key can be put into."""
        return as_json()

    @table.get("/docs", answer=str, scope=Scope.PUBLIC, media_types=("text/html",))
    async def documentation(call: Call[None, None]) -> HTMLResponse:
        """This interface as a page for people."""
        found = openapi.document([*tables, table], __version__, required=required)
        html = docs_page.page(found)
        return HTMLResponse(html, headers={"Content-Security-Policy": docs_page.POLICY})

    return table
