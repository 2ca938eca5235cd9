"""Steps of a newcomer's first hour that no other test takes, and that each step has its test."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from bridge import __version__
from tests.newcomer.steps import STEPS
from tests.sandbox.stack import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.sandbox.stack import Sandbox

pytestmark = pytest.mark.timeout(120)
ORDER = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}


def refused(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    """The problem document that an order is refused with."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        sandbox.post("/order", body)
    with raised.value as error:
        return {**json.load(error), "status": error.code}


def test_each_step_has_its_test() -> None:
    assert len(STEPS) >= 40
    assert len({step for step, _ in STEPS}) == len(STEPS)
    for step, place in STEPS:
        file, _, name = place.partition("::")
        tree = ast.parse((PROJECT / "tests" / file).read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert name in {part.name for part in tree.body if isinstance(part, kinds)}, step


def test_the_version(sandbox: Sandbox) -> None:
    done = sandbox.deploy("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gangway {__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    ["--help", "status", "history", "plan", "doctor", "apikey list"],
)
def test_it_fits_a_narrow_terminal(sandbox: Sandbox, words: str) -> None:
    """A line of 60 columns is broken between words; only one long word may be longer."""
    shown = sandbox.on_terminal(*words.split(), columns=60)
    assert [line for line in shown.splitlines() if len(line) > 60 and " " in line.strip()] == []
    assert len(shown.splitlines()) >= 1 + words.endswith("--help") * 10


def test_a_mistyped_command(sandbox: Sandbox) -> None:
    done = sandbox.deploy("stauts")
    assert done.returncode == 2
    assert done.stderr == "error: there is no command 'stauts'\nhint: did you mean 'status'?\n"


def test_ctrl_c_on_a_log_is_silent(sandbox: Sandbox) -> None:
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "deploy.py"), "logs", "bridge", "-f"],
        cwd=sandbox.folder,
        env={**os.environ, "GANGWAY_SANDBOX_DIR": str(sandbox.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == ""
        assert process.wait(30) == 130


@pytest.mark.browser
def test_a_phone_sees_everything_and_trades_nothing(sandbox: Sandbox, phone: Page) -> None:
    made = json.loads(sandbox.deploy("apikey", "create", "phone", "--json").stdout)
    phone.goto(f"{sandbox.address}/")
    phone.get_by_label("API key").fill(made["key"])
    phone.get_by_role("button", name="Sign in").click()
    phone.locator("#verdict[data-state='ready']").wait_for()
    sandbox.post("/order", ORDER)
    phone.locator("#screens a[href='#executions']").click()
    phone.locator("#executions", has_text="AAPL").wait_for()
    phone.locator("#screens a[href='#orders']").click()
    for name in ("#halt", "#ticket"):  # what the key may not do is not offered
        phone.locator(name).wait_for(state="hidden")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_the_docs_fit_a_phone(sandbox: Sandbox, phone: Page) -> None:
    phone.goto(f"{sandbox.address}/docs")
    assert phone.get_by_text("/order/preview").count()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    answer = phone.goto(f"{sandbox.address}/docs/openapi.json")
    assert answer is not None
    assert answer.json()["openapi"].startswith("3.1")


def test_a_lost_phone_is_one_command(sandbox: Sandbox) -> None:
    made = json.loads(sandbox.deploy("apikey", "create", "lost", "--json").stdout)
    listed = sandbox.deploy("apikey", "list").stdout
    assert made["id"] in listed
    assert made["key"] not in listed
    assert sandbox.deploy("apikey", "revoke", made["id"]).returncode == 0
    with pytest.raises(urllib.error.HTTPError) as raised:
        sandbox.get("/health", key=made["key"])
    with raised.value as error:
        assert error.code == 401


def test_a_wrong_word_in_an_order_names_the_right_one(sandbox: Sandbox) -> None:
    told = refused(sandbox, {**ORDER, "action": "buy", "orderType": "STP LMT"})
    assert [each["message"].partition("; ")[2] for each in told["errors"]] == [
        "did you mean BUY?",
        "did you mean STP_LMT?",
    ]


def test_a_stop_on_an_option_is_told_its_limit(sandbox: Sandbox) -> None:
    """And the order goes through, once the stop has what the refusal asks for."""
    chain = sandbox.get("/options/chain?symbol=AAPL")
    expiration = next(one["expiration"] for one in chain["expirations"] if one["dte"] > 20)
    strike = round(sandbox.get("/quote/AAPL")["last"]["value"] / 5) * 5
    put = {"symbol": "AAPL", "secType": "OPT", "right": "P"}
    put |= {"expiration": expiration, "strike": strike}
    query = f"secType=OPT&right=P&expiration={expiration}&strike={strike}"
    bid = sandbox.get(f"/quote/AAPL?{query}")["bid"]["value"]
    order = {**put, "action": "SELL", "quantity": 1, "orderType": "LMT", "limitPrice": bid}
    order["roundToTick"] = True
    gain = {"limitPrice": round(bid / 2, 2)}
    stop = {"stopPrice": round(bid * 2, 2)}
    told = refused(sandbox, {**order, "bracket": {"takeProfit": gain, "stopLoss": stop}})
    assert "stopLoss: {stopPrice, limitPrice}" in told["detail"]
    stop["limitPrice"] = round(bid * 2.2, 2)
    assert sandbox.post("/order", {**order, "bracket": {"takeProfit": gain, "stopLoss": stop}})


def test_a_halt_from_the_command_line_is_felt(sandbox: Sandbox) -> None:
    assert sandbox.deploy("halt", "--keep-orders", "--reason", "lunch").returncode == 0
    told = refused(sandbox, ORDER)
    assert (told["status"], told["code"]) == (423, "trading-halted")
    assert sandbox.deploy("resume").returncode == 0
    until = time.monotonic() + 60
    while sandbox.get("/health")["state"] != "ready" and time.monotonic() < until:
        time.sleep(0.1)
    assert sandbox.post("/order", ORDER)["orderId"]
