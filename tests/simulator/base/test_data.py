from __future__ import annotations

import asyncio

import pytest

from tests.simulator.base.raw import STOCK, Raw, ready, simulated

OPTION = (0, "AAPL", "OPT", "20261218", 200.0, "C", "", "SMART", "", "USD", "", "")
SATURDAY = 1795186800.0 + 86_400


def stream(
    client: Raw, request: int, contract: tuple[object, ...] = STOCK, ticks: str = ""
) -> None:
    client.send(1, 11, request, *contract, 0, ticks, 0, 0, "")


def history(
    client: Raw, request: int, kind: str = "TRADES", size: str = "5 mins", duration: str = "1 D"
) -> None:
    client.send(20, request, *STOCK, 0, "", size, duration, 1, kind, 1, 0, "")


async def test_a_line_says_its_type_and_parameters_first() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        stream(client, 5)
        assert await client.until(58, 81, 1) == ["58", "1", "5", "1"]
        assert await client.until(81, 1) == ["81", "5", "0.01", "9c0001", "3"]
        bid = await client.until(1)
        assert bid[3] == "1"
        assert float(bid[4]) > 0


async def test_lines_move_and_end_with_their_cancel() -> None:
    async with simulated(tick_interval=0.02) as simulator:
        client = await ready(simulator)
        stream(client, 5)
        await client.until(1)
        simulator.world.clock.advance(60)
        assert (await client.until(1))[2] == "5"
        client.send(2, 2, 5)
        client.send(2, 2, 5)
        assert (await client.error(300))[2] == "5"


@pytest.mark.parametrize(
    ("level", "kind", "codes"),
    [
        ("live", 1, []),
        ("live", 3, []),
        ("delayed", 1, [10089]),
        ("delayed", 3, [10167]),
        ("none", 1, [354]),
        ("none", 3, [354]),
        ("live,AAPL=delayed", 2, [10089]),
    ],
)
async def test_what_the_account_paid_for_decides(level: str, kind: int, codes: list[int]) -> None:
    async with simulated(market_data=level) as simulator:
        client = await ready(simulator)
        await client.error(2158)
        client.send(59, 1, kind)
        stream(client, 5)
        first = await client.read()
        if codes:
            assert (first[2], first[3]) == ("5", str(codes[0]))
        else:
            assert first == ["58", "1", "5", "1"]
        if codes == [10167]:
            assert await client.read() == ["58", "1", "5", "3"]
            assert (await client.until(1))[3] == "66"


async def test_options_without_live_data_are_refused_with_10168() -> None:
    async with simulated(market_data="delayed") as simulator:
        client = await ready(simulator)
        stream(client, 5, OPTION)
        assert (await client.error(10168))[2] == "5"


async def test_a_closed_market_is_frozen_when_asked_and_silent_otherwise() -> None:
    async with simulated(hours="exchange", start=SATURDAY) as simulator:
        client = await ready(simulator)
        stream(client, 5)
        assert (await client.until(1))[3] == "6"
        client.send(59, 1, 2)
        stream(client, 6)
        while (await client.until(58))[2:] != ["6", "2"]:
            pass
        while (message := await client.until(1))[2] != "6":
            pass
        assert message[3] == "1"


async def test_a_snapshot_ends() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        client.send(1, 11, 5, *STOCK, 0, "", 1, 0, "")
        await client.until(1)
        simulator.world.clock.advance(1)
        assert await client.until(57) == ["57", "1", "5"]


async def test_too_many_lines_are_refused_with_101() -> None:
    async with simulated(market_data_lines=2) as simulator:
        client = await ready(simulator)
        for request in (1, 2, 3):
            stream(client, request)
        assert (await client.error(101))[2] == "3"


@pytest.mark.parametrize(
    ("contract", "ticks", "code"),
    [
        (STOCK, "9999", 321),
        ((0, "AAPL", "STK", "", 0.0, "", "", "", "", "USD", "", ""), "", 321),
        ((0, "NOPE", "STK", "", 0.0, "", "", "SMART", "", "USD", "", ""), "", 200),
        ((0, "IBM", "STK", "", 0.0, "", "", "SMART", "", "", "", ""), "", 200),
    ],
)
async def test_wrong_lines_are_refused(contract: tuple[object, ...], ticks: str, code: int) -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        stream(client, 5, contract, ticks)
        assert (await client.error(code))[2] == "5"


async def test_an_option_line_carries_four_computations() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        stream(client, 5, OPTION)
        kinds = [(await client.until(21))[2] for _ in range(4)]
        assert kinds == ["10", "11", "12", "13"]


async def test_tick_by_tick_and_depth_have_limits_of_their_own() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        for request in range(6):
            client.send(97, request, *STOCK, "BidAsk", 0, 0)
        assert (await client.error(10190))[2] == "5"
        for request in range(10, 14):
            client.send(10, 5, request, *STOCK, 5, 1, "")
        assert (await client.error(309))[2] == "13"
        client.send(10, 5, 20, *STOCK, 5, 0, "")
        assert (await client.error(10092))[2] == "20"


@pytest.mark.parametrize(
    ("kind", "size", "duration", "code"),
    [
        ("TRADES", "7 mins", "1 D", 321),
        ("TRADES", "5 mins", "soon", 321),
        ("NOTHING", "5 mins", "1 D", 321),
        ("TRADES", "1 secs", "5 D", 162),
    ],
)
async def test_wrong_history_is_refused(kind: str, size: str, duration: str, code: int) -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        history(client, 5, kind, size, duration)
        assert (await client.error(code))[2] == "5"


async def test_history_before_there_was_any_is_162() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        client.send(20, 5, *STOCK, 0, "19900102-20:00:00", "1 day", "1 W", 1, "TRADES", 1, 0, "")
        error = await client.error(162)
        assert error[4].endswith("HMDS query returned no data: AAPL@SMART Trades")


async def test_history_that_is_kept_up_to_date_goes_on_and_is_cancelled() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        client.send(20, 5, *STOCK, 0, "", "1 min", "600 S", 0, "TRADES", 2, 1, "")
        bars = await client.until(17)
        assert bars[4] == str(10 + 1)
        last = int(bars[-8])
        simulator.world.clock.advance(60)
        update = await client.until(90)
        assert int(update[3]) >= last
        client.send(25, 1, 5)
        assert (await client.error(162))[4].endswith("query cancelled: 5")
        client.send(25, 1, 5)
        assert (await client.error(366))[2] == "5"


@pytest.mark.parametrize("hours", ["always", "exchange"])
@pytest.mark.parametrize(("size", "seconds"), [("5 secs", 5), ("1 min", 60), ("1 hour", 3600)])
async def test_regular_hours_kept_up_to_date_rest_on_a_weekend_and_go_on(
    hours: str, size: str, seconds: int
) -> None:
    """From Friday, 15:00, over Saturday to Monday, 10:00: nothing while closed, then new bars."""
    async with simulated(hours=hours, start=SATURDAY - 19 * 3600) as simulator:
        client = await ready(simulator)
        client.send(20, 5, *STOCK, 0, "", size, "1 D", 1, "TRADES", 2, 1, "")
        await client.until(17)
        simulator.world.clock.advance(6)
        friday = (await updates(client))[-1]
        simulator.world.clock.advance(19 * 3600)
        finished = await updates(client)
        assert finished[0] == friday, "the bar that was unfinished is finished first"
        assert finished[-1] == int(SATURDAY) - 18 * 3600 - seconds, "the last before the close"
        simulator.world.clock.advance(3600)
        assert set(await updates(client)) <= {finished[-1]}
        simulator.world.clock.advance(47 * 3600)
        monday = await updates(client)
        opened = int(SATURDAY) + 2 * 86_400 - 1800
        assert monday[-1] >= opened
        assert monday == sorted(monday)
        simulator.world.clock.advance(seconds)
        assert (await updates(client))[-1] > monday[-1]


async def test_all_hours_of_a_market_that_never_closes_go_on_over_a_weekend() -> None:
    async with simulated(start=SATURDAY - 19 * 3600) as simulator:
        client = await ready(simulator)
        client.send(20, 5, *STOCK, 0, "", "1 min", "1 D", 0, "TRADES", 2, 1, "")
        await client.until(17)
        for hours in (49, 1, 20):
            simulator.world.clock.advance(hours * 3600)
            now = simulator.world.clock.time()
            assert now - (await updates(client))[-1] < 120


async def updates(client: Raw) -> list[int]:
    """When the bars began that were sent up to now."""
    client.send(8, 1, 1)
    found = []
    while (message := await client.until(90, 9))[0] == "90":
        found.append(int(message[3]))
    return found


async def test_one_contract_may_be_asked_for_five_times_in_two_seconds() -> None:
    async with simulated(history_pacing="all") as simulator:
        client = await ready(simulator)
        for request in range(6):
            history(client, request, size="5 mins", duration=f"{600 + request} S")
        assert (await client.error(162))[2] == "5"
        simulator.world.clock.advance(3)
        history(client, 7, duration="300 S")
        assert (await client.until(17))[1] is not None


async def test_an_identical_request_within_fifteen_seconds_is_paced() -> None:
    async with simulated(history_pacing="all") as simulator:
        client = await ready(simulator)
        history(client, 1)
        await client.until(17)
        history(client, 2)
        error = await client.error(162)
        assert (error[2], "pacing violation" in error[4]) == ("2", True)
        simulator.world.clock.advance(16)
        history(client, 3)
        assert (await client.until(17))[1] == "3"


async def test_sixty_requests_in_ten_minutes_are_the_limit_for_all_clients() -> None:
    async with simulated(history_pacing="all", rate_limit=0) as simulator:
        clients = [await ready(simulator, number) for number in (1, 2)]
        for request in range(60):
            history(clients[request % 2], request, duration=f"{600 + request} S")
            await clients[request % 2].until(17)
            simulator.world.clock.advance(3)
        history(clients[0], 61, duration="301 S")
        assert (await clients[0].error(162))[2] == "61"
        simulator.world.clock.advance(500)
        history(clients[0], 62, duration="301 S")
        assert (await clients[0].until(17))[1] == "62"


async def test_sizes_are_whole_numbers_for_old_clients() -> None:
    async with simulated() as simulator:
        client = await ready(simulator, highest=157)
        stream(client, 5)
        assert (await client.until(2))[4].isdecimal()
        history(client, 6)
        bars = await client.until(17)
        assert all(volume.isdecimal() for volume in bars[10::8])


async def test_the_same_seed_gives_two_clients_the_same_bars() -> None:
    answers = []
    for _ in range(2):
        async with simulated(seed=5) as simulator:
            client = await ready(simulator)
            client.send(
                20, 1, *STOCK, 0, "20261119-20:00:00", "5 mins", "1 D", 1, "TRADES", 1, 0, ""
            )
            answers.append(await client.until(17))
        await asyncio.sleep(0)
    assert answers[0] == answers[1]
