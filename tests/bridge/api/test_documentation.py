"""The documentation is for everybody, also for who asks for it again and again."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.api import openapi
from bridge.api.app import _documentation


async def test_it_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than an order, and needs no key."""
    made: list[str] = []
    document, page = openapi.document, openapi.page

    def counted_document(*arguments: Any, **options: Any) -> dict[str, Any]:
        made.append("document")
        return document(*arguments, **options)

    def counted_page(found: dict[str, Any]) -> str:
        made.append("page")
        return page(found)

    monkeypatch.setattr(openapi, "document", counted_document)
    monkeypatch.setattr(openapi, "page", counted_page)
    routes = _documentation([], ()).routes
    first = [await route.handler(None) for route in routes]  # type: ignore[arg-type]
    again = [await route.handler(None) for route in routes]  # type: ignore[arg-type]
    assert [each.body for each in first] == [each.body for each in again]
    assert sorted(made) == ["document", "document", "page"], "each of both is kept as bytes"
