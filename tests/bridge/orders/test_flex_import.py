"""Executions of earlier days from a Flex statement: once each, orders settled."""

from __future__ import annotations

import asyncio
import http.server
import threading
import time
import tracemalloc
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.orders import flex_import
from bridge.orders.errors import OrderPendingError
from bridge.orders.flex_import import (
    PART,
    POLLS,
    FlexError,
    FlexImport,
    FlexOffError,
    FlexPacedError,
    FlexService,
    fetch,
    moment,
    read_statement,
)
from bridge.store import executions
from bridge.store.orders import State
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import NoonClock, Rig, opened
from tests.bridge.orders.samples import NOON
from tests.bridge.rig import BridgeProcess, SimulatorProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEEP = timedelta(days=730)
TOKEN = "112233445566778899"
BUY = {
    "accountId": "DU1234567", "currency": "USD", "assetCategory": "STK", "symbol": "AAPL",
    "conid": "265598", "quantity": "10", "tradePrice": "100.25", "ibCommission": "-1.005",
    "ibCommissionCurrency": "USD", "fifoPnlRealized": "0", "dateTime": "20260709;103005",
    "ibExecID": "00018037.5a5a5a5a.01.01", "ibOrderID": "700001", "orderReference": "",
    "levelOfDetail": "EXECUTION", "exchange": "ARCA", "buySell": "BUY", "notes": "",
}  # fmt: skip


def xml(*trades: dict[str, str]) -> bytes:
    rows = "".join(
        "<Trade " + " ".join(f'{name}="{value}"' for name, value in trade.items()) + "/>"
        for trade in trades
    )
    return (
        '<FlexQueryResponse queryName="q" type="AF"><FlexStatements count="1">'
        '<FlexStatement accountId="DU1234567" fromDate="20260701" toDate="20260709">'
        f"<Trades>{rows}</Trades></FlexStatement></FlexStatements></FlexQueryResponse>"
    ).encode()


def said(status: str, **members: str) -> bytes:
    body = "".join(f"<{name}>{value}</{name}>" for name, value in members.items())
    head = '<FlexStatementResponse timestamp="x">'
    return f"{head}<Status>{status}</Status>{body}</FlexStatementResponse>".encode()


ACCEPTED = said("Success", ReferenceCode="77", Url="https://elsewhere.example/steal")
BUSY = said("Warn", ErrorCode="1019", ErrorMessage="Statement generation in progress.")


class Script:
    """Answers one after the other; the last one stays."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def get(self, address: str, parameters: dict[str, str]) -> bytes:
        self.asked.append((address, parameters))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class StillClock(NoonClock):
    """Stands still unless it is wound; keeps how long was slept, and wakes at once or never."""

    def __init__(self, *, wakes: int = 99) -> None:
        super().__init__()
        self.slept: list[float] = []
        self.wakes = wakes

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self._wound)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.wakes -= 1
        if self.wakes < 0:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


def service(folder: Path, script: Script, clock: NoonClock | None = None) -> FlexService:
    (folder / "token").write_text(f"{TOKEN}\n")
    clock = clock or NoonClock()
    return FlexService(folder / "token", "42", "https://flex.example/", clock, script.get)


# --- a statement ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    ["20260709;103005", "2026-07-09;10:30:05", "2026-07-09, 10:30:05", "20260709 103005",
     "2026-07-09 10:30:05 EDT"],
)  # fmt: skip
def test_a_time_is_read_in_every_form_that_a_query_can_choose(text: str) -> None:
    assert moment(text) == datetime(2026, 7, 9, 14, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "hour"),
    [("20260709;103005 EDT", 14), ("2026-07-09;10:30:05 CEST", 8), ("20260709;103005 JST", 1),
     ("20260709;103005 UTC", 10), ("20260709;103005 +0200", 8)],
)  # fmt: skip
def test_the_zone_that_a_query_writes_is_heeded(text: str, hour: int) -> None:
    assert moment(text) == datetime(2026, 7, 9, hour, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20260709",
        "09/07/26;1030",
        "x" * 50,
        "20269999;103005",
        "20260709;103005 XYZ",
        "20260709;103005 CST",
    ],
)
def test_a_time_that_is_none_is_not_guessed(text: str) -> None:
    assert moment(text) is None


def test_a_trade_is_read_whole() -> None:
    option = BUY | {
        "assetCategory": "OPT", "symbol": "AAPL  261218P00150000", "underlyingSymbol": "AAPL",
        "strike": "150", "expiry": "20261218", "putCall": "P", "multiplier": "100",
        "quantity": "-2", "tradePrice": "0", "ibExecID": "", "transactionID": "987654",
        "notes": "Ep", "fifoPnlRealized": "312.5",
    }  # fmt: skip
    found = read_statement(xml(BUY, option))
    bought, expired = found.executions
    assert (bought.side, bought.quantity, bought.price) == ("BOT", 10, 100.25)
    assert (bought.exec_id, bought.perm_id) == ("00018037.5a5a5a5a.01.01", 700001)
    assert bought.time == datetime(2026, 7, 9, 14, 30, 5, tzinfo=UTC)
    assert (expired.exec_id, expired.side, expired.reason) == ("flex-987654", "SLD", "expiry")
    assert (expired.contract.symbol, expired.contract.right) == ("AAPL", "P")
    assert (expired.contract.strike, expired.contract.expiration) == (150, "20261218")
    assert [each.commission for each in found.commissions] == [1.005, 1.005]
    assert found.commissions[1].realized_pnl == 312.5
    assert (found.since, found.until) == ("20260701", "20260709")


def test_what_a_trade_does_not_say_is_not_made_up() -> None:
    bare = {"quantity": "-1,000.5", "tradePrice": "-3", "tradeID": "5", "tradeDate": "20260709"}
    (sold,) = read_statement(xml(bare)).executions
    assert (sold.side, sold.quantity, sold.price, sold.exec_id) == ("SLD", 1000.5, -3.0, "flex-5")
    assert (sold.time_known, sold.time_text, sold.perm_id) == (False, "20260709", 0)
    assert (sold.contract.sec_type, sold.contract.con_id, sold.contract.right) == ("STK", 0, None)
    assert (sold.contract.strike, sold.contract.multiplier, sold.reason) == (0.0, "", "")
    assert read_statement(xml(bare)).commissions == ()
    free = bare | {"commission": "0", "currency": "EUR"}
    (report,) = read_statement(xml(free)).commissions
    assert (report.commission, str(report.commission), report.currency) == (0.0, "0.0", "EUR")
    call = BUY | {"assetCategory": "OPT", "underlyingSymbol": "MSFT", "putCall": "Call",
                  "multiplier": "100", "notes": "P;A"}  # fmt: skip
    share = BUY | {"underlyingSymbol": "MSFT", "multiplier": "100", "assetCategory": "CRYPTO"}
    of_call, of_share = read_statement(xml(call, share)).executions
    assert (of_call.contract.symbol, of_call.contract.right) == ("MSFT", "C")
    assert (of_call.contract.multiplier, of_call.reason) == ("100", "assignment")
    assert (of_share.contract.symbol, of_share.contract.multiplier) == ("AAPL", "")
    assert of_share.contract.sec_type == "CRYPTO"


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.00000001", 1e-8), ("1E-8", 1e-8), (".5", 0.5), ("100.123456789012", 100.123456789012)],
)
def test_a_number_is_read_however_it_is_written(text: str, number: float) -> None:
    """Of one that was not, the whole execution was left out without a word."""
    found = read_statement(xml(BUY | {"quantity": text, "ibCommission": f"-{text}"}))
    assert found.executions[0].quantity == number
    assert found.commissions[0].commission == number


def test_a_pair_of_currencies_is_called_as_the_api_calls_it() -> None:
    pair = BUY | {"assetCategory": "CASH", "symbol": "EUR.USD", "conid": "12087792"}
    (bought,) = read_statement(xml(pair)).executions
    assert (bought.contract.symbol, bought.contract.currency) == ("EUR", "USD")
    assert bought.contract.local_symbol == "EUR.USD"


def test_several_statements_are_one_from_the_first_day_to_the_last() -> None:
    content = (
        b'<FlexQueryResponse><FlexStatement fromDate="20260703" toDate="20260704"/>'
        b'<FlexStatement fromDate="20260701" toDate="20260709"/></FlexQueryResponse>'
    )
    found = read_statement(content)
    assert (found.since, found.until, found.executions) == ("20260701", "20260709", ())
    nothing = read_statement(b"<FlexQueryResponse/>")
    assert (nothing.since, nothing.until) == ("", "")


BOOKED = BUY | {"transactionID": "1001"}
CANCELLED = BUY | {
    "quantity": "-10", "ibExecID": "", "transactionID": "1002", "origTransactionID": "1001",
    "transactionType": "TradeCancel", "buySell": "BUY (Ca.)", "notes": "Ca", "ibCommission": "0",
}  # fmt: skip
BOOKED_AGAIN = BUY | {"transactionID": "1003", "ibExecID": "00018037.5a5a5a5b.01.01"}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"transactionID": ""},
        {"origTransactionID": ""},
        {"transactionType": "", "buySell": ""},
        {"notes": "", "buySell": ""},
        {"transactionType": "", "notes": ""},
    ],
)
def test_a_trade_that_was_taken_back_is_none(said: dict[str, str]) -> None:
    """Nor is the cancel one the other way, which the same order would have filled."""
    cancelled = CANCELLED | said
    assert read_statement(xml(BOOKED, cancelled)).executions == ()
    assert read_statement(xml(cancelled)).executions == ()
    (left,) = read_statement(xml(BOOKED, cancelled, BOOKED_AGAIN)).executions
    assert (left.side, left.quantity, left.price) == ("BOT", 10, 100.25)
    others = [BUY | {"ibExecID": "other.01.01", each: "7"} for each in ("conid", "quantity")]
    found = read_statement(xml(*others, BOOKED, cancelled))
    assert [each.exec_id for each in found.executions] == ["other.01.01"] * 2
    assert len(found.commissions) == 2


def test_a_long_statement_takes_no_multiple_of_its_size() -> None:
    """The bridge has 128 MB on a small machine, and a query eighty fields of each trade."""
    more = {f"field{number}": "some text or other" for number in range(60)}
    content = xml(*(BUY | more | {"ibExecID": f"{number:08x}.1.01.01"} for number in range(3_000)))
    tracemalloc.start()
    try:
        assert len(read_statement(content).executions) == 3_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(content) > 6_000_000
    assert most < len(content)


def test_a_long_statement_is_taken_in_parts() -> None:
    trades = [BUY | {"ibExecID": f"{number:08x}.5a5a5a5a.01.01"} for number in range(PART + 1)]
    parts = list(flex_import._parts(read_statement(xml(*trades))))
    assert [len(part) for part in parts] == [PART, PART, 2]
    assert len({repr(each) for part in parts for each in part}) == 2 * (PART + 1)


@pytest.mark.parametrize(
    "change",
    [{"quantity": ""}, {"quantity": "0"}, {"tradePrice": "NaN"}, {"tradePrice": "1e999"},
     {"levelOfDetail": "ORDER"}, {"ibExecID": ""}],
)  # fmt: skip
def test_what_is_no_execution_is_left_out(change: dict[str, str]) -> None:
    assert read_statement(xml(BUY | change)).executions == ()


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"{}", b"\xff\xfe", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'],
)
def test_what_is_no_statement_is_refused(content: bytes) -> None:
    with pytest.raises(FlexError):
        read_statement(content)


# --- the service ---------------------------------------------------------------------------------
async def test_the_statement_is_waited_for_and_the_token_goes_nowhere_else(tmp_path: Path) -> None:
    script = Script(ACCEPTED, BUSY, BUSY, xml(BUY))
    assert b"00018037" in await service(tmp_path, script).statement()
    assert [address for address, _ in script.asked] == [
        "https://flex.example/SendRequest",
        *["https://flex.example/GetStatement"] * 3,
    ]
    assert script.asked[0][1] == {"t": TOKEN, "q": "42", "v": "3"}
    assert script.asked[1][1]["q"] == "77"


@pytest.mark.parametrize(
    ("code", "hint"),
    [("1012", "expired"), ("1013", "address"), ("1014", "bridge.flex.query"), ("1018", "Wait")],
)
async def test_a_refusal_says_what_to_do(tmp_path: Path, code: str, hint: str) -> None:
    script = Script(said("Fail", ErrorCode=code, ErrorMessage="no"))
    with pytest.raises(FlexError) as caught:
        await service(tmp_path, script).statement()
    assert hint in caught.value.next_step
    assert len(script.asked) == 1
    assert TOKEN not in str(caught.value)


async def test_a_statement_that_never_comes_ends(tmp_path: Path) -> None:
    script = Script(ACCEPTED, BUSY)
    with pytest.raises(FlexError, match="not made within"):
        await service(tmp_path, script).statement()
    assert len(script.asked) == 1 + len(POLLS)


async def test_each_question_for_it_waits_its_time(tmp_path: Path) -> None:
    clock = StillClock()
    await service(tmp_path, Script(ACCEPTED, BUSY, BUSY, xml(BUY)), clock).statement()
    assert tuple(clock.slept) == POLLS[:3]
    refused = StillClock()
    script = Script(ACCEPTED, BUSY, said("Fail", ErrorCode="1015", ErrorMessage="no"))
    with pytest.raises(FlexError, match="1015"):
        await service(tmp_path, script, refused).statement()
    assert tuple(refused.slept) == POLLS[:2]
    with pytest.raises(FlexError, match="says nothing: FlexStatementResponse"):
        await service(tmp_path, Script(said("Success"))).statement()


@pytest.mark.parametrize(
    ("token", "sound"),
    [("1" * 6, True), ("1" * 64, True), ("1" * 5, False), ("1" * 65, False), ("12345x", False),
     ("", False)],
)  # fmt: skip
async def test_only_a_number_is_sent_as_the_token(tmp_path: Path, token: str, sound: bool) -> None:
    script = Script(said("Fail", ErrorCode="1014"))
    asked = service(tmp_path, script)
    (tmp_path / "token").write_text(f" {token}\n")
    with pytest.raises(FlexError, match="1014" if sound else "is not a number"):
        await asked.statement()
    assert [each["t"] for _, each in script.asked] == ([token] if sound else [])


async def test_a_token_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    script = Script(ACCEPTED)
    asked = service(tmp_path, script)
    (tmp_path / "token").unlink()
    with pytest.raises(FlexError, match="cannot be read: No such file"):
        await asked.statement()
    assert script.asked == []


async def test_an_answer_is_taken_up_to_a_size_and_only_when_all_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flex_import, "LARGEST", 10)
    with flex_server(b"x" * 10, b"x" * 11) as (address, agents):
        assert await fetch(address, {"t": TOKEN}) == b"x" * 10
        with pytest.raises(FlexError, match="too large"):
            await fetch(address, {"t": TOKEN})
        assert [each.split("/")[0] for each in agents] == ["Python", "Python"]
    with (
        flex_server(b"no", status=503) as (address, _),
        pytest.raises(FlexError, match="answered with 503"),
    ):
        await fetch(address, {"t": TOKEN})


async def test_without_a_way_there_the_error_holds_no_token() -> None:
    with pytest.raises(FlexError) as caught:
        await fetch("http://127.0.0.1:9/SendRequest", {"t": TOKEN})
    assert TOKEN not in f"{caught.value}{caught.value.__cause__}"


# --- into the journal ----------------------------------------------------------------------------
async def imported(rig: Rig, folder: Path, *answers: bytes) -> FlexImport:
    flex = FlexImport(service(folder, Script(*answers)), rig.database, rig.journal, rig.clock, KEEP)
    assert flex.ask().state == "running"
    assert flex.ask().state == "running", "a second one does not begin beside it"
    task = flex._task
    assert task is not None
    await task
    return flex


async def test_every_execution_is_there_once_however_often_it_is_imported(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        second = BUY | {"ibExecID": "00018037.5a5a5a5b.01.01", "quantity": "-4"}
        first = await imported(rig, tmp_path, ACCEPTED, xml(BUY, second))
        again = await imported(rig, tmp_path, ACCEPTED, xml(BUY, second))
        assert (first.last.imported, first.last.known) == (2, 0)
        assert (again.last.imported, again.last.known) == (0, 2)
        with pytest.raises(FlexPacedError):
            again.ask()
        rig.clock.wind(601)
        assert again.ask().state == "running"
        await again.stop()


async def test_a_query_with_fewer_members_takes_nothing_away(tmp_path: Path) -> None:
    """A trade confirmation has no realized profit, and perhaps no currency of the commission."""
    sold = BUY | {"quantity": "-10", "fifoPnlRealized": "312.5", "ibCommissionCurrency": "EUR"}
    bare = {n: v for n, v in sold.items() if n not in {"fifoPnlRealized", "ibCommissionCurrency"}}
    async with opened(tmp_path, FakeBroker()) as rig:
        await imported(rig, tmp_path, ACCEPTED, xml(sold))
        await imported(rig, tmp_path, ACCEPTED, xml(bare))
        row = await rig.database.read(lambda c: executions.by_exec_id(c, sold["ibExecID"]))
    assert row is not None
    assert (row.commission, row.commission_currency, row.realized_pnl) == (1.005, "EUR", 312.5)


async def test_what_the_broker_has_taken_back_since_is_named(tmp_path: Path) -> None:
    """The journal keeps it as it was told; nobody would know else that it is none any more."""
    corrected = BOOKED_AGAIN | {"ibExecID": BUY["ibExecID"][:-1] + "2"}
    async with opened(tmp_path, FakeBroker()) as rig:
        unknown = await imported(rig, tmp_path, ACCEPTED, xml(BOOKED, CANCELLED))
        first = await imported(rig, tmp_path, ACCEPTED, xml(BOOKED))
        again = await imported(rig, tmp_path, ACCEPTED, xml(BOOKED, CANCELLED, BOOKED_AGAIN))
        booked = await imported(rig, tmp_path, ACCEPTED, xml(BOOKED, CANCELLED, corrected))
    assert [each.last.taken_back for each in (unknown, first, again, booked)] == [
        (), (), (BUY["ibExecID"],), (),
    ]  # fmt: skip


async def test_a_correction_goes_over_what_is_known(tmp_path: Path) -> None:
    """The broker has corrected an execution and its commission while the bridge was away."""
    corrected = BUY | {"ibExecID": BUY["ibExecID"][:-1] + "2", "ibCommission": "-2.5"}
    async with opened(tmp_path, FakeBroker()) as rig:
        for statement in (BUY, corrected, BUY):
            await imported(rig, tmp_path, ACCEPTED, xml(statement))
        row = await rig.database.read(lambda c: executions.by_exec_id(c, BUY["ibExecID"]))
    assert row is not None
    assert row.commission == 2.5


async def _unlisted(tmp_path: Path, *keys: str) -> FakeBroker:
    """A broker that has answered to no order with these keys, and lists none of them."""
    broker = FakeBroker()
    broker.quiet = True
    async with opened(tmp_path, broker, answer_within_seconds=0.05) as rig:
        for key in keys:
            with pytest.raises(OrderPendingError):
                await rig.place(key)
    broker.quiet = False
    broker.hidden.update(broker.book)
    return broker


async def test_an_order_of_unknown_fate_is_settled_by_its_fills(tmp_path: Path) -> None:
    broker = await _unlisted(tmp_path, "key-1", "key-2")
    async with opened(tmp_path, broker) as rig:
        found = (await rig.service.orders(only_open=True, cursor="", limit=9)).orders
        assert {each.state for each in found} == {State.UNKNOWN}
        other, filled = found
        part = BUY | {"orderReference": filled.order_ref, "quantity": "6"}
        rest = part | {"quantity": "4", "ibExecID": "00018037.5a5a5a5b.01.01"}
        flex = await imported(rig, tmp_path, ACCEPTED, xml(part, rest))
        assert flex.last.settled == (filled.order_id,)
        assert flex.last.unknown == (other.order_id,)
        view = await rig.view(filled.order_id)
        assert (view.state, view.filled) == (State.TERMINAL, 10)


async def test_what_is_in_the_archive_does_not_come_back_each_day(tmp_path: Path) -> None:
    """A query may reach back further than `journal.keep`: each day it would be new, and moved."""
    broker = await _unlisted(tmp_path, "key-1")
    async with opened(tmp_path, broker) as rig:
        (order,) = (await rig.service.orders(only_open=True, cursor="", limit=9)).orders
        old = BUY | {"dateTime": "20240102;103005"}
        ours = old | {"ibExecID": "00018037.5a5a5a5b.01.01", "orderReference": order.order_ref}
        flex = await imported(rig, tmp_path, ACCEPTED, xml(old, ours))
        assert (flex.last.imported, flex.last.known) == (1, 0)
        assert flex.last.settled == (order.order_id,), "what is open is settled, however old"
        rows = await rig.database.read(
            lambda c: c.execute(
                "SELECT exec_id FROM executions JOIN commissions USING (stem)"
            ).fetchall()
        )
        assert [row[0] for row in rows] == [ours["ibExecID"]]
        left = await rig.database.read(
            lambda c: c.execute("SELECT count(*) FROM commissions").fetchone()[0]
        )
        assert left == 1, "nor does its commission"


async def test_a_part_of_its_fills_settles_no_order(tmp_path: Path) -> None:
    """The rest may have been filled on another day, or not at all."""
    broker = await _unlisted(tmp_path, "key-1")
    async with opened(tmp_path, broker) as rig:
        (order,) = (await rig.service.orders(only_open=True, cursor="", limit=9)).orders
        part = BUY | {"orderReference": order.order_ref, "quantity": "6"}
        flex = await imported(rig, tmp_path, ACCEPTED, xml(part))
        assert (flex.last.imported, flex.last.settled) == (1, ())
        assert flex.last.unknown == (order.order_id,)
        assert (await rig.view(order.order_id)).filled == 6


async def test_a_failure_is_kept_with_its_hint(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        fail = said("Fail", ErrorCode="1015", ErrorMessage="Token is invalid.")
        flex = await imported(rig, tmp_path, fail)
        assert flex.last.state == "failed"
        assert "1015" in (flex.last.problem or "")
        assert "secrets set flex-token" in (flex.last.next_step or "")


def made(rig: Rig, folder: Path, clock: StillClock) -> tuple[FlexImport, Script]:
    script = Script(ACCEPTED, xml(BUY))
    asked = service(folder, script, clock)
    return FlexImport(asked, rig.database, rig.journal, clock, KEEP), script


async def test_asked_again_too_soon_it_says_how_long_to_wait(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        clock = StillClock()
        flex, _ = made(rig, tmp_path, clock)
        assert flex.ask().state == "running"
        assert flex._task is not None
        await flex._task
        clock.wind(599)
        with pytest.raises(FlexPacedError) as caught:
            flex.ask()
        assert caught.value.retry_after == 1.0
        clock.wind(1)
        assert flex.ask().at == NOON + timedelta(minutes=10)
        await flex.stop()
        clock.wind(-86_400)
        assert flex.ask().state == "running", "a clock that was set back holds nothing up"
        await flex.stop()


async def turns(true: Callable[[], bool]) -> None:
    """Gives the tasks, and the journal's threads, their turns until it is true."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("hours_away", "at_once"), [(None, False), (6.0, False), (6.1, True), (72.0, True)]
)
async def test_it_is_asked_for_after_an_absence_and_once_a_day(
    tmp_path: Path, hours_away: float | None, at_once: bool
) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        clock = StillClock(wakes=0)
        flex, _ = made(rig, tmp_path, clock)
        flex.start(None if hours_away is None else NOON - timedelta(hours=hours_away))
        await turns(lambda: bool(clock.slept))
        assert clock.slept[0] == (POLLS[0] if at_once else 86_400.0)
        assert flex.last.state == ("running" if at_once else "never")
        await flex.stop()
        again = StillClock(wakes=2)
        flex, _ = made(rig, tmp_path, again)
        flex.start(None)
        await turns(lambda: len(again.slept) == 3)
        assert again.slept == [3_600.0 if at_once else 86_400.0, POLLS[0], 86_400.0]
        assert flex.last.state == "done"
        await flex.stop()


async def test_a_bridge_that_is_restarted_every_day_imports_once_a_day(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        slept, wound = [], 0.0
        for hours in (0.0, 12.0, 11.0, 2.0, 12.0):
            clock = StillClock(wakes=0)
            wound += hours * 3600
            clock.wind(wound)
            flex, _ = made(rig, tmp_path, clock)
            flex.start(None)
            await turns(lambda: bool(clock.slept))  # noqa: B023
            slept.append(clock.slept[0])
            await flex.stop()
        assert slept[:4] == [86_400.0, 12 * 3600.0, 3600.0, POLLS[0]]
        assert slept[4] == POLLS[0], "what was ended in the middle is not done"


async def test_a_failure_is_tried_again_and_told_when_it_lasts(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        clock = StillClock(wakes=2)
        refused = said("Fail", ErrorCode="1012", ErrorMessage="Token has expired.")
        script = Script(refused)
        asked = service(tmp_path, script, clock)
        flex = FlexImport(asked, rig.database, rig.journal, clock, KEEP)
        flex.start(NOON - timedelta(days=3))
        await turns(lambda: len(clock.slept) == 3)
        assert clock.slept == [3_600.0, 7_200.0, 14_400.0]
        need = flex.need()
        assert need is not None
        assert "1012" in need.message
        assert "secrets set flex-token" in need.next_step
        await flex.stop()
        clock = StillClock(wakes=0)
        later, _ = made(rig, tmp_path, clock)
        later.start(None)
        await turns(lambda: later.need() is not None)
        clock.wakes = len(POLLS)
        assert later.ask().state == "running"
        await turns(lambda: later.last.state == "done")
        assert later.need() is None
        await later.stop()


@pytest.mark.parametrize(
    ("failures", "hours"), [(0, 24), (1, 1), (2, 2), (5, 16), (6, 24), (1000, 24)]
)
def test_it_is_asked_again_soon_and_then_ever_later(failures: int, hours: int) -> None:
    assert flex_import._pause(failures) == timedelta(hours=hours)


async def test_without_a_query_nothing_begins(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        flex = FlexImport(None, rig.database, rig.journal, rig.clock, KEEP)
        flex.start(NOON - timedelta(days=9))
        with pytest.raises(FlexOffError):
            flex.ask()
        assert flex.last.state == "never"
        await flex.stop()


# --- the whole way -------------------------------------------------------------------------------
@contextmanager
def flex_server(*answers: bytes, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    left, asked = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["User-Agent"])
            assert parse_qs(urlsplit(self.path).query)["t"] == [TOKEN]
            content = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_over_http_the_import_is_asked_for_and_the_token_is_in_no_log(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    with flex_server(ACCEPTED, xml(BUY | {"notes": "A"})) as (address, agents):
        bridge = BridgeProcess(
            tmp_path / "bridge",
            simulator.port,
            BRIDGE_FLEX_QUERY="42",
            BRIDGE_FLEX_TOKEN_FILE=str(tmp_path / "token"),
            BRIDGE_FLEX_URL=address,
            BRIDGE_TIME_ZONE="Europe/Berlin",
            BRIDGE_LOG_LEVEL="debug",
        )
        try:
            bridge.wait_for("ready")
            assert bridge.get("/executions/import").json()["state"] == "never"
            assert bridge.client.post("/executions/import").status_code == 202
            deadline = time.monotonic() + 30
            while bridge.get("/executions/import").json()["state"] == "running":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            told = bridge.get("/executions/import").json()
            assert (told["state"], told["imported"]) == ("done", 1), told
            (row,) = bridge.get("/executions").json()["executions"]
            assert (row["execId"], row["reason"]) == ("00018037.5a5a5a5a.01.01", "assignment")
            assert row["commission"] == 1.005
            assert row["time"] == "2026-07-09T14:30:05Z", "New York's, wherever the gateway is"
            assert bridge.client.post("/executions/import").status_code == 429
            assert agents[0].startswith("Python/")
        finally:
            bridge.stop()
            simulator.stop()
    assert TOKEN not in bridge.log.read_text()


def test_without_a_query_there_is_nothing_to_import(tmp_path: Path) -> None:
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    bridge = BridgeProcess(tmp_path / "bridge", simulator.port)
    try:
        answer = bridge.client.post("/executions/import")
        assert (answer.status_code, answer.json()["code"]) == (404, "flex-off")
    finally:
        bridge.stop()
        simulator.stop()
