"""The gateway's screen in a real browser: Xvfb, x11vnc, SSH, WebSocket, noVNC, canvas."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page, sync_playwright

from tests.browser.conftest import FLAGS
from tests.engine.parts.engine import ENGINE_HOST, docker
from tests.engine.parts.stack import Stack

pytestmark = pytest.mark.browser

PAINTER = (Path(__file__).parent / "parts" / "painted.py").read_text()
SQUARES = 48
COLOURS = """() => {
  const canvas = document.querySelector("#screen canvas");
  if (!canvas || !canvas.width) return 0;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = new Set();
  for (let at = 0; at < data.length; at += 4 * 61)
    found.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
  return found.size;
}"""
SIZE = """() => {
  const canvas = document.querySelector("#screen canvas");
  return [canvas.width, canvas.height];
}"""


def on_display(stack: Stack, word: str) -> str:
    """Runs the painter in the gateway's container."""
    done = subprocess.run(
        [
            *("docker", "exec", "-i", stack.container("gateway")["Id"]),
            *("/opt/simulator/bin/python", "-", word),
        ],
        env=os.environ | {"DOCKER_HOST": ENGINE_HOST},
        input=PAINTER,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def vnc_runs(stack: Stack) -> bool:
    return "x11vnc" in docker("top", stack.container("gateway")["Id"], "-eo", "pid,args")


def in_chromium(look: Callable[[Page, Page], dict[str, Any]]) -> dict[str, Any]:
    """Two tabs that know nothing of each other; no script error, no breach of the policy."""
    complaints: list[str] = []

    def run() -> dict[str, Any]:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS
            )
            tabs = [browser.new_context().new_page() for _ in range(2)]
            for tab in tabs:
                tab.set_default_timeout(30_000)
                tab.on("pageerror", lambda error: complaints.append(str(error)))
                tab.on(
                    "console",
                    lambda said: (
                        complaints.append(said.text) if "Content Security" in said.text else None
                    ),
                )
            found = look(*tabs)
            browser.close()
            return found

    with ThreadPoolExecutor(1) as pool:  # a loop of its own, whatever runs in this thread
        found = pool.submit(run).result(180)
    assert complaints == []
    return found


def test_the_screen_is_seen_and_used_in_one_tab_until_the_command_ends(stack: Stack) -> None:
    assert not vnc_runs(stack)
    process = stack.start("vnc", "--web", "--json")
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    on_display(stack, "paint")  # a display without any client forgets its picture
    assert found.keys() == {"url", "port"}
    assert found["url"].startswith(f"http://127.0.0.1:{found['port']}/#")

    def look(tab: Page, other: Page) -> dict[str, Any]:
        steadily(lambda: tab.goto(found["url"]))
        assert colours(tab) >= SQUARES
        seen = {"title": tab.title(), "url": tab.url, "size": tab.evaluate(SIZE)}
        place = tab.locator("#screen canvas").bounding_box()
        assert place is not None
        tab.mouse.move(place["x"] + place["width"] / 4, place["y"] + place["height"] / 4)
        seen["pointer"] = pointer_near(stack, 256, 192)
        steadily(tab.reload)
        assert colours(tab) >= SQUARES
        steadily(lambda: other.goto(found["url"]))
        other.get_by_text("This address was opened before").wait_for()
        seen["other"] = other.locator("canvas").count()
        assert vnc_runs(stack)
        process.send_signal(signal.SIGINT)
        tab.get_by_text("The screen is off").wait_for()
        tab.get_by_role("button", name="Connect again").click()
        tab.get_by_text("The screen is off").wait_for()
        return seen

    try:
        seen = in_chromium(look)
    except BaseException:
        process.send_signal(signal.SIGINT)  # a second one, while it ends, would be another answer
        raise
    finally:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert seen == {
        "title": f"{stack.name}: gateway screen",
        "url": f"http://127.0.0.1:{found['port']}/",
        "size": [1024, 768],
        "pointer": True,
        "other": 0,
    }
    assert not vnc_runs(stack)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", found["port"])) != 0


def steadily(load: Callable[[], object]) -> None:
    """Chromium breaks off when an interface comes or goes, which the engine sees to."""
    for _ in range(5):
        try:
            load()
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in error.message:
                raise
        else:
            return


def colours(tab: Page) -> int:
    """How many the canvas shows, once it shows a picture; the policy forbids Playwright's wait."""
    deadline = time.monotonic() + 30
    found = 0
    while found < SQUARES and time.monotonic() < deadline:
        found = tab.evaluate(COLOURS)
        tab.wait_for_timeout(100)
    return found


def pointer_near(stack: Stack, x: int, y: int) -> bool:
    """Whether the mouse in the browser moved the display's pointer there, within a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        here = [int(word) for word in on_display(stack, "pointer").split()]
        if abs(here[0] - x) < 8 and abs(here[1] - y) < 8:
            return True
        time.sleep(0.2)
    return False
