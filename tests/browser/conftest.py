"""A sandbox and a real Chromium in front of its status page."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.sandbox.stack import Sandbox, running

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 40_000
"""Milliseconds for anything to appear: the browser, the stack and the tests may share one core."""
expect.set_options(timeout=PATIENCE)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module: while Playwright runs, so does its event loop, beside which no other may."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def complaints() -> list[str]:
    """Script errors and violations of the content policy."""
    return []


@pytest.fixture
def page(browser: Browser, sandbox: Sandbox, complaints: list[str]) -> Iterator[Page]:
    """The page, not signed in; it may not complain about anything."""
    sandbox.fault(None)
    sandbox.resume()  # a test that failed halted is one failure, not ten
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    found = context.new_page()
    found.set_default_timeout(PATIENCE)
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security Policy" in message.text else None
        ),
    )
    found.goto(f"{sandbox.address}/")
    yield found
    context.close()
    assert complaints == []


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def wait_for_state(page: Page, state: str) -> None:
    page.locator(f"#verdict[data-state='{state}']").wait_for()


def go(page: Page, screen: str) -> None:
    page.locator(f"#screens a[href='#{screen}']").click()
    page.locator(f"[data-screen='{screen}']").wait_for()
