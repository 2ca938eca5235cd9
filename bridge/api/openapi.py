"""The OpenAPI 3.1 document, made from the same structs that check the input, and ``/docs``.

That page is the same document as plain HTML, without a script and without outside resources.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Sequence
from html import escape
from itertools import cycle
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
STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1,h2{line-height:1.2}code{font:0.95em ui-monospace,monospace}
details{border:1px solid var(--line);border-radius:.4rem;margin:.4rem 0;padding:.3rem .8rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:4.2rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
code,td,summary,p{overflow-wrap:anywhere}nav a{display:inline-block;margin-right:1rem}
@media(max-width:40rem){thead{display:none}tr,td{display:block;border:0;padding:.1rem 0}
tr{border-bottom:1px solid var(--line);padding:.3rem 0}td:empty{display:none}}
""".strip()
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


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


def page(document: dict[str, Any]) -> str:
    """The whole page."""
    schemas = document["components"]["schemas"]
    tags = [tag["name"] for tag in document["tags"]]
    info = document["info"]
    links = "".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in [*tags, "schemas"])
    body = "".join(_section_html(tag, document["paths"]) for tag in tags)
    shapes = "".join(_schema_html(name, schemas[name]) for name in sorted(schemas))
    paragraphs = _prose(info["description"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>{paragraphs}"
        "<p>Send your key in the header <code>X-API-KEY</code>. The machine-readable form is"
        ' <a href="docs/openapi.json">openapi.json</a>.</p>'
        f"<nav>{links}</nav>{body}"
        f'<section><h2 id="schemas">schemas</h2>{shapes}</section></main></body></html>'
    )


def _section_html(tag: str, paths: dict[str, Any]) -> str:
    rows = "".join(
        _operation_html(method, path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    )
    return f'<section><h2 id="{escape(tag)}">{escape(tag)}</h2>{rows}</section>' if rows else ""


def _operation_html(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [_prose(operation["description"])]
    if operation.get("parameters"):
        parts.append(
            _table(
                ("parameter", "in", "type", "meaning"),
                [
                    (
                        _name_html(p["name"], p["required"]),
                        p["in"],
                        _type_html(p["schema"]),
                        _meaning(p),
                    )
                    for p in operation["parameters"]
                ],
            )
        )
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"<p>Body: {_type_html(schema)}</p>")
    parts.append(
        _table(
            ("status", "meaning", "answer"),
            [
                (status, _meaning(answer), _answer_html(answer))
                for status, answer in operation["responses"].items()
            ],
        )
    )
    return (
        f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(path)}</code>"
        f" {_inline(operation['summary'])}</summary>{''.join(parts)}</details>"
    )


def _answer_html(answer: dict[str, Any]) -> str:
    contents = answer.get("content", {})
    return ", ".join(_type_html(content["schema"]) for content in contents.values())


def _schema_html(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (_name_html(field, field in schema.get("required", ())), _type_html(each), _meaning(each))
        for field, each in schema.get("properties", {}).items()
    ]
    return (
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"{_prose(schema.get('description', ''))}"
        f"{_table(('field', 'type', 'meaning'), rows) if rows else ''}</details>"
    )


def _name_html(name: str, required: bool) -> str:
    return f"<code>{escape(name)}</code>{' (required)' if required else ''}"


def _meaning(described: dict[str, Any]) -> str:
    return _inline(described.get("description", ""))


def _prose(text: str) -> str:
    """Paragraphs, with what stands between backticks as code."""
    return "".join(f"<p>{_inline(each)}</p>" for each in text.split("\n\n") if each.strip())


def _inline(text: str) -> str:
    plain = escape(text.replace("``", "`")).split("`")
    if len(plain) % 2 == 0:  # an odd backtick means itself
        return escape(text)
    tags = cycle(("", "code"))
    return "".join(
        f"<{tag}>{part}</{tag}>" if tag else part for part, tag in zip(plain, tags, strict=False)
    )


def _type_html(schema: dict[str, Any]) -> str:
    """HTML for a schema, short."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_type_html(each) for each in schema[union])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type_html(schema.get('items') or {})}"
    word = escape(str(schema.get("format") or schema.get("type", "any")))
    default = schema.get("default")
    return (
        f"{word} (default <code>{escape(str(default))}</code>)"
        if default not in (None, "")
        else word
    )


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
