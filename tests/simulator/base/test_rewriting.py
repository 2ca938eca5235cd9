"""The fault `wire-rewrite`, over a real socket and the control port."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simulator.faults import WrongParameterError
from tests.simulator.base.raw import Raw, ready, simulated, until_true

if TYPE_CHECKING:
    from simulator.app import Simulator

IDS, EXECUTIONS, TIME, NEXT_ID, ERROR = 8, 7, 49, 9, 4
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "simulator.md").read_text()


def rules(simulator: Simulator, *content: dict[str, Any]) -> None:
    simulator.world.faults.start("wire-rewrite", rules=list(content))


async def asked(client: Raw) -> list[str]:
    client.send(IDS, 1, 1)
    return await client.until(NEXT_ID)


async def test_fields_are_rewritten_where_they_match() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        was = (await asked(client))[2]
        rules(
            simulator,
            {"action": "rewrite", "message": NEXT_ID, "where": {"2": "nothing"}, "set": {"2": "1"}},
            {"action": "rewrite", "message": NEXT_ID, "where": {"2": "*"}, "set": {"2": "7{2}"}},
        )
        assert (await asked(client))[2] == f"7{was}"
        assert simulator.world.rewriting.matched() == [0, 1]
        simulator.world.faults.clear("wire-rewrite")
        assert (await asked(client))[2] == was


async def test_a_dropped_request_is_not_in_the_book_either() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        rules(
            simulator,
            {"action": "drop", "direction": "to-gateway", "message": IDS, "skip": 1, "times": 1},
        )
        before = simulator.world.sessions[0].record()["counts"].get(IDS, 0)
        for _ in range(3):
            client.send(IDS, 1, 1)
        client.send(EXECUTIONS, 3, 5, 0, "", "", "", "", "", "")
        answers = []
        while (message := await client.read())[0] != "55":
            answers += [message] if message[0] == str(NEXT_ID) else []
        assert len(answers) == 2
        assert simulator.world.sessions[0].record()["counts"].get(IDS, 0) == before + 2


async def test_doubled_and_late() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        rules(
            simulator,
            {"action": "duplicate", "message": NEXT_ID, "times": 1},
            {"action": "delay", "message": NEXT_ID, "seconds": 30, "times": 1},
        )
        assert await asked(client) == await client.until(NEXT_ID)
        client.send(IDS, 1, 1)
        await until_true(lambda: simulator.world.rewriting.matched()[1])
        simulator.world.clock.advance(31)
        assert await client.until(NEXT_ID)


async def test_a_held_message_comes_behind_the_next() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        rules(simulator, {"action": "hold", "message": NEXT_ID, "times": 1})
        client.send(IDS, 1, 1)
        client.send(TIME, 1)
        assert [(await client.until(NEXT_ID, TIME))[0] for _ in range(2)] == ["49", "9"]


async def test_what_is_held_goes_out_when_the_fault_ends() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        rules(simulator, {"action": "hold", "message": NEXT_ID, "messages": 9})
        client.send(IDS, 1, 1)
        client.send(TIME, 1)
        await client.until(TIME)
        simulator.world.faults.clear()
        assert await client.until(NEXT_ID)


@pytest.mark.parametrize("before", [True, False])
async def test_injected_about_a_message(before: bool) -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        inject = {"action": "inject", "before": before, "fields": [4, 2, "{2}", 10018, "New", ""]}
        rules(simulator, inject | {"message": NEXT_ID, "times": 1})
        client.send(TIME, 1)
        await client.until(TIME)  # what is told at the beginning has come
        client.send(IDS, 1, 1)
        seen = [await client.until(NEXT_ID, ERROR) for _ in range(2)]
        assert [each[0] for each in seen] == (["4", "9"] if before else ["9", "4"])
        assert {each[2] for each in seen} == {seen[0][2]}


async def test_injected_at_once_and_into_the_gateway() -> None:
    async with simulated() as simulator:
        client, other = await ready(simulator), await ready(simulator, 2)
        rules(
            simulator,
            {"action": "inject", "fields": [4, 2, -1, 31337, "Something"], "client": 1},
            {"action": "inject", "fields": [IDS, 1, 1], "to": "to-gateway", "client": 2},
        )
        assert (await client.error(31337))[4] == "Something"
        assert await other.until(NEXT_ID)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"rules": []},
        {"rules": [{"action": "sing"}]},
        {"rules": [{"action": "drop", "wher": {}}]},
        {"rules": [{"action": "drop", "where": {"x": "1"}}]},
        {"rules": [{"action": "drop", "times": True}]},
        {"rules": [{"action": "rewrite"}]},
        {"rules": [{"action": "delay"}]},
        {"rules": [{"action": "inject"}]},
        {"rules": [{"action": "inject", "fields": ["a\0b"]}]},
        {"rules": [{"action": "drop", "direction": "up"}]},
    ],
)
async def test_wrong_rules_are_refused(wrong: dict[str, Any]) -> None:
    async with simulated() as simulator:
        with pytest.raises(WrongParameterError):
            simulator.world.faults.start("wire-rewrite", **wrong)
        assert not simulator.world.rewriting.active


async def test_the_documented_example_is_taken() -> None:
    example = json.loads(re.findall(r"```text\n(\{.*?)```", PAGE, re.DOTALL)[0])
    name = example.pop("fault")
    async with simulated() as simulator:
        assert simulator.world.faults.start(name, **example).shown()["rules"]
