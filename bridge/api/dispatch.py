"""From a ``Route`` to an answer: authenticate, check the input, call, encode.

Every failure is a problem document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from bridge import auditing
from bridge.api import problems
from bridge.api.auth import address_of, authenticate
from bridge.api.middleware import is_always
from bridge.api.problems import MethodNotAllowedError, StoppingError, TooManyPendingError
from bridge.api.reading import ParamsReader, read_body
from bridge.api.routing import ANONYMOUS, Call, Principal, Reply, Route
from bridge.auditing import Auditor, Caller, left_at_nothing
from bridge.callers import GUEST, SHORTEST, GuestBudget, Scope, Shares
from bridge.errors import BridgeError
from bridge.logs import without_keys
from bridge.services import Services

log = structlog.get_logger(__name__)
_encoder = msgspec.json.Encoder(decimal_format="number")
NOT_STORED: Final[Mapping[str, str]] = {"Cache-Control": "no-store"}


def request_id_of(request: Request) -> str:
    """The id that the gate gave this request."""
    return str(request.scope.get("request_id", ""))


def failed(request: Request, error: Exception) -> Response:
    """The answer to a request that raised."""
    request_id = request_id_of(request)
    if isinstance(error, BridgeError):
        request.scope["problem_code"] = error.code
        return problems.response(error, request_id)
    log.error(
        "unexpected-error", path=request.scope.get("route_path_template", "unknown"), exc_info=error
    )
    return problems.response(
        BridgeError("something unexpected happened; the log has it under this request id"),
        request_id,
    )


def encode(result: Any, status: int) -> Response:
    """A handler's result as a response."""
    if isinstance(result, JsonAnswer):
        return result
    if isinstance(result, Response):
        for name, value in NOT_STORED.items():
            result.headers.setdefault(name, value)
        return result
    headers = NOT_STORED
    if isinstance(result, Reply):
        status, headers, result = result.status, {**headers, **result.headers}, result.content
    if result is None:
        return Response(None, 204 if status == 200 else status, headers)
    return JsonAnswer(encoded(result), status, headers)


def encoded(result: Any) -> bytes:
    """A handler's result as JSON."""
    return _encoder.encode(result)


class JsonAnswer(Response):
    """A whole JSON body: its few headers are encoded without looking through them first."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.body, self.status_code, self.background = body, status, None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()),
        ]


class PathEndpoint:
    """All methods of one path."""

    def __init__(
        self, services: Services, routes: list[Route], pending: Shares, guests: GuestBudget
    ) -> None:
        self._services = services
        self._pending = pending
        self._guests = guests
        self._routes = {route.method: route for route in routes}
        if "GET" in self._routes:
            self._routes.setdefault("HEAD", self._routes["GET"])
        self._readers = {
            route.method: ParamsReader(route.params, route.headers)
            for route in routes
            if route.params is not None
        }

    async def __call__(self, request: Request) -> Response:
        """One request; never raises."""
        try:
            return await self._answer(request)
        except asyncio.CancelledError:  # the server's last word to what is still going on
            return failed(request, StoppingError("the bridge is stopping"))
        except Exception as error:
            response = failed(request, error)
            if response.status_code == 405:
                response.headers["Allow"] = ", ".join(sorted(self._routes))
            return response

    async def _answer(self, request: Request) -> Response:
        route = self._routes.get(request.method)
        if route is None:
            raise MethodNotAllowedError(f"{request.method} is not allowed here")
        if not route.changes:
            return await self._admitted(request, route)
        noted, result = auditing.begin(), "internal-error"
        try:
            response = await self._admitted(request, route)
            result = "ok"
        except BridgeError as error:
            result = error.code
            raise
        except asyncio.CancelledError:
            result = StoppingError.code
            raise
        finally:
            self._services.something_changed()
            if not noted.by_trail:
                await self._note(request, route, noted, result)
        return response

    async def _note(
        self, request: Request, route: Route, noted: auditing.Noted, result: str
    ) -> None:
        """The audit entry of a call that no trail has written one for."""
        caller = Caller(str(request.scope.get("key_id", "")), request_id_of(request))
        detail = dict(without_keys(request.scope.get("audit_detail", {})))
        if not caller.key_id:
            detail["address"] = address_of(request)
        target = noted.target
        if not target:
            parts = (str(each) for each in request.path_params.values())
            target = " ".join(_about(each, known=bool(caller.key_id)) for each in parts)
        action = f"{route.method} {route.path}"
        await self._services[Auditor].note(caller, action, target[:80], detail, result)

    async def _admitted(self, request: Request, route: Route) -> Response:
        principal = authenticate(self._services, request, route.scope)
        if principal is ANONYMOUS or is_always(route.method, route.path):
            return await self._call(request, route, principal)
        holder = principal.holder(address_of(request))
        over = self._pending.over_share(holder)
        if over is not None:
            raise TooManyPendingError(f"too many requests are pending: {over}", retry_after=1.0)
        self._pending.take(holder)
        guest = principal.scope is Scope.HISTORY
        counted = GUEST.set(partial(self._guests.spend, holder.key) if guest else None)
        try:
            return await self._call(request, route, principal)
        finally:
            GUEST.reset(counted)
            self._pending.give(holder)

    async def _call(self, request: Request, route: Route, principal: Principal) -> Response:
        reader = self._readers.get(route.method)
        params = (reader or _no_params).read(request)
        body = None if route.body is None else await read_body(request, route.body)
        if route.changes:
            request.scope["audit_detail"] = recorded_detail(route.recorded, params, body)
        call = Call(
            self._services, params, body, principal, request_id_of(request), address_of(request)
        )
        return encode(await route.handler(call), route.status)


def _about(part: str, *, known: bool) -> str:
    """A part of an address for the audit log: a key that was put there by mistake is left out.

    Of somebody whom the bridge does not know nothing is written down that is as long as a key.
    """
    return str(without_keys(part)) if known or len(part) < SHORTEST else "***"


def recorded_detail(recorded: tuple[str, ...], *given: Any) -> dict[str, Any]:
    """What an audit entry says of a call: the values of `recorded` members, the names of others.

    So a member that is added later is named, and its value is not told until somebody says so.
    """
    detail: dict[str, Any] = {}
    others: list[str] = []
    for each in given:
        if not isinstance(each, msgspec.Struct):
            continue
        unsaid = left_at_nothing(each)
        for name, value in msgspec.to_builtins(each).items():
            if name in unsaid:
                continue
            if name in recorded:
                detail[name] = value
            else:
                others.append(name)
    return {**detail, "given": sorted(others)} if others else detail


class _NoParams(msgspec.Struct):
    pass


_no_params = ParamsReader(_NoParams, {})
