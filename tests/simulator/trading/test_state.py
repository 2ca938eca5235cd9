"""What the broker keeps in a file: a restart or a crash loses nothing, and no damage stops it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from simulator.app import Simulator
from simulator.options import Options
from simulator.state import FORMAT, UnusableError, Writer, read, restore
from simulator.world import World
from tests.bridge.rig import SimulatorProcess
from tests.simulator.base.raw import FRIDAY_TEN, Raw, ready, simulated, until_true
from tests.simulator.base.test_time import place_order

if TYPE_CHECKING:
    from pathlib import Path

APPLE = 265598
BUY = {"conId": APPLE, "exchange": "SMART", "action": "BUY", "totalQuantity": 10}
BUY |= {"orderType": "MKT", "tif": "GTC", "transmit": 1, "outsideRth": 1}
BELOW = BUY | {"orderType": "LMT", "lmtPrice": 1}
KEPT = ("orders", "fills")


def place(client: Raw, number: int, values: dict[str, Any]) -> None:
    client.send(3, *place_order(values | {"orderId": number}))


async def trade(simulator: Simulator) -> Raw:
    """A position, a resting order, a bracket with a stop that waits for its parent."""
    client = await ready(simulator)
    place(client, 1, BUY)
    await client.until(59)
    place(client, 2, BELOW)
    place(client, 3, BELOW | {"orderRef": "parent", "transmit": 0})
    child = {"action": "SELL", "orderType": "STP", "auxPrice": 0.5, "lmtPrice": "", "parentId": 3}
    place(client, 4, BELOW | child)
    await until_true(lambda: len(simulator.world.book()["orders"]) == 4)
    await until_true(lambda: simulator.world.book()["orders"][3]["status"] == "PreSubmitted")
    return client


async def status_of(client: Raw, number: int) -> list[str]:
    """The next orderStatus of this order; a client that comes back hears of older ones first."""
    while (found := await client.until(3))[1] != str(number):
        pass
    return found


def kept(simulator: Simulator) -> dict[str, Any]:
    trading = simulator.world.trading
    assert trading is not None
    account = trading.ledger.accounts["DU1234567"]
    positions = {each.contract.con_id: each.quantity for each in account.open_positions()}
    book = simulator.world.book()
    return {name: book[name] for name in KEPT} | {"cash": account.cash, "positions": positions}


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    file = str(tmp_path / "state" / "account.json")
    async with simulated(state=file) as simulator:
        await trade(simulator)
        before, ended = kept(simulator), simulator.world.clock.time()
    assert before["positions"] == {APPLE: 10}
    async with simulated(state=file) as simulator:
        assert kept(simulator) == before
        assert simulator.world.clock.time() >= ended
        client = await ready(simulator)
        client.send(5, 1)
        assert [(await client.until(5))[1] for _ in range(3)] == ["2", "3", "4"]
        client.send(4, 1, 3, "")  # the parent takes the child along
        await client.error(202)
        await until_true(lambda: simulator.world.book()["orders"][3]["status"] == "Cancelled")
        place(client, 1, BUY)
        await client.error(104)  # filled before the restart
        place(client, 5, BUY)
        await client.until(59)
        book = simulator.world.book()
        assert len({each["permId"] for each in book["orders"]}) == 5
        assert len({each["execId"] for each in book["fills"]}) == len(book["fills"])
        assert kept(simulator)["positions"] == {APPLE: 20}


async def test_a_reset_cancels_what_works_and_begins_with_new_accounts(tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    async with simulated(state=str(file)) as simulator:
        await trade(simulator)
    (tmp_path / "account.json.reset").touch()
    async with simulated(state=str(file)) as simulator:
        found = kept(simulator)
        assert {each["status"] for each in found["orders"]} == {"Filled", "Cancelled"}
        assert found["positions"] == {}
        assert found["cash"] == {"USD": 1_000_000.0}
    async with simulated(state=str(file)) as simulator:
        assert kept(simulator) == found
    assert not (tmp_path / "account.json.reset").exists()


async def test_without_the_option_every_run_begins_anew(tmp_path: Path) -> None:
    async with simulated() as simulator:
        await trade(simulator)
    async with simulated() as simulator:
        assert simulator.world.book()["orders"] == []
    assert not list(tmp_path.iterdir())


async def test_what_a_client_was_told_outlasts_a_kill(tmp_path: Path) -> None:
    """At the moment a message is written the file has what it tells."""
    file = tmp_path / "account.json"
    async with simulated(state=str(file)) as simulator:
        client = await ready(simulator)
        for number in range(1, 30):
            place(client, number, BUY if number % 3 else BELOW)
            await status_of(client, number)
            told = await client.until(3, 11, 59)
            world = World(Options(start=FRIDAY_TEN))
            restore(read(file.read_text(), world), world)
            book = world.book()
            assert number in {each["orderId"] for each in book["orders"]}
            if told[0] == "11":
                assert told[14] in {each["execId"] for each in book["fills"]}
            world.clock.close()


def test_kills_in_the_middle_of_orders_lose_none(tmp_path: Path) -> None:
    """A real process, killed again and again just after it acknowledged an order."""
    import asyncio

    file = tmp_path / "account.json"

    async def one(simulator: SimulatorProcess, number: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        client = Raw(reader, writer)
        await client.start()
        place(client, number, BELOW)
        perm_id = (await status_of(client, number))[6]
        simulator.process.send_signal(signal.SIGKILL)
        writer.close()
        return perm_id

    told = []
    for number in range(1, 7):
        simulator = SimulatorProcess(tmp_path / "log", "--state", str(file))
        told.append(asyncio.run(one(simulator, number)))
        simulator.stop()
    simulator = SimulatorProcess(tmp_path / "log", "--state", str(file))
    orders = simulator.book()["orders"]
    simulator.stop()
    assert [str(each["permId"]) for each in orders] == told
    assert {each["status"] for each in orders} == {"Submitted"}


async def test_a_wound_clock_goes_on_ahead(tmp_path: Path) -> None:
    file = str(tmp_path / "account.json")
    async with simulated(state=file, start=None) as simulator:
        simulator.world.clock.advance(86_400)
        simulator.world.trading.changed()
    async with simulated(state=file, start=None) as simulator:
        assert simulator.world.clock.time() - time.time() == pytest.approx(86_400, abs=2)


async def test_a_machine_whose_clock_was_set_back_does_not_turn_time_back() -> None:
    first = World(Options(start=FRIDAY_TEN))
    text = Writer(first).text()
    second = World(Options(start=FRIDAY_TEN - 86_400))
    restore(read(text, second), second)
    assert second.clock.time() >= FRIDAY_TEN
    first.clock.close()
    second.clock.close()


async def whole() -> str:
    async with simulated() as simulator:
        await trade(simulator)
        return Writer(simulator.world).text()


async def test_damage_anywhere_is_seen() -> None:
    text = await whole()
    world = World(Options(start=FRIDAY_TEN))
    assert read(text, world)
    for place_ in range(0, len(text) - 2, 53):
        for wrong in (text[:place_], text[:place_] + "#" + text[place_ + 1 :]):
            if wrong[place_ : place_ + 1] == text[place_]:
                continue
            with pytest.raises(UnusableError, match=r"damaged|version"):
                read(wrong, world)
    for wrong in ("", "{}", "[]", "null", "\0" * 500, '{"format": 1, "state":\n{}\n}', "[" * 9000):
        with pytest.raises((UnusableError, RecursionError)):
            read(wrong, world)
    world.clock.close()


@pytest.mark.parametrize(
    ("content", "arguments", "told"),
    [
        (b"\xff\xfe\x00", (), "damaged"),
        (b"[" * 100_000, (), "damaged"),
        ("half", (), "damaged"),
        ("other", (), "another version"),
        ("whole", ("--seed", "2"), "another seed"),
        ("whole", ("--accounts", "DU7"), "the accounts DU1234567"),
    ],
)
async def test_a_file_that_is_not_for_it_is_set_aside_with_one_line(
    tmp_path: Path, content: bytes | str, arguments: tuple[str, ...], told: str
) -> None:
    text = await whole()
    texts = {"whole": text, "half": text[: len(text) // 2], "other": text.replace(FORMAT, "0-1", 1)}
    data = content if isinstance(content, bytes) else texts[content].encode()
    file = tmp_path / "account.json"
    file.write_bytes(data)
    simulator = SimulatorProcess(tmp_path / "log", "--state", str(file), *arguments)
    assert simulator.book()["orders"] == []
    assert simulator.stop() == 0
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith(f"note: {file} is set aside as account.json.set-aside: ")
    assert told in line
    assert (tmp_path / "account.json.set-aside").read_bytes() == data
    assert json.loads(file.read_text())["format"] == FORMAT
    assert file.stat().st_mode & 0o777 == 0o600


async def test_two_simulators_never_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    async with simulated(state=str(file)):
        command = [sys.executable, "-m", "simulator", "--port", "0", "--state", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {file} is in use by another simulator\n"


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "--port", "0", "--state", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}: Is a directory\n"


async def test_where_it_cannot_be_written_trading_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "state"
    async with simulated(state=str(folder / "account.json")) as simulator:
        (folder / ".account.json.partial").mkdir()
        client = await trade(simulator)
        place(client, 9, BUY)
        await client.until(59)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"note: the state is not kept in {folder / 'account.json'}: ")
