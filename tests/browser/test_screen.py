"""The screen's page in a real browser, as far as it goes without a screen behind it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from infrastructure.screen.server import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.screen.access import Access

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

SHOWN = "The screen is off, or the connection to it was lost."
"""What noVNC's end says: it was loaded, and the server behind it does not answer."""


def nowhere() -> socket.socket:
    raise ConnectionRefusedError


@pytest.fixture
def access() -> Iterator[Access]:
    with served(nowhere, {"password": "s3cret-8", "name": "prod"}) as found:
        yield found


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    found = context.new_page()
    found.set_default_timeout(20_000)
    yield found
    context.close()


def break_once(tab: Page, path: str) -> list[str]:
    """The first request of this path is broken off, as when the network changes; all of them."""
    asked: list[str] = []

    def handle(route: Route) -> None:
        asked.append(route.request.url)
        route.abort("connectionaborted") if len(asked) == 1 else route.continue_()

    tab.route(f"**/{path}", handle)
    return asked


@pytest.mark.parametrize("path", ["key", "novnc/vendor/pako/lib/zlib/inflate.js"])
def test_loading_that_was_broken_off_is_begun_again(tab: Page, access: Access, path: str) -> None:
    asked = break_once(tab, path)
    tab.goto(access.address)
    expect(tab.get_by_role("status")).to_have_text(SHOWN)
    assert len(asked) == 2
    assert access.used


def test_the_address_keeps_nothing(tab: Page, access: Access) -> None:
    tab.goto(access.address)
    expect(tab.get_by_role("status")).to_have_text(SHOWN)
    assert tab.url == f"http://127.0.0.1:{access.port}/"
    assert "s3cret" not in tab.content()
    assert tab.title() == "prod: gateway screen"
    assert tab.evaluate("[Object.keys(localStorage), document.cookie]") == [[], ""]


def test_after_the_end_the_page_says_what_to_do(tab: Page) -> None:
    with served(nowhere, {"password": "s3cret-8", "name": "prod"}) as access:
        tab.goto(access.address)
        expect(tab.get_by_role("status")).to_have_text(SHOWN)
    tab.get_by_role("button", name="Connect again").click()
    expect(tab.get_by_role("status")).to_have_text(SHOWN)
