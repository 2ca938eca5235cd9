"""Reading over a real socket: what a gateway's own order of messages does to the desks."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.callers import ORDER_CHECKS, Holder, Scope
from bridge.market.errors import StaleExpirationError
from bridge.market.history import HistoryQuery
from bridge.market.options import SliceQuery
from bridge.model import Contract
from bridge.stream.protocol import Subscribe
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import (
    CompetingSessionError,
    NoMarketDataError,
    NotConnectedError,
    UnknownContractError,
)
from simulator.tws.connection import Connection
from tests.bridge.market.over_wire import Wired, wired

AAPL = Contract(symbol="AAPL")
MSFT = Contract(symbol="MSFT")


async def read(rig: Wired, contract: Contract = AAPL) -> Any:
    details = await rig.contracts.resolve(contract)
    return await rig.quotes.quote(details.contract)


async def test_a_live_quote() -> None:
    async with wired() as rig:
        quote = await read(rig)
        assert quote.market_data == "live"
        assert quote.bid.tag == "live"
        assert quote.bid.value < quote.ask.value
        assert quote.notice is None


async def test_delayed_where_the_account_has_no_live_data_and_none_where_it_has_nothing() -> None:
    async with wired(market_data="live,AAPL=delayed,MSFT=none") as rig:
        quote = await read(rig)
        assert (quote.market_data, quote.bid.tag) == ("delayed", "delayed")
        assert quote.notice.broker_code in {10089, 10167, 10168, 354}
        with pytest.raises(NoMarketDataError):
            await read(rig, MSFT)
        assert (await read(rig, Contract(symbol="IBM"))).bid.tag == "live"


async def test_live_comes_back_when_the_competing_session_ends() -> None:
    async with wired() as rig:
        with rig.quotes.holding((await rig.contracts.resolve(AAPL)).contract) as line:
            await line.wait(lambda slot: slot.fresh("bid"), 5)
            rig.fault("competing-session")
            with pytest.raises(CompetingSessionError):
                await read(rig, MSFT)
            assert rig.session.state is ConnectionState.SESSION_CONFLICT
            assert not line.slot.fresh("bid")
            rig.simulator.world.faults.clear("competing-session")
            rig.session.subscriptions.alone()
            rig.quotes.maintain()
            await rig.until(lambda: line.slot.number("bid") is not None)
            assert line.slot.view(0)["bid"].tag == "live"
            assert (await read(rig, MSFT)).bid.tag == "live"


async def test_unknown_contracts() -> None:
    async with wired() as rig:
        with pytest.raises(UnknownContractError):
            await read(rig, Contract(symbol="NOSUCH"))


async def test_a_chain_and_a_slice_with_greeks() -> None:
    async with wired() as rig:
        chain = await rig.options.chain(AAPL)
        assert chain.expirations[0].dte >= 0
        assert [item.dte for item in chain.expirations] == sorted(
            item.dte for item in chain.expirations
        )
        expiration = chain.expirations[2]
        answer = await rig.options.slice(
            SliceQuery(underlying=AAPL, expiration=expiration.expiration, count=3)
        )
        assert answer.dte == expiration.dte
        assert len(answer.options) == 6
        assert answer.complete, answer
        call = next(item for item in answer.options if item.right == "C")
        assert call.delta is not None
        assert isinstance(call.delta.value, float)
        assert 0 < call.delta.value < 1
        assert call.open_interest is not None


async def test_strikes_near_the_money_are_not_chosen_by_a_last_price_of_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = Connection.write

    def without_last(connection: Connection, data: bytes) -> None:
        fields = data[4:].split(b"\0")
        if fields[0] == b"1" and fields[3] == b"4":
            fields[4:6] = [b"0.0", b"0"]
            body = b"\0".join(fields)
            data = len(body).to_bytes(4) + body
        write(connection, data)

    monkeypatch.setattr(Connection, "write", without_last)
    async with wired() as rig:
        quote = await read(rig)
        assert quote.last is None or quote.last.value is None
        assert isinstance(quote.bid.value, float)
        chain = await rig.options.chain(AAPL)
        answer = await rig.options.slice(
            SliceQuery(underlying=AAPL, expiration=chain.expirations[2].expiration, count=3)
        )
        strikes = {each.strike for each in answer.options}
        assert all(abs(strike / quote.bid.value - 1) < 0.1 for strike in strikes if strike)


async def test_expirations_go_at_the_exchanges_midnight() -> None:
    friday_evening = datetime(2026, 3, 21, 3, 59, 0, tzinfo=UTC)  # 23:59 on the 20th in New York
    async with wired(start=friday_evening.timestamp()) as rig:

        class Clock:
            def now(self) -> datetime:
                return rig.simulator.world.clock.now()

            monotonic = asyncio.get_running_loop().time
            sleep = asyncio.sleep

        rig.options._clock = Clock()  # type: ignore[assignment]
        chain = await rig.options.chain(AAPL)
        assert (chain.expirations[0].expiration, chain.expirations[0].dte) == ("20260320", 0)
        rig.simulator.world.clock.advance(120)
        chain = await rig.options.chain(AAPL)
        assert chain.expirations[0].expiration > "20260320"
        with pytest.raises(StaleExpirationError):
            await rig.options.slice(SliceQuery(underlying=AAPL, expiration="20260320"))


async def test_positions_account_and_pnl() -> None:
    async with wired() as rig:
        accounts = await rig.account.accounts()
        assert accounts.accounts[0].account == "DU1234567"
        assert accounts.accounts[0].net_liquidation
        positions = await rig.account.positions()
        assert all(item.account == "DU1234567" for item in positions.positions)
        pnl = await rig.account.pnl()
        assert pnl.pnl[0].tag == "live"


async def test_a_lost_connection_makes_quotes_stale_and_restores_them() -> None:
    async with wired() as rig:
        session = rig.stream.hub.open(Holder("key", rank=Scope.ADMIN))
        rig.stream.hub.attach(session, lambda _: None)
        await rig.stream.subscribe(session, Subscribe(channel="quotes", symbols=("AAPL", "MSFT")))
        messages: list[dict[str, Any]] = []

        def seen(kind: str) -> list[dict[str, Any]]:
            messages.extend(json.loads(text) for text in session.subscriber.take(0))
            return [message for message in messages if message["type"] == kind]

        await rig.until(lambda: len(seen("quotes")) > 2)
        rig.fault("port-closed")
        rig.fault("rst")
        await rig.until(lambda: len(seen("stale")) == 1)
        with pytest.raises(NotConnectedError):
            await read(rig)
        rig.simulator.world.faults.clear()
        await rig.until(lambda: len(seen("resumed")) == 1)
        assert seen("stale")[0]["symbols"] == ["AAPL", "MSFT"]
        assert seen("resumed")[0]["symbols"] == ["AAPL", "MSFT"]
        assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))
        assert (await read(rig)).bid.tag == "live"


async def test_1101_subscribes_everything_anew() -> None:
    async with wired() as rig:
        contract = (await rig.contracts.resolve(AAPL)).contract
        with rig.quotes.holding(contract) as line:
            await line.wait(lambda slot: slot.fresh("bid"), 5)
            rig.fault("upstream-lost")
            await rig.until(lambda: not line.slot.fresh("bid"))
            assert line.slot.view(0)["bid"].tag == "stale"
            rig.simulator.world.faults.clear()
            rig.fault("upstream-restored-data-lost")
            await rig.until(lambda: line.slot.fresh("bid"))
            assert line.slot.view(0)["bid"].tag == "live"


async def test_an_order_has_a_price_at_once_after_1102_in_a_market_that_stands_still() -> None:
    """The old request is given back before the new one: the account has one line."""
    async with wired(lines=1, market_data_lines=1, tick_interval=3600.0) as rig:
        contract = (await rig.contracts.resolve(AAPL)).contract
        with rig.quotes.holding(contract) as line:
            await line.wait(lambda slot: slot.fresh("bid"), 5)
            rig.fault("upstream-lost")
            await rig.until(lambda: not line.slot.fresh("bid"))
            rig.fault("upstream-restored")
            await rig.ready()
            assert line.slot.view(0)["bid"].tag == "stale"
            quote: Any = await rig.quotes.quote(contract, holder=ORDER_CHECKS)
            assert (quote.bid.tag, line.error) == ("live", None)


async def test_never_more_lines_than_the_account_has() -> None:
    async with wired(lines=3, market_data_lines=3) as rig:
        symbols = ("AAPL", "MSFT", "IBM", "KO", "PEP", "GS")
        for symbol in symbols:
            assert (await read(rig, Contract(symbol=symbol))).bid is not None
        chain = await rig.options.chain(AAPL)
        answer = await rig.options.slice(
            SliceQuery(underlying=AAPL, expiration=chain.expirations[1].expiration, count=4)
        )
        assert answer.failed == ()
        assert len(answer.options) == 8


def history(contract: Contract = AAPL, **wanted: Any) -> HistoryQuery:
    return HistoryQuery(contract=contract, **wanted)


async def test_history_of_stocks_and_options() -> None:
    async with wired() as rig:
        answer = await rig.history.bars(history(duration="2 D", bar_size="1 hour"))
        assert answer.bars
        assert [bar.time for bar in answer.bars] == sorted(bar.time for bar in answer.bars)
        assert all(bar.low <= bar.open <= bar.high for bar in answer.bars)
        daily = await rig.history.bars(history(duration="1 M", bar_size="1 day"))
        assert len({bar.date for bar in daily.bars}) == len(daily.bars) > 15
        chain = await rig.options.chain(AAPL)
        expiration = chain.expirations[3].expiration
        part = await rig.options.slice(
            SliceQuery(underlying=AAPL, expiration=expiration, count=1, right="C")
        )
        option = Contract(
            symbol="AAPL",
            sec_type="OPT",
            expiration=expiration,
            strike=part.options[0].strike,
            right="C",
        )
        for what in ("MIDPOINT", "BID_ASK"):
            bars = await rig.history.bars(
                history(option, duration="2 D", bar_size="1 hour", what_to_show=what)
            )
            assert bars.bars, what
            assert bars.con_id == part.options[0].con_id


async def test_history_longer_than_one_request_is_whole_and_in_order() -> None:
    tuesday_noon = datetime(2026, 3, 3, 17, 0, tzinfo=UTC)
    async with wired(start=tuesday_noon.timestamp(), hours="exchange") as rig:

        class Clock:
            def now(self) -> datetime:
                return rig.simulator.world.clock.now()

            monotonic = asyncio.get_running_loop().time

        rig.history._clock = Clock()  # type: ignore[assignment]
        answer = await rig.history.bars(history(duration="4 D", bar_size="1 min"))
        assert answer.requests == 4
        times = [bar.time for bar in answer.bars]
        assert times == sorted(set(times))
        days = sorted({moment.date().isoformat() for moment in times})
        assert days == ["2026-02-26", "2026-02-27", "2026-03-02", "2026-03-03"]
        assert len(times) == 3 * 390 + 150 + 1  # the last one is still growing
        again = await rig.history.bars(history(duration="4 D", bar_size="1 min"))
        assert (again.cached_pages, again.bars[:-1]) == (3, answer.bars[:-1])
