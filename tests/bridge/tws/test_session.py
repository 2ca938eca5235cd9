"""One session with a simulated gateway: what it reads, and that every request ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from bridge import model
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.errors import (
    NotConnectedError,
    OrderRefusedError,
    RequestTimedOutError,
    UnknownContractError,
)
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from tests.bridge.conftest import StartSession
from tests.bridge.rig import eventually

APPLE = model.Contract(symbol="AAPL")


async def ready(session: TwsSession) -> None:
    await eventually(lambda: session.state is State.READY)


async def test_becomes_ready_and_knows_its_accounts(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    assert session.accounts == ("DU1234567",)
    assert session.server_version in (176, 178)
    session.require_ready()


async def test_reads_what_a_gateway_knows(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    (details,) = await session.queries.contract_details(APPLE)
    assert details.contract.con_id > 0
    assert details.contract.primary_exchange
    assert details.min_tick > 0
    assert len(details.market_rule_ids) == len(details.valid_exchanges)
    chains = await session.queries.option_parameters(details.contract)
    assert all(list(chain.strikes) == sorted(chain.strikes) for chain in chains)
    assert chains
    assert await session.queries.matching_symbols("AA")
    assert await session.queries.market_rule(details.market_rule_ids[0])
    assert abs((await session.queries.current_time() - datetime.now(UTC)).total_seconds()) < 5


async def test_reads_the_account(simulator: Simulator, start_session: StartSession) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    assert await session.queries.positions() == ()
    assert await session.queries.all_open_orders() == ()
    assert await session.queries.completed_orders() == ()
    assert await session.queries.executions() == ()


async def test_an_unknown_contract_is_a_typed_error(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    with pytest.raises(UnknownContractError) as caught:
        await session.queries.contract_details(model.Contract(symbol="NOSUCHTHING"))
    assert caught.value.broker_code == 200
    assert caught.value.next_step


async def test_an_order_is_placed_seen_and_filled(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    statuses: list[str] = []
    fills: list[model.Execution] = []
    commissions: list[model.CommissionReport] = []
    session.events.order_status.listen(lambda status: statuses.append(status.status))
    session.events.execution.listen(fills.append)
    session.events.commission.listen(commissions.append)
    (details,) = await session.queries.contract_details(APPLE)
    order_id = session.next_order_id()
    order = model.Order(
        action="BUY", quantity=5, order_type="MKT", order_ref="gw-1", account="DU1234567"
    )
    await session.place_order(order_id, details.contract, order)
    await eventually(lambda: "Filled" in statuses)
    await eventually(lambda: commissions)
    assert fills[0].order_ref == "gw-1"
    assert fills[0].time.tzinfo is UTC
    assert {fill.exec_id for fill in fills} >= {report.exec_id for report in commissions}
    again = await session.queries.executions()
    assert {fill.exec_id for fill in again} == {fill.exec_id for fill in fills}
    (position,) = await session.queries.positions()
    assert position.quantity == 5


async def test_a_what_if_tells_margin_and_places_nothing(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    (details,) = await session.queries.contract_details(APPLE)
    order = model.Order(quantity=10, order_type="LMT", limit_price=1.0, account="DU1234567")
    state = await session.queries.what_if(details.contract, order)
    assert state.init_margin_change is not None
    assert await session.queries.all_open_orders() == ()


async def test_a_refused_order_is_an_event_with_its_id(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    refused: list[tuple[int, Exception]] = []
    session.events.order_error.listen(lambda number, error: refused.append((number, error)))
    order_id = session.next_order_id()
    await session.place_order(
        order_id,
        model.Contract(symbol="AAPL"),
        model.Order(quantity=1, order_type="LMT", limit_price=1.001, account="DU1234567"),
    )
    await eventually(lambda: refused)
    assert refused[0][0] == order_id
    assert isinstance(refused[0][1], OrderRefusedError)


async def test_without_a_gateway_everything_is_refused_at_once(
    start_session: StartSession, unused_tcp_port: int
) -> None:
    session = await start_session(unused_tcp_port)
    await eventually(lambda: session.state is State.WAITING_FOR_GATEWAY)
    with pytest.raises(NotConnectedError) as caught:
        await session.queries.contract_details(APPLE)
    assert "refused" in caught.value.detail
    with pytest.raises(NotConnectedError):
        await session.place_order(1, APPLE, model.Order(quantity=1))
    with pytest.raises(NotConnectedError):
        session.next_order_id()


async def test_four_questions_for_the_time_share_one_answer(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port)
    await ready(session)
    answers = await asyncio.gather(*(session.queries.current_time() for _ in range(4)))
    assert len(set(answers)) == 1
    await (
        session.queries.current_time()
    )  # soon after an answer: asked again only when it will be heard


async def test_a_deadline_ends_a_request_and_poisons_none_after_it(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await start_session(simulator.tws.port, heartbeat_interval=30.0)
    await ready(session)
    connection = next(iter(simulator.tws.connections))
    held: list[bytes] = []
    write = connection.write
    connection.write = held.append  # type: ignore[assignment,method-assign]
    with pytest.raises(RequestTimedOutError):
        await session.queries.positions(timeout=0.1)
    with pytest.raises(RequestTimedOutError):
        await session.queries.all_open_orders(timeout=0.1)
    connection.write = write  # type: ignore[method-assign]
    for data in held:
        connection.write(data)
    assert await session.queries.positions(timeout=20) == ()
    assert await session.queries.all_open_orders(timeout=20) == ()
    assert len(session.context.requests) == 0


@pytest.mark.parametrize(("hours", "off"), [(0.0, False), (2.0, True)])
async def test_a_clock_that_is_off_is_seen_when_the_session_is_ready(
    simulator: Simulator, start_session: StartSession, hours: float, off: bool
) -> None:
    simulator.world.clock.advance(hours * 3600)
    session = await start_session(simulator.tws.port)
    await eventually(lambda: session.context.clock_skew is not None)
    assert session.context.clock_is_off is off
    assert session.state is State.READY
    if off:
        assert (
            "7200 s behind" in session.context.clock_words()
            or "719" in session.context.clock_words()
        )
