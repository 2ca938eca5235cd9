"""Jinja2 with strict names, and the quoting that each kind of file needs."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from infrastructure import kept
from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment, Template

TEMPLATES = PROJECT / "templates"


def quote(value: Any) -> str:
    """A value for stack.yaml: JSON, which YAML reads.

    Not plain ASCII, as YAML does not join JSON's surrogate pairs; but what YAML takes for a line
    break or does not allow as it is, is escaped.
    """
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", text
    )


def word(value: str) -> str:
    """One token of a Caddyfile; ValueError for what could end it or start a block."""
    if not re.fullmatch(r"[A-Za-z0-9@_.:/+\[\]-]+", value):
        raise ValueError(f"{value!r} is no single word for the Caddyfile")
    return value


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML; every value passes `q` or `word`
    )
    environment.filters["q"] = quote
    environment.filters["word"] = word
    return environment


def render(path: Path, **values: Any) -> str:
    """A template filled in; an unknown name is an error."""
    text = path.read_text(encoding="utf-8")
    if not kept.in_use():  # where values may be of any kind
        return _template(text).render(**values)
    parts = text.encode(), json.dumps(values, sort_keys=True).encode()
    return str(kept.once("text", parts, lambda: _template(text).render(**values)))


@functools.cache
def _template(text: str) -> Template:
    return _environment().from_string(text)
