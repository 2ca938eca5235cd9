"""`/docs` promises to describe every field: it does, and nothing is described that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge import compose
from bridge.api import app
from bridge.api.field_descriptions import DESCRIPTIONS


def document() -> dict[str, Any]:
    return app.document(compose.route_tables())


def fields(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for kind, schema in document["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            yield kind, name, field
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                yield f"{method} {path}", parameter["name"], parameter


def test_every_field_and_parameter_is_described() -> None:
    bare = [
        f"{owner}.{name}"
        for owner, name, field in fields(document())
        if not field.get("description")
    ]
    assert bare == []


def test_no_description_is_left_over() -> None:
    there = {word for owner, name, _ in fields(document()) for word in (name, f"{owner}.{name}")}
    assert set(DESCRIPTIONS) - there == set()
