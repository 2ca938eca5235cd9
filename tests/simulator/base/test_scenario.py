from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from simulator.clock import EASTERN
from simulator.contracts.contract import Query
from simulator.scenario import ScenarioError, load, schedule
from tests.simulator.base.raw import FRIDAY_TEN, simulated

if TYPE_CHECKING:
    from pathlib import Path

SCENARIO = """
- {at: 5, fault: upstream-lost, for: 30}
- {at: "23:45", fault: nightly-restart, for: 60}
- {at: "sunday 01:00", fault: sunday-invalidation}
- {at: 10, fault: slow-login, for: 5, delay: 3}
"""


async def test_faults_come_and_go_at_their_times(tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text(SCENARIO)
    async with simulated() as simulator:
        world = simulator.world
        noted: list[tuple[str, str]] = []
        for name in ("upstream-lost", "nightly-restart", "sunday-invalidation", "slow-login"):
            world.faults.on_start(
                name,
                lambda fault: noted.append(
                    (fault.name, f"{datetime.fromtimestamp(fault.since, EASTERN):%a %H:%M:%S}")
                ),
            )
        schedule(world, load(str(file)))
        world.clock.advance(8 * 86_400)
        names = [name for name, _ in noted]
        assert names.count("nightly-restart") == 8
        assert noted[0] == ("upstream-lost", "Fri 10:00:05")
        assert noted[1][0] == "slow-login"
        assert ("nightly-restart", "Fri 23:45:00") in noted
        assert ("sunday-invalidation", "Sun 01:00:00") in noted
        assert [each["fault"] for each in world.faults.shown()] == ["sunday-invalidation"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: 1}", "list of steps"),
        ("- {at: 1}", "step 1: needs"),
        ("- {at: 1, fault: nonsense}", "no fault is called"),
        ("- {at: noon, fault: fin}", "'at' must be"),
        ("- {at: 1, fault: fin, for: never}", "'for' must be"),
        ("- {at: 1, fault: fin, for: true}", "'for' must be"),
        ("- {at: 1, fault: fin, for: .nan}", "'for' must be"),
        ("- {at: 1, fault: fin, for: .inf}", "'for' must be"),
        ("- {at: .inf, fault: fin}", "'at' must be"),
        ("- {at: 1, fault: [fin]}", "no fault is called"),
        ("- {at: 1, fault: fin, fro: 30}", "'fro' is no parameter"),
        ("- {at: 1, fault: slow-login, delay: soon}", "'delay' must be"),
        ("- [", "not YAML"),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=message):
        load(str(file))


def test_a_scenario_that_is_no_text_or_too_deep_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    for content in (b"- \xff\xfe", b"[" * 3_000):
        file.write_bytes(content)
        with pytest.raises(ScenarioError, match="not YAML"):
            load(str(file))
    with pytest.raises(ScenarioError, match=str(tmp_path)):
        load(str(tmp_path))


async def started(*arguments: str) -> asyncio.subprocess.Process:
    ports = ("--port", "0", "--portal-port", "0", "--control-port", "0")
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator",
        *ports,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_prints_its_ports_and_stops_on_sigterm() -> None:
    process = await started("--accounts", "DU1,U2", "--fault", "accept-silent:5")
    assert process.stdout is not None
    ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    assert ready["ready"] is True
    assert all(ready[name] > 0 for name in ("port", "portalPort", "controlPort"))
    process.terminate()
    await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 0


async def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("- {at: 1}")
    for wrong in (("--scenario", str(file)), ("--fault", "nonsense"), ("--fault", "fin:soon")):
        process = await started(*wrong)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 2
        assert errors.decode().startswith("error: ")
        assert errors.count(b"\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--start", "soon"),
        ("--port", "99999"),
        ("--control-port", "-1"),
        ("--tick-interval", "0"),
        ("--tick-interval", "nan"),
        ("--market-data", "gold"),
        ("--market-data", "live,AAPL="),
        ("--market-data-lines", "-1"),
        ("--rate-limit", "-1"),
        ("--accounts", ","),
        ("--master-client-id", "x"),
    ],
    ids=" ".join,
)
async def test_a_wrong_option_is_said_in_one_line(wrong: tuple[str, ...]) -> None:
    process = await started(*wrong)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert output == b""
    assert process.returncode == 2
    assert errors.decode().startswith(f"error: argument {wrong[0]}: ")
    assert errors.decode().splitlines()[1:] == ["hint: python -m simulator --help"]


async def test_a_taken_port_is_said_and_no_other_stays_open() -> None:
    async with simulated() as simulator:
        taken = simulator.ports["controlPort"]
        process = await started("--control-port", str(taken))
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        assert errors.decode().startswith("error: ")
        with pytest.raises(OSError, match="in use"):
            async with simulated(control_port=taken):
                pass


async def test_the_options_bring_the_nightly_restart_and_the_sunday() -> None:
    async with simulated(nightly_restart="23:45", sunday_invalidation=True) as simulator:
        noted: list[str] = []
        for name in ("nightly-restart", "sunday-invalidation"):
            simulator.world.faults.on_start(name, lambda fault: noted.append(fault.name))
        simulator.world.clock.advance(2 * 86_400)
        assert noted == ["nightly-restart", "nightly-restart", "sunday-invalidation"]


async def test_a_wrong_restart_time_is_refused() -> None:
    with pytest.raises(ScenarioError, match="--nightly-restart"):
        async with simulated(nightly_restart="late"):
            pass


async def test_a_scenario_lists_symbols_with_options(tmp_path: Path) -> None:
    file = tmp_path / "symbols.yaml"
    file.write_text(
        "- {symbol: ACME, conId: 900001, primary: NYSE, price: 12.5, strikeStep: 0.5}\n"
        "- {at: 0, fault: late-fills}\n"
    )
    async with simulated(scenario=str(file)) as simulator:
        catalog = simulator.world.catalog
        query = Query(symbol="ACME", sec_type="STK", exchange="SMART")
        contract = catalog.resolve(query, simulator.world.clock.time())
        assert contract.con_id == 900001
        assert 1 < simulator.world.market.quote(contract, FRIDAY_TEN).bid < 100
        assert catalog.classes_on(900001)
        assert simulator.world.faults.active("late-fills")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{symbol: ACME}", "'price' is missing"),
        ("{symbol: ACME, price: 1, conId: 900001}", "'primary' is missing"),
        ("{symbol: ACME, price: 1, conId: 265598, primary: NYSE}", "265598 is taken"),
        ("{symbol: ACME, price: -1, conId: 900001, primary: NYSE}", "out of range"),
        ("{symbol: ACME, price: much, conId: 900001, primary: NYSE}", "much"),
        ("{symbol: ACME, price: 1, conId: 900001, primary: NYSE, colour: red}", "'colour'"),
        ("{symbol: ACME, price: 1, conId: 900001, primary: NYSE, secType: OPT}", "'OPT'"),
    ],
)
async def test_a_symbol_that_cannot_be_listed_is_refused(
    tmp_path: Path, step: str, message: str
) -> None:
    file = tmp_path / "symbols.yaml"
    file.write_text(f"- {step}\n")
    with pytest.raises(ScenarioError, match=message):
        async with simulated(scenario=str(file)):
            pass
