"""Executions of days on which the bridge was away, from the broker's Flex Web Service.

The API lists executions of the present day only; a Flex query lists any time. What it brings goes
the way of every execution: known ones change nothing, an order of ours gets its fills, one of
unknown fate is settled by them.

The service (version 3, https://www.ibkrguides.com/clientportal/performanceandstatements/flex3.htm):
`SendRequest` answers with a reference code, `GetStatement` with the statement, or with code 1019
while it is being made. It wants a User-Agent, and few requests: 1018 says that there were too many.
The token stands in the address, so no address ever gets into a log or a message.
"""

from __future__ import annotations

import asyncio
import io
import math
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple
from xml.etree import ElementTree as ET

import msgspec
import structlog
from msgspec import Struct, structs

from bridge.broker_time import read as read_time
from bridge.clock import Clock, passed, settle
from bridge.errors import BridgeError, Kind
from bridge.model import CommissionReport, Contract, Execution
from bridge.orders.journal import OrderJournal
from bridge.services import Need
from bridge.store import Database, StoreError, executions, orders, settings
from bridge.store.orders import OrderRecord, State

SERVICE: Final = "https://ndcdyn.interactivebrokers.com/AccountManagement/FlexWebService"
IN_PROGRESS: Final = frozenset(
    {"1001", "1004", "1005", "1006", "1007", "1008", "1009", "1019", "1021"}
)
"""The statement is not there yet, or the service is busy: asking again may help."""
POLLS: Final = (3, 5, 10, 15, 30, 60, 60, 60)
"""Seconds before each question for the statement: ten a minute are allowed."""
SPACING: Final = timedelta(minutes=10)
DAILY: Final = timedelta(hours=24)
AWAY: Final = timedelta(hours=6)
"""After so long an absence the statement is asked for at the start."""
AGAIN: Final = timedelta(hours=1)
"""After a failure; twice as long after each further one, up to a day."""
FAILED_OFTEN: Final = 3
"""So many failures in a row are told as a need."""
_ATTEMPT: Final = "flex-import"
LARGEST: Final = 16 * 1024 * 1024
PATIENCE: Final = 60.0
HELP: Final = {
    "1010": "The query is of an old kind: make a new Activity Flex Query",
    "1011": "Make the Flex Web Service active in the Client Portal",
    "1012": "The token has expired: make a new one, ./deploy.py secrets set flex-token, then up",
    "1013": "The token is bound to another address: make one for this host's",
    "1014": "bridge.flex.query is not the number of a query of this account",
    "1018": "Wait ten minutes; other programs may use the same token",
    "1015": "The token is not right: ./deploy.py secrets set flex-token, then up",
}
_NUMBER: Final = re.compile(r"[-+]?(\d{1,15}(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")
_REASONS: Final = {"A": "assignment", "Ex": "exercise", "Ep": "expiry"}
_TRADES: Final = ("Trade", "TradeConfirm")
_SEC_TYPES: Final = {
    *("STK", "CFD", "FUND", "BOND", "BILL", "CASH", "CRYPTO", "CMDTY", "IND"),
    *("OPT", "FUT", "FOP", "WAR", "IOPT"),
}
STATEMENT_ZONE: Final = "America/New_York"
_TIME: Final = re.compile(
    r"(\d{4})[-/]?(\d{2})[-/]?(\d{2})[;,T ]*(\d{2}):?(\d{2}):?(\d{2})(?: *([A-Za-z+-].*))?",
    re.ASCII,
)
log = structlog.get_logger(__name__)


class FlexError(BridgeError):
    """The Flex Web Service did not bring a statement."""

    code = "flex-failed"
    kind = Kind.UNAVAILABLE
    next_step = "Try again later; docs/orders.md says how a query is set up"


class FlexPacedError(BridgeError):
    """Asked again too soon: the service allows few requests."""

    code = "flex-paced"
    kind = Kind.LIMITED
    next_step = "Wait, then ask again; GET /executions/import tells the last result"


class FlexOffError(BridgeError):
    """No Flex query is configured."""

    code = "flex-off"
    kind = Kind.NOT_FOUND
    next_step = "Set bridge.flex in stack.yaml, then run up"


class Statement(Struct, frozen=True, kw_only=True):
    """What one statement holds; `taken_back` are the ids of trades that are none any more."""

    executions: tuple[Execution, ...]
    commissions: tuple[CommissionReport, ...]
    taken_back: tuple[str, ...]
    since: str
    until: str


class _Attempt(Struct, frozen=True):
    """The last one, as it is kept: when, and how many have failed in a row by then."""

    at: datetime
    failures: int


class ImportView(Struct, rename="camel", frozen=True, kw_only=True):
    """How the last import went.

    `imported` executions were new, `known` were there already. `settled` orders were of unknown
    fate and have ended; of `unknown` ones the statement has nothing that ends them, a part of their
    fills perhaps. `taken_back` are executions of the journal that the broker has cancelled since:
    they stay there as they were told.
    """

    state: Literal["never", "running", "done", "failed"]
    at: datetime | None = None
    since: str = ""
    until: str = ""
    imported: int = 0
    known: int = 0
    settled: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    taken_back: tuple[str, ...] = ()
    problem: str | None = None
    next_step: str | None = None


Get = Callable[[str, dict[str, str]], Awaitable[bytes]]
"""One GET of an address with parameters; raises `FlexError`."""


class FlexService:
    """Asks the Flex Web Service for the statement of one query."""

    def __init__(self, token_file: Path, query: str, address: str, clock: Clock, get: Get):
        self._token_file = token_file
        self._query = query
        self._address = address.rstrip("/")
        self._clock = clock
        self._get = get

    async def statement(self) -> bytes:
        """The statement as XML.

        Raises:
            FlexError: there is none, with what to do.
        """
        answer = parsed(await self._ask("SendRequest", self._query))
        code = _text(answer, "ReferenceCode")
        if not code:
            raise _failure(answer)
        for pause in POLLS:
            await self._clock.sleep(pause)
            content = await self._ask("GetStatement", code)
            if b"<FlexQueryResponse" in content[:4096]:
                return content  # megabytes, perhaps: parsed once, by whoever reads it, off the loop
            answer = parsed(content)
            if _text(answer, "ErrorCode") not in IN_PROGRESS:
                raise _failure(answer)
        raise FlexError(f"the statement was not made within {sum(POLLS)} s")

    async def _ask(self, call: str, what: str) -> bytes:
        # The address that SendRequest names is not used: the token goes nowhere else.
        parameters = {"t": self._token(), "q": what, "v": "3"}
        return await self._get(f"{self._address}/{call}", parameters)

    def _token(self) -> str:
        try:
            token = self._token_file.read_text().strip()
        except OSError as error:
            raise FlexError(f"the Flex token cannot be read: {error.strerror}") from None
        if not re.fullmatch(r"[0-9]{6,64}", token):
            raise FlexError("the Flex token is not a number", next_step=HELP["1015"])
        return token


def parsed(content: bytes) -> ET.Element:
    """The root of a small answer."""
    _require_plain(content)
    try:
        return ET.fromstring(content)  # noqa: S314 - without a document type there are no entities
    except ET.ParseError:
        raise _no_xml() from None


def _require_plain(content: bytes) -> None:
    """Document types, which entities need, are refused."""
    if b"<!DOCTYPE" in content[:4096] or b"<!ENTITY" in content:
        raise FlexError("the Flex Web Service answered with a document type")


def _no_xml() -> FlexError:
    return FlexError("the Flex Web Service answered with something that is no XML")


def _text(answer: ET.Element, name: str) -> str:
    return (answer.findtext(name) or "").strip()


def _failure(answer: ET.Element) -> FlexError:
    code, text = _text(answer, "ErrorCode")[:10], _text(answer, "ErrorMessage")[:200]
    return FlexError(
        f"the Flex Web Service says {code or 'nothing'}: {text or answer.tag[:40]}",
        next_step=HELP.get(code, FlexError.next_step),
    )


async def fetch(address: str, parameters: dict[str, str]) -> bytes:
    """One GET, at most `LARGEST` bytes."""
    import httpx

    try:
        async with (
            httpx.AsyncClient(
                timeout=PATIENCE, trust_env=False, headers={"User-Agent": "Python/3"}
            ) as client,
            client.stream("GET", address, params=parameters) as response,
        ):
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > LARGEST:
                    raise FlexError("the statement is too large: let the query cover less time")
            if response.status_code != 200:
                raise FlexError(f"the Flex Web Service answered with {response.status_code}")
    except httpx.HTTPError as error:  # its text may hold the address, and so the token
        raise FlexError(f"no way to the Flex Web Service: {type(error).__name__}") from None
    return bytes(content)


# --- reading a statement -----------------------------------------------------------------------
def read_statement(content: bytes) -> Statement:
    """The executions of a statement's trades.

    What is no execution (a sum, an order) is left out, and what lacks a number, too; and what the
    broker has taken back since.
    """
    _require_plain(content)
    rows, taken_back, days = list[_Row](), list[_Row](), list[str]()
    try:
        for event, element in ET.iterparse(io.BytesIO(content), ("start", "end")):  # noqa: S314
            if event == "start":
                if element.tag == "FlexStatement":
                    days += [element.get("fromDate", ""), element.get("toDate", "")]
                continue
            found = _row(element) if element.tag in _TRADES else None
            if found is not None:
                (taken_back if _takes_back(element) else rows).append(found)
            element.clear()  # a year of trades would be ten times its size in memory
    except ET.ParseError:
        raise _no_xml() from None
    gone = _take_back(rows, taken_back)
    booked = {executions.split(each.execution.exec_id)[0] for each in rows}
    return Statement(
        executions=tuple(each.execution for each in rows),
        commissions=tuple(each.commission for each in rows if each.commission is not None),
        taken_back=tuple(sorted(each for each in gone if executions.split(each)[0] not in booked)),
        since=min(days[::2], default=""),
        until=max(days[1::2], default=""),
    )


class _Row(NamedTuple):
    """A trade of a statement; `booked` is its booking's number, `takes_back` that of another."""

    execution: Execution
    commission: CommissionReport | None
    booked: str
    takes_back: str

    def undoes(self, other: _Row) -> bool:
        """Whether it is the same trade with its sign turned, for want of a number."""
        mine, its = self.execution, other.execution
        same = ("account", "time", "quantity", "perm_id")
        return (
            mine.side != its.side
            and mine.contract.con_id == its.contract.con_id
            and all(getattr(mine, name) == getattr(its, name) for name in same)
        )


def _row(trade: ET.Element) -> _Row | None:
    name = _name(trade) or ("cancel" if _takes_back(trade) else "")
    found = _execution(trade, name)
    if found is None:
        return None
    return _Row(*found, trade.get("transactionID", ""), trade.get("origTransactionID", ""))


def _takes_back(trade: ET.Element) -> bool:
    """Whether it is no trade, but the end of one: `BUY (Ca.)`, with the quantity below zero."""
    return (
        trade.get("transactionType", "").endswith("Cancel")
        or trade.get("buySell", "").endswith("(Ca.)")
        or "Ca" in _notes(trade)
    )


def _take_back(rows: list[_Row], cancels: Iterable[_Row]) -> set[str]:
    """Removes one trade for each, and tells its id; what was booked again in its place stays."""
    gone = set[str]()
    for cancel in cancels:
        named = (row for row in rows if row.booked and row.booked == cancel.takes_back)
        alike = (row for row in rows if cancel.undoes(row))
        found = next(named, None) or next(alike, None)
        if found is not None:
            rows.remove(found)
            gone.add(found.execution.exec_id)
        else:
            log.warning("flex-cancelled", execution=cancel.takes_back or cancel.execution.exec_id)
    return gone


def _execution(trade: ET.Element, name: str) -> tuple[Execution, CommissionReport | None] | None:
    if trade.get("levelOfDetail", "EXECUTION") != "EXECUTION":
        return None
    quantity, price = _number(trade, "quantity"), _number(trade, "tradePrice", "price")
    if not quantity or price is None or not name:
        return None
    said = trade.get("dateTime") or trade.get("tradeDate") or ""
    time = moment(said)
    currency = trade.get("currency", "")
    execution = Execution(
        exec_id=name,
        time=time or datetime.now(UTC),
        contract=_contract(trade),
        account=trade.get("accountId", ""),
        side="BOT" if quantity > 0 else "SLD",
        quantity=abs(quantity),
        price=price,
        exchange=trade.get("exchange", ""),
        perm_id=int(_number(trade, "ibOrderID", "orderID") or 0),
        order_ref=trade.get("orderReference", ""),
        reason=_reason(trade),
        time_known=time is not None,
        time_text="" if time else said[:60],
    )
    commission = _number(trade, "ibCommission", "commission")
    if commission is None:
        return execution, None
    report = CommissionReport(
        exec_id=name,
        commission=-commission or 0.0,  # Flex writes what is paid as a negative sum
        currency=trade.get("ibCommissionCurrency") or trade.get("commissionCurrency") or currency,
        realized_pnl=_number(trade, "fifoPnlRealized"),
    )
    return execution, report


def _name(trade: ET.Element) -> str:
    """The API's own id where there is one; what the clearing house books has only a number."""
    executed = trade.get("ibExecID") or trade.get("execID")
    booked = trade.get("transactionID") or trade.get("tradeID")
    return executed or (f"flex-{booked}" if booked else "")


def _notes(trade: ET.Element) -> list[str]:
    return re.split(r"[;, ]+", trade.get("notes") or trade.get("code") or "")


def _reason(trade: ET.Element) -> str:
    return next((_REASONS[note] for note in _notes(trade) if note in _REASONS), "")


def _contract(trade: ET.Element) -> Contract:
    category = trade.get("assetCategory", "")
    derived = category in {"OPT", "FOP", "FUT", "WAR"}
    underlying = trade.get("underlyingSymbol", "") if derived else ""
    symbol = trade.get("symbol", "")
    if category == "CASH":  # a pair is called by its first currency, as the API does
        symbol = symbol.partition(".")[0]
    right = trade.get("putCall", "")[:1]
    return Contract(
        con_id=int(_number(trade, "conid") or 0),
        symbol=underlying or symbol,
        sec_type=category if category in _SEC_TYPES else "STK",
        exchange="",
        currency=trade.get("currency", ""),
        local_symbol=trade.get("symbol", ""),
        expiration=re.sub(r"[^0-9]", "", trade.get("expiry", ""))[:8],
        strike=_number(trade, "strike") or 0.0,
        right="C" if right == "C" else "P" if right == "P" else None,
        multiplier=trade.get("multiplier", "") if derived else "",
    )


def _number(trade: ET.Element, *names: str) -> float | None:
    for name in names:
        text = (trade.get(name) or "").replace(",", "")
        if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
    return None


def moment(text: str) -> datetime | None:
    """A statement's time; its form is chosen in the query (`20261127;103005`, `2026-11-27, …`).

    Where the query writes no zone with it, it is New York's, wherever the gateway is.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, zone = found.groups()
    said = f"{year}{month}{day} {hour}:{minute}:{second}"
    return read_time(f"{said} {zone}" if zone else said, STATEMENT_ZONE)


# --- taking it in ------------------------------------------------------------------------------
class FlexImport:
    """Takes statements into the journal: when asked, after an absence, and once a day."""

    def __init__(
        self,
        service: FlexService | None,
        database: Database,
        journal: OrderJournal,
        clock: Clock,
        keep: timedelta,
    ) -> None:
        self._service = service
        self._database = database
        self._journal = journal
        self._clock = clock
        self._keep_orders = keep
        self._asked_at: datetime | None = None
        self._task: asyncio.Task[None] | None = None
        self._daily: asyncio.Task[None] | None = None
        self._failures = 0
        self.last = ImportView(state="never")

    def start(self, away_since: datetime | None) -> None:
        """Imports once a day, whatever is restarted; at once after an absence of hours."""
        if self._service is None:
            return
        now = self._clock.now()
        soon = away_since is not None and now - away_since > AWAY
        self._daily = asyncio.create_task(
            self._every_day(self._service, soon=soon), name="flex-daily"
        )

    async def _every_day(self, service: FlexService, *, soon: bool) -> None:
        pause = await self._until_due()
        if soon:
            pause = timedelta(0)
        while True:
            if pause:
                await self._clock.sleep(pause.total_seconds())
            task = self._task
            if task is None or task.done():
                task = self._begin(service)
            await asyncio.wait({task})
            pause = _pause(self._failures)

    async def _until_due(self) -> timedelta:
        """From the last attempt on, which may be an earlier process's; of none: from now."""
        try:
            content = await self._database.read(lambda c: settings.get(c, _ATTEMPT))
            last = None if content is None else msgspec.json.decode(content, type=_Attempt)
        except (StoreError, sqlite3.Error, msgspec.MsgspecError) as error:
            log.warning("flex-attempt-unknown", error=str(error))
            return DAILY
        if last is None:
            await self._keep(0)
            return DAILY
        self._failures = last.failures
        left = last.at + _pause(last.failures) - self._clock.now()
        return min(DAILY, max(timedelta(0), left))

    async def _keep(self, failures: int) -> None:
        """For the process after this one. An attempt that does not end has failed."""
        now = self._clock.now()
        content = msgspec.json.encode(_Attempt(at=now, failures=failures))
        try:
            await self._database.write(lambda c: settings.put(c, _ATTEMPT, content, now))
        except (StoreError, sqlite3.Error) as error:
            log.warning("flex-attempt-not-kept", error=str(error))

    def need(self) -> Need | None:
        """What a person has to see to: it fails again and again, and days are missing."""
        if self._failures < FAILED_OFTEN:
            return None
        why = f": {self.last.problem}" if self.last.problem else ""
        return Need(
            code="flex-import",
            message=f"Executions of earlier days are not imported{why}",
            next_step=self.last.next_step or "GET /executions/import says why",
        )

    async def stop(self) -> None:
        """Ends what is under way; a statement is taken in whole or not at all."""
        await settle(self._daily, self._task)

    def ask(self) -> ImportView:
        """Begins an import; one that runs is told.

        Raises:
            FlexOffError: none is configured.
            FlexPacedError: the last one was minutes ago.
        """
        if self._service is None:
            raise FlexOffError("no Flex query is configured")
        if self._task is not None and not self._task.done():
            return self.last
        now = self._clock.now()
        spacing = SPACING.total_seconds()
        if self._asked_at is not None and not passed(self._asked_at, now, spacing):
            left = (self._asked_at + SPACING - now).total_seconds()
            raise FlexPacedError("an import began less than ten minutes ago", retry_after=left)
        self._begin(self._service)
        return self.last

    def _begin(self, service: FlexService) -> asyncio.Task[None]:
        self._asked_at = self._clock.now()
        self.last = ImportView(state="running", at=self._asked_at)
        self._task = asyncio.create_task(self._run(service), name="flex-import")
        return self._task

    async def _run(self, service: FlexService) -> None:
        await self._keep(self._failures + 1)
        try:
            content = await service.statement()
            statement = await asyncio.to_thread(read_statement, content)
            self.last = await self._take(statement)
            self._failures = 0
            log.info("flex-imported", imported=self.last.imported, known=self.last.known)
            await self._keep(0)
        except BridgeError as error:
            self._failed(error.detail, error.next_step)
        except Exception as error:  # whatever form an answer has
            log.exception("flex-import-failed")
            self._failed(type(error).__name__, FlexError.next_step)

    def _failed(self, problem: str, next_step: str) -> None:
        log.warning("flex-not-imported", problem=problem)
        self._failures += 1
        self.last = ImportView(
            state="failed", at=self._clock.now(), problem=problem, next_step=next_step
        )

    async def _take(self, statement: Statement) -> ImportView:
        before = await self._database.read(_counted)
        open_before = await self._database.read(orders.open_orders)
        statement = _young(statement, self._clock.now() - self._keep_orders, open_before)
        for part in _parts(await self._without_known_commissions(statement)):
            self._journal.note(*part)
            await self._journal.flush()
        open_now = await self._database.read(orders.open_orders)
        doubtful = {*_unknown(open_before), *_unknown(open_now)}
        left = tuple(each.id for each in open_now if each.id in doubtful)
        new = await self._database.read(_counted) - before
        gone = await self._database.read(lambda c: executions.known(c, statement.taken_back))
        for each in gone:
            log.warning("flex-taken-back", execution=each)
        return ImportView(
            state="done",
            at=self._clock.now(),
            since=statement.since,
            until=statement.until,
            imported=new,
            known=len(statement.executions) - new,
            settled=tuple(each for each in _unknown(open_before) if each not in left),
            unknown=left,
            taken_back=gone,
        )

    async def _without_known_commissions(self, statement: Statement) -> Statement:
        """The gateway's own word stays: a query need not have all of its members."""
        named = [each.exec_id for each in statement.commissions]
        kept = await self._database.read(lambda c: executions.with_commission(c, named))
        new = tuple(each for each in statement.commissions if each.exec_id not in kept)
        return structs.replace(statement, commissions=new)


def _unknown(open_orders: Iterable[OrderRecord]) -> list[str]:
    return [record.id for record in open_orders if record.state is State.UNKNOWN]


def _young(statement: Statement, oldest: datetime, open_orders: list[OrderRecord]) -> Statement:
    """Without what has gone into the archive, and would come from there and go again each day.

    What is of an order that is open still settles it, however old it is.
    """
    references = {each.order_ref for each in open_orders}
    permanent = {each.perm_id for each in open_orders} - {0}
    found = tuple(
        each
        for each in statement.executions
        if each.time >= oldest or each.order_ref in references or each.perm_id in permanent
    )
    names = {each.exec_id for each in found}
    reports = tuple(each for each in statement.commissions if each.exec_id in names)
    return structs.replace(statement, executions=found, commissions=reports)


def _pause(failures: int) -> timedelta:
    """Until the next attempt, after so many failures in a row."""
    return min(DAILY, AGAIN * 2 ** min(failures - 1, 8)) if failures else DAILY


PART: Final = 200
"""So many messages at once, so that orders find the journal free between them."""


def _parts(statement: Statement) -> Iterator[tuple[Execution | CommissionReport, ...]]:
    messages: list[Execution | CommissionReport] = [*statement.executions, *statement.commissions]
    for start in range(0, len(messages), PART):
        yield tuple(messages[start : start + PART])


def _counted(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM executions").fetchone()[0])
