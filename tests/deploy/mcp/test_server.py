"""`./deploy.py mcp` as its clients meet it: the SDK's, and one that only knows the protocol."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult, TextContent

from tests.deploy.mcp.clients import PROJECT, Spoken, command, environment
from tests.deploy.mcp.conftest import Served

READ = {
    *("health", "find_contracts", "quotes", "quote", "option_chain", "option_quotes", "history"),
    *("positions", "account", "pnl", "executions", "orders"),
}
TRADE = {"preview_order", "place_order", "cancel_order", "halt_trading"}
RESTING = {
    "symbol": "AAPL",
    "action": "BUY",
    "order_type": "LMT",
    "quantity": 1,
    "limit_price": 1.0,
}


class Sdk:
    """The SDK's client behind the words of `Spoken`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.asked: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> tuple[bool, Any]:
        result = await self.client.call_tool(tool, arguments)
        content = result.content[0]
        assert isinstance(content, TextContent)
        return (False, content.text) if result.is_error else (True, json.loads(content.text))


@asynccontextmanager
async def sdk(
    words: list[str], folder: Path, person: Any = None, mode: str = "auto"
) -> AsyncIterator[Sdk]:
    found: list[Sdk] = []

    async def answer(_: Any, params: Any) -> ElicitResult:
        found[0].asked.append(params.message)
        return ElicitResult.model_validate(person(params.message))

    parameters = StdioServerParameters(
        command=words[0], args=words[1:], env=environment(folder), cwd=folder
    )
    callback: Any = answer if person else None
    async with Client(parameters, mode=mode, elicitation_callback=callback) as client:
        found.append(Sdk(client))
        yield found[0]


FAMILIES = ["sdk", "sdk-legacy", "spoken"]


@asynccontextmanager
async def family(
    kind: str, served: Served, scope: str, person: Any = None
) -> AsyncIterator[Sdk | Spoken]:
    words = command(served.bridge.url, served.key(scope), scope)
    if kind == "spoken":
        async with Spoken(words, served.folder, person) as client:
            yield client
    else:
        mode = "legacy" if kind == "sdk-legacy" else "auto"
        async with sdk(words, served.folder, person, mode) as found:
            yield found


def confirm(_: str) -> dict[str, Any]:
    return {"action": "accept", "content": {"place": True}}


@pytest.mark.parametrize("kind", FAMILIES)
async def test_each_client_reads(paper: Served, kind: str) -> None:
    async with family(kind, paper, "read") as agent:
        fine, health = await agent.call("health")
        assert fine
        assert (health["state"], health["tradingMode"]) == ("ready", "paper")
        fine, quotes = await agent.call("quotes", symbols=["AAPL", "MSFT"])
        assert fine
        assert {each["symbol"] for each in quotes["quotes"]} == {"AAPL", "MSFT"}
        fine, bars = await agent.call("history", symbol="AAPL", duration="2 D", limit=10)
        assert fine
        assert bars["columns"][0] == "time"
        assert len(bars["rows"]) == 10 < bars["count"]
        fine, _ = await agent.call("option_chain", symbol="AAPL")
        assert fine
        fine, part = await agent.call("option_quotes", symbol="AAPL", count=2)
        assert fine, part
        for tool in ("positions", "account", "pnl", "executions", "orders"):
            fine, answer = await agent.call(tool)
            assert fine, answer
        fine, found = await agent.call("find_contracts", pattern="AAPL")
        assert fine
        assert found["contracts"][0]["conId"]
        fine, one = await agent.call("quote", symbol="AAPL", con_id=found["contracts"][0]["conId"])
        assert fine
        assert one["bid"]["tag"] in {"live", "delayed"}


@pytest.mark.parametrize("kind", FAMILIES)
async def test_each_client_places_in_two_steps_and_a_repetition_is_no_second_order(
    paper: Served, kind: str
) -> None:
    before = len(paper.orders())
    async with family(kind, paper, "trade") as agent:
        fine, preview = await agent.call("preview_order", **RESTING)
        assert fine, preview
        assert preview["order"] == "BUY 1 AAPL LMT limitPrice=1 tif=DAY account=DU1234567"
        assert len(paper.orders()) == before
        both = {"token": preview["token"], "order": preview["order"]}
        fine, order = await agent.call("place_order", **both)
        assert fine, order
        assert order["status"] in {"PreSubmitted", "Submitted"}
        answers = await asyncio.gather(*(agent.call("place_order", **both) for _ in range(4)))
        assert {answer["orderId"] for _, answer in answers} == {order["orderId"]}
        assert len(paper.orders()) == before + 1
        fine, ended = await agent.call("cancel_order", order_id=order["orderId"])
        assert fine
        assert ended["status"] in {"Cancelled", "PendingCancel"}
        assert not agent.asked  # paper: nobody is asked


async def test_a_token_is_bound_to_its_order(paper: Served) -> None:
    before = len(paper.orders())
    async with family("spoken", paper, "trade") as agent:
        _, one = await agent.call("preview_order", **RESTING)
        _, other = await agent.call("preview_order", **{**RESTING, "quantity": 2})
        fine, text = await agent.call("place_order", token=one["token"], order=other["order"])
        assert not fine
        assert "token-of-another-order: " in text
        fine, text = await agent.call("place_order", token="made-up", order=one["order"])
        assert not fine
        assert "unknown-token: " in text
    assert len(paper.orders()) == before


async def test_what_the_rules_refuse_has_no_token(paper: Served) -> None:
    async with family("spoken", paper, "trade") as agent:
        fine, preview = await agent.call("preview_order", **{**RESTING, "quantity": 1e9})
        assert fine
        assert preview["accepted"] is False
        assert preview["violations"]
        assert "token" not in preview
        fine, text = await agent.call("preview_order", **RESTING, more={"symbol": "MSFT"})
        assert not fine
        assert "a second time" in text


@pytest.mark.parametrize("kind", FAMILIES)
async def test_on_a_live_account_a_person_confirms(live: Served, kind: str) -> None:
    before = len(live.orders())
    answers: list[dict[str, Any]] = [
        {"action": "decline"},
        {"action": "cancel"},
        {"action": "accept", "content": {"place": False}},
        confirm(""),
    ]
    async with family(kind, live, "trade", lambda _: answers.pop(0)) as agent:
        fine, preview = await agent.call("preview_order", **RESTING)
        assert fine, preview
        both = {"token": preview["token"], "order": preview["order"]}
        for _ in range(3):
            fine, text = await agent.call("place_order", **both)
            assert not fine
            assert "not-confirmed: " in text
        assert len(live.orders()) == before
        fine, order = await agent.call("place_order", **both)
        assert fine, order
        fine, again = await agent.call("place_order", **both)  # sent: nobody is asked again
        assert fine
        assert again["orderId"] == order["orderId"]
        assert len(live.orders()) == before + 1
        assert len(agent.asked) == 4
        assert all(preview["order"] in said and "LIVE" in said for said in agent.asked)


@pytest.mark.parametrize("kind", FAMILIES)
async def test_without_a_person_nothing_is_placed_on_a_live_account(
    live: Served, kind: str
) -> None:
    before = len(live.orders())
    async with family(kind, live, "trade") as agent:
        _, preview = await agent.call("preview_order", **RESTING)
        fine, text = await agent.call("place_order", token=preview["token"], order=preview["order"])
        assert not fine
        assert "no-confirmation: " in text
    assert len(live.orders()) == before


async def test_the_tools_of_each_scope_are_short(paper: Served) -> None:
    async with family("spoken", paper, "read") as agent:
        assert isinstance(agent, Spoken)
        listed = (await agent.request("tools/list", {}))["tools"]
        assert {tool["name"] for tool in listed} == READ
        # no tokenizer makes more tokens of a text than it has bytes
        whole = json.dumps([agent.welcome["instructions"], listed]).encode()
        assert len(whole) < 8000
    async with family("spoken", paper, "trade") as agent:
        assert isinstance(agent, Spoken)
        listed = (await agent.request("tools/list", {}))["tools"]
        assert {tool["name"] for tool in listed} == READ | TRADE


async def test_a_key_of_scope_read_cannot_trade_whatever_the_server_offers(paper: Served) -> None:
    words = command(paper.bridge.url, paper.key("read"), "trade")
    async with Spoken(words, paper.folder, None) as agent:
        fine, text = await agent.call("preview_order", **RESTING)
        assert not fine
        assert "forbidden: " in text


async def test_the_bridge_is_away_and_comes_back(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("gwk_some-key")
    async with Spoken(command("http://127.0.0.1:9", key, "read"), tmp_path, None) as agent:
        fine, text = await agent.call("health")
        assert not fine
        assert "no-answer: the connection to the bridge broke" in text


async def _ended(*words: str, folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROJECT / "deploy.py"),
        *words,
        cwd=folder,
        env=environment(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert out == b""
    assert process.returncode is not None
    return process.returncode, errors.decode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "http://127.0.0.1:1"], "--url needs a key"),
        (["--api-key-file", "missing"], "cannot read missing"),
        (["--url", "ftp://x", "--api-key-file", "key"], "is no http or https address"),
        (["--scope", "admin"], "'admin' is not one of 'read', 'trade'"),
    ],
)
async def test_mistakes_are_told_at_once(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "key").write_text("gwk_x")
    code, errors = await _ended("mcp", *words, folder=tmp_path)
    assert code == 2
    assert re.search(rf"^error: .*{re.escape(said)}", errors, re.MULTILINE), errors
