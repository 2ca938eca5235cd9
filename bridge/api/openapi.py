"""The OpenAPI 3.1 document, made from the same structs that check the input."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import structs

from bridge.api.field_descriptions import describe
from bridge.api.problems import MEDIA_TYPE, Problem
from bridge.api.reading import is_sequence
from bridge.api.routing import Route, RouteTable
from bridge.callers import Scope

REFERENCE = "#/components/schemas/{name}"
_WITH_INPUT: dict[int, str] = {422: "The input is wrong, or the broker refuses"}
_WITH_KEY: dict[int, str] = {
    401: "No valid key",
    403: "The key's scope does not reach",
    429: "Too many requests; Retry-After says how long to wait",
}
_WITH_GATEWAY: dict[int, str] = {
    503: "Not connected to the gateway now, or the journal cannot be written; /health says why",
    504: "The gateway did not answer in time",
}
_WITH_CHANGE: dict[int, str] = {503: "The journal cannot be written now; /health says why"}
_WITH_BODY: dict[int, str] = {
    400: "The request could not be read",
    413: "The body is too large",
    415: "The body is not JSON",
}


def document(
    tables: Iterable[RouteTable], version: str, *, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The whole document, as a mapping.

    `required` are names of headers that clients of this deployment have to send, although the
    handler itself could do without.
    """
    tables = list(tables)
    routes = [route for table in tables for route in table.routes]
    schemas, components = _components(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = paths.setdefault(template(route.path), {})
        path[route.method.lower()] = _operation(route, schemas, required)
    streams = {socket.path: socket.summary for table in tables for socket in table.websockets}
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "gangway bridge",
            "version": version,
            "description": "REST and WebSocket over one session with an IB Gateway. Errors are"
            " problem documents (RFC 9457) with a stable code and a next step."
            + "".join(f"\n\nWebSocket `{path}`: {text}" for path, text in streams.items()),
            "contact": {"name": "gangway's documentation, docs/README.md beside the sources"},
        },
        "servers": [{"url": "/", "description": "Where this document was read from"}],
        "tags": [{"name": table.tag} for table in tables],
        "security": [{"apiKey": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {"apiKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY"}},
        },
    }
    return describe(found)


def template(path: str) -> str:
    """An address as OpenAPI writes it: without the kind of a parameter, as in `{path:path}`."""
    return re.sub(r":\w+}", "}", path)


def _components(routes: list[Route]) -> tuple[dict[Any, Any], dict[str, Any]]:
    kinds: list[Any] = [Problem]
    for route in routes:
        fields = structs.fields(route.params) if route.params else ()
        kinds += [kind for kind in (route.answer, route.body) if kind is not None]
        kinds += [field.type for field in fields]
    parts = {repr(part): part for kind in kinds for part in _alternatives(kind)}
    found, components = msgspec.json.schema_components(parts.values(), ref_template=REFERENCE)
    by_part = dict(zip(parts, found, strict=True))
    schemas: dict[Any, Any] = {}
    for kind in kinds:
        several = [by_part[repr(part)] for part in _alternatives(kind)]
        schemas[repr(kind)] = several[0] if len(several) == 1 else {"anyOf": several}
    return schemas, components


def _alternatives(kind: Any) -> list[Any]:
    """The structs of an answer that is one of several; they are told apart by their members."""
    members = typing.get_args(kind) if isinstance(kind, types.UnionType) else ()
    if sum(isinstance(each, type) and issubclass(each, msgspec.Struct) for each in members) > 1:
        return list(members)
    return [kind]


def _operation(route: Route, schemas: dict[Any, Any], required: tuple[str, ...]) -> dict[str, Any]:
    summary, _, description = inspect.cleandoc(route.handler.__doc__ or route.path).partition("\n")
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "summary": summary.rstrip("."),
        "responses": _responses(route, schemas),
    }
    scope = "No key is needed." if route.scope is Scope.PUBLIC else f"Scope: {route.scope.word}."
    operation["description"] = f"{description.strip()}\n\n{scope}".strip()
    if route.scope is Scope.PUBLIC:
        operation["security"] = []
    if route.params:
        operation["parameters"] = _parameters(route, schemas, required)
    if route.body:
        content = {"application/json": {"schema": schemas[repr(route.body)]}}
        needed = not isinstance(route.body, type) or _has_required(route.body)
        operation["requestBody"] = {"required": needed, "content": content}
    return operation


def _has_required(kind: type[Any]) -> bool:
    return any(field.required for field in structs.fields(kind))


def _operation_id(route: Route) -> str:
    words = re.findall(r"[A-Za-z0-9]+", route.path)
    return route.method.lower() + "".join(word.capitalize() for word in words)


def _parameters(
    route: Route, schemas: dict[Any, Any], required: tuple[str, ...]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for field in structs.fields(route.params) if route.params else ():
        name, place = field.encode_name, "query"
        if field.name in route.headers:
            name, place = route.headers[field.name], "header"
        elif f"{{{name}}}" in template(route.path):
            place = "path"
        schema = dict(schemas[repr(field.type)])
        if field.default is not msgspec.NODEFAULT and isinstance(
            field.default, str | int | float | bool
        ):
            schema["default"] = msgspec.to_builtins(field.default)
        parameter: dict[str, Any] = {
            "name": name,
            "in": place,
            "required": place == "path" or field.required or name in required,
            "schema": schema,
        }
        if place == "query" and is_sequence(field.type):
            parameter |= {"style": "form", "explode": False}
        found.append(parameter)
    return found


def _responses(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if route.answer is not None:
        good["content"] = {
            media: {
                "schema": schemas[repr(route.answer)] if "json" in media else {"type": "string"}
            }
            for media in route.media_types
        }
    status = 204 if route.answer is None and route.status == 200 else route.status
    problems: dict[int, str] = {}
    if route.params or route.body:
        problems |= _WITH_INPUT
    if route.scope is not Scope.PUBLIC:
        problems |= _WITH_KEY
    if route.method != "GET":
        problems |= _WITH_CHANGE
    if route.gateway:
        problems |= _WITH_GATEWAY
    if route.body:
        problems |= _WITH_BODY
    problems |= route.statuses
    problem = {MEDIA_TYPE: {"schema": schemas[repr(Problem)]}}
    responses: dict[str, Any] = {str(status): good}
    for code, text in sorted(problems.items()):
        if code >= 400:
            responses[str(code)] = {"description": text, "content": problem}
        else:
            responses[str(code)] = {**good, "description": text}
    return responses
