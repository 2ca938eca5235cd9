"""A command line that nobody here wrote, `ibkr-cli`, does its work at the simulator."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.running import ENVIRONMENTS, Gateway, absent, gateway

pytestmark = pytest.mark.conformance

FOLDER = ENVIRONMENTS / "ibkr-cli"
SECONDS = 60
CALLS = {
    "doctor": ["doctor", "--api"],
    "quote": ["quote", "AAPL"],
    "bars": ["bars", "AAPL"],
    "daily bars": ["bars", "SPY", "--duration", "1 M", "--bar-size", "1 day"],
    "chain": ["options", "chain", "AAPL"],
    "preview": ["buy", "AAPL", "10", "--type", "LMT", "--limit", "100", "--preview"],
    "bracket": ["buy", "MSFT", "5", "--type", "LMT", "--limit", "100", "--take-profit", "900"],
    "buy": ["buy", "AAPL", "10", "--type", "MKT", "--submit"],
    "sell": ["sell", "AAPL", "4", "--type", "MKT", "--submit"],
    "rest": ["buy", "AAPL", "3", "--type", "LMT", "--limit", "50", "--submit"],
    "positions": ["positions"],
    "account": ["account", "summary"],
    "open": ["orders", "open"],
    "completed": ["orders", "completed"],
    "executions": ["orders", "executions"],
}
CALLS["bracket"] += ["--stop-loss", "50", "--submit"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Gateway]]:
    if not (FOLDER / ".gangway").exists():
        absent("no ibkr-cli: run scripts/conformance-envs")
    home = tmp_path_factory.mktemp("home")
    with gateway() as at:
        folder = home / "ibkr-cli"
        folder.mkdir()
        (folder / "config.toml").write_text(
            'default_profile = "here"\n[profiles.here]\nhost = "127.0.0.1"\n'
            f'port = {at.port}\nclient_id = 7\nmode = "paper"\n'
        )
        yield {name: _told(words, home) for name, words in CALLS.items()}, at


def _told(words: list[str], home: Path) -> Any:
    done = subprocess.run(
        [str(FOLDER / "bin" / "ibkr"), *words, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)},
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_every_command_is_done(seen: tuple[dict[str, Any], Gateway]) -> None:
    told, _ = seen
    assert set(told) == set(CALLS)
    assert all(told.values())


def test_the_book_has_what_the_command_line_did(seen: tuple[dict[str, Any], Gateway]) -> None:
    _, at = seen
    book = at.book()
    fills = [(each["symbol"], each["side"], each["quantity"]) for each in book["fills"]]
    assert fills == [("AAPL", "BOT", 10), ("AAPL", "SLD", 4)]
    states = [(each["symbol"], each["orderType"], each["status"]) for each in book["orders"]]
    assert ("AAPL", "LMT", "Submitted") in states
    assert [each[0] for each in states].count("MSFT") == 3
