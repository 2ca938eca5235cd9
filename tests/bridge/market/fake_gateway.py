"""A gateway without a wire, for tests of what lies above it: answers are set, requests are kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.model import (
    AccountValue,
    Bar,
    Contract,
    ContractDetails,
    HistoryRequest,
    MarketDataType,
    OptionParameters,
    PnL,
    Position,
    Tick,
)
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import (
    CompetingSessionError,
    NoMarketDataError,
    NotConnectedError,
    RequestRefusedError,
    TwsError,
    UnknownContractError,
)
from bridge.tws.events import GatewayEvents
from bridge.tws.gateway import SUMMARY_TAGS, AccountValuesListener, MarketDataListener
from bridge.tws.pacing import Lane

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class FakeLine:
    """One market-data request."""

    contract: Contract
    listener: MarketDataListener
    kind: MarketDataType
    generic_ticks: tuple[int, ...]
    active: bool = True
    asked: bool = True
    lane: Lane = Lane.INTERACTIVE
    made_way: bool = False

    def cancel(self) -> None:
        self.active = False

    def make_way(self) -> None:
        self.made_way = True
        self.cancel()

    def tick(self, *ticks: Tick) -> None:
        assert self.active, "a tick on a line that was given back"
        for tick in ticks:
            self.listener.tick(tick)

    def fail(self, code: int) -> None:
        self.active = False
        kind: type[TwsError] = CompetingSessionError if code == 10197 else NoMarketDataError
        self.listener.failed(kind(f"refused with {code}", broker_code=code))


@dataclass
class FakePnL:
    account: str
    con_id: int
    listener: Callable[[PnL], None]
    active: bool = True

    def cancel(self) -> None:
        self.active = False


@dataclass
class FakeAccountValues:
    gateway: FakeGateway
    listener: AccountValuesListener
    tags: str
    active: bool = True
    asked: int = 0

    def renew(self) -> None:
        self.asked += 1
        asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        if self.gateway.silent is None:
            self.listener.begun()
            for value in self.gateway.ledger if "LEDGER" in self.tags else self.gateway.values:
                self.listener.value(value)
            self.listener.listed()

    def cancel(self) -> None:
        self.active = False


@dataclass
class FakeGateway:
    """Only what reading needs of `bridge.tws.gateway.Gateway`."""

    state: ConnectionState = ConnectionState.READY
    accounts: tuple[str, ...] = ("DU1",)
    details: dict[str, tuple[ContractDetails, ...]] = field(default_factory=dict)
    options: tuple[ContractDetails, ...] = ()
    lane_full: bool = False
    parameters: tuple[OptionParameters, ...] = ()
    held: tuple[Position, ...] = ()
    values: tuple[AccountValue, ...] = ()
    ledger: tuple[AccountValue, ...] = ()
    silent: asyncio.Event | None = None
    accounts_read: list[FakeAccountValues] = field(default_factory=list)
    bars: Callable[[HistoryRequest], tuple[Bar, ...]] = lambda _: ()
    events: GatewayEvents = field(default_factory=GatewayEvents)
    lines: list[FakeLine] = field(default_factory=list)
    pnls: list[FakePnL] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    on_open: Callable[[FakeLine], None] | None = None
    refuse_at_once: TwsError | None = None
    client_id: int = 17
    address: str = "gateway:4002"
    server_version: int = 178

    @property
    def queries(self) -> FakeGateway:
        return self

    def require_ready(self) -> None:
        if self.state not in {ConnectionState.READY, ConnectionState.SESSION_CONFLICT}:
            raise NotConnectedError(f"the connection is {self.state}")

    def become(self, state: ConnectionState) -> None:
        old, self.state = self.state, state
        self.events.state.emit(old, state)

    async def contract_details(
        self, contract: Contract, *, lane: Lane = Lane.INTERACTIVE, timeout: float = 10.0
    ) -> tuple[ContractDetails, ...]:
        self.asked.append(contract)
        self.require_ready()
        await asyncio.sleep(0)
        if contract.sec_type == "OPT":
            return self.options
        found = self.details.get(contract.symbol)
        if not found:
            raise UnknownContractError(f"no contract {contract.symbol}", broker_code=200)
        return found

    async def option_parameters(
        self, underlying: Contract, *, timeout: float = 15.0
    ) -> tuple[OptionParameters, ...]:
        self.asked.append(("chain", underlying.con_id))
        return self.parameters

    async def historical_bars(
        self, request: HistoryRequest, *, lane: Lane = Lane.BULK, timeout: float = 60.0
    ) -> tuple[Bar, ...]:
        self.asked.append(request)
        await asyncio.sleep(0)
        return self.bars(request)

    async def positions(
        self, *, lane: Lane = Lane.INTERACTIVE, timeout: float = 10.0
    ) -> tuple[Position, ...]:
        self.require_ready()
        self.asked.append("positions")
        if self.silent is not None:
            await self.silent.wait()
        await asyncio.sleep(0)
        for position in self.held:
            self.events.position.emit(position)
        self.events.positions_listed.emit()
        return self.held

    def subscribe_account_values(
        self, listener: AccountValuesListener, tags: str = SUMMARY_TAGS
    ) -> FakeAccountValues:
        made = FakeAccountValues(self, listener, tags)
        self.accounts_read.append(made)
        made.renew()
        return made

    def subscribe_market_data(
        self,
        contract: Contract,
        listener: MarketDataListener,
        *,
        generic_ticks: tuple[int, ...] = (),
        kind: MarketDataType = MarketDataType.LIVE,
        lane: Lane = Lane.INTERACTIVE,
    ) -> FakeLine:
        line = FakeLine(contract, listener, kind, generic_ticks, lane=lane)
        line.asked = lane is Lane.ORDER or not self.lane_full
        self.lines.append(line)
        if self.refuse_at_once is not None:
            line.active = False
            listener.failed(self.refuse_at_once)
        if self.on_open is not None:
            asyncio.get_running_loop().call_soon(self._opened, line)
        return line

    def _opened(self, line: FakeLine) -> None:
        if line.active and self.on_open is not None:
            self.on_open(line)

    def subscribe_pnl(
        self, account: str, listener: Callable[[PnL], None], *, con_id: int = 0
    ) -> FakePnL:
        made = FakePnL(account, con_id, listener)
        self.pnls.append(made)
        return made

    @property
    def open_lines(self) -> list[FakeLine]:
        return [line for line in self.lines if line.active]


def stock(symbol: str, con_id: int, zone: str = "US/Eastern") -> ContractDetails:
    return ContractDetails(
        contract=Contract(symbol=symbol, con_id=con_id, primary_exchange="NASDAQ"), time_zone=zone
    )


__all__ = ["FakeGateway", "FakeLine", "RequestRefusedError", "stock"]
