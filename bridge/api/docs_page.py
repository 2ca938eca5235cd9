"""``/docs``: the OpenAPI document as one page of plain HTML.

Without a script and without outside resources.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from itertools import cycle
from typing import Any

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


def page(document: dict[str, Any]) -> str:
    """The whole page."""
    schemas = document["components"]["schemas"]
    tags = [tag["name"] for tag in document["tags"]]
    info = document["info"]
    links = "".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in [*tags, "schemas"])
    body = "".join(_section(tag, document["paths"]) for tag in tags)
    shapes = "".join(_schema(name, schemas[name]) for name in sorted(schemas))
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


def _section(tag: str, paths: dict[str, Any]) -> str:
    rows = "".join(
        _operation(method, path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    )
    return f'<section><h2 id="{escape(tag)}">{escape(tag)}</h2>{rows}</section>' if rows else ""


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [_prose(operation["description"])]
    if operation.get("parameters"):
        parts.append(
            _table(
                ("parameter", "in", "type", "meaning"),
                [
                    (_name(p["name"], p["required"]), p["in"], _type(p["schema"]), _meaning(p))
                    for p in operation["parameters"]
                ],
            )
        )
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"<p>Body: {_type(schema)}</p>")
    parts.append(
        _table(
            ("status", "meaning", "answer"),
            [
                (status, _meaning(answer), _answer(answer))
                for status, answer in operation["responses"].items()
            ],
        )
    )
    return (
        f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(path)}</code>"
        f" {_inline(operation['summary'])}</summary>{''.join(parts)}</details>"
    )


def _answer(answer: dict[str, Any]) -> str:
    contents = answer.get("content", {})
    return ", ".join(_type(content["schema"]) for content in contents.values())


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (_name(field, field in schema.get("required", ())), _type(each), _meaning(each))
        for field, each in schema.get("properties", {}).items()
    ]
    return (
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"{_prose(schema.get('description', ''))}"
        f"{_table(('field', 'type', 'meaning'), rows) if rows else ''}</details>"
    )


def _name(name: str, required: bool) -> str:
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


def _type(schema: dict[str, Any]) -> str:
    """HTML for a schema, short."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_type(each) for each in schema[union])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items') or {})}"
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
