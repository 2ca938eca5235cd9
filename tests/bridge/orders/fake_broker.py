"""A gateway with a book, without a wire, whose every answer a test can hold back or bend."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import structs

from bridge.model import (
    CommissionReport,
    Contract,
    ContractDetails,
    Execution,
    OpenOrder,
    Order,
    OrderState,
    OrderStatus,
    PriceIncrement,
    PriceTick,
)
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import ConnectionLostError, OrderRefusedError
from bridge.tws.pacing import Lane
from tests.bridge.market.fake_gateway import FakeGateway, FakeLine
from tests.bridge.orders.samples import NOON

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.tws.gateway import Reconciler

CLIENT = 17
CLOSED_FRIDAY = "20260213:0930-20260213:1600;20260214:CLOSED"


def listed(symbol: str = "AAPL", con_id: int = 265598, **changes: object) -> ContractDetails:
    contract = Contract(symbol=symbol, con_id=con_id, primary_exchange="NASDAQ")
    details = ContractDetails(
        contract=contract,
        time_zone="US/Eastern",
        min_tick=0.01,
        valid_exchanges=("SMART", "NASDAQ"),
        market_rule_ids=(26, 26),
        trading_hours=CLOSED_FRIDAY,
        liquid_hours=CLOSED_FRIDAY,
    )
    return structs.replace(details, **changes)


def option(con_id: int = 777, **changes: object) -> ContractDetails:
    contract = Contract(
        symbol="AAPL",
        con_id=con_id,
        sec_type="OPT",
        expiration="20260619",
        strike=200.0,
        right="C",
        multiplier="100",
    )
    return listed(contract=structs.replace(contract, **changes))


@dataclass
class BookedOrder:
    """What the broker holds of an order."""

    order: Order
    contract: Contract
    status: str = "Submitted"
    filled: float = 0.0
    completed_status: str = ""

    @property
    def done(self) -> bool:
        return self.status in {"Filled", "Cancelled", "Inactive"}

    def shown(self) -> OpenOrder:
        return OpenOrder(
            order_id=self.order.order_id,
            contract=self.contract,
            order=self.order,
            state=OrderState(status=self.status, completed_status=self.completed_status),
        )


@dataclass
class FakeBroker(FakeGateway):
    """`quiet` holds every answer back; `refuse_order` makes `place_order` raise before writing."""

    accounts: tuple[str, ...] = ("DU1234567",)
    client_id: int = CLIENT
    book: dict[int, BookedOrder] = field(default_factory=dict)
    wire: list[tuple[str, int]] = field(default_factory=list)
    fills: list[tuple[Execution, CommissionReport | None]] = field(default_factory=list)
    quiet: bool = False
    refuse_order: Exception | None = None
    reject: tuple[int, str] | None = None
    fill_at_once: bool = False
    next_id: int = 1
    next_valid_id: int | None = 1
    highest: int = 0
    hold: asyncio.Event | None = None
    on_listed: Callable[[], None] | None = None
    """Called when the list is complete, and whoever asked for it has not gone on yet."""
    lists: int = 0
    """How often its open orders were asked for."""
    hold_cancel: asyncio.Event | None = None
    on_place: Callable[[Order], None] | None = None
    reconcilers: list[tuple[Reconciler, bool]] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    what_if_state: OrderState = field(default_factory=lambda: OrderState(commission=1.0))
    ladder: tuple[PriceIncrement, ...] = (PriceIncrement(low_edge=0.0, increment=0.01),)

    def __post_init__(self) -> None:
        self.details = {"AAPL": (listed(),), "MSFT": (listed("MSFT", 272093),)}
        self.options = (option(),)
        self.on_open = quote_at(100.0)

    # reading ------------------------------------------------------------------------------------

    async def contract_details(
        self, contract: Contract, *, lane: Lane = Lane.INTERACTIVE, timeout: float = 10.0
    ) -> tuple[ContractDetails, ...]:
        if contract.con_id:
            everything = [*self.options, *(each for many in self.details.values() for each in many)]
            return tuple(each for each in everything if each.contract.con_id == contract.con_id)
        return await super().contract_details(contract, lane=lane, timeout=timeout)

    async def market_rule(
        self, rule_id: int, *, timeout: float = 10.0
    ) -> tuple[PriceIncrement, ...]:
        return self.ladder

    async def what_if(
        self,
        contract: Contract,
        order: Order,
        *,
        order_id: int | None = None,
        written: Callable[[], None] | None = None,
        timeout: float = 10.0,
    ) -> OrderState:
        assert order_id is not None
        self.count(order_id)
        if written is not None:
            written()
        return self.what_if_state

    def add_reconciler(self, name: str, hook: Reconciler, *, required: bool = False) -> None:
        self.reconcilers.append((hook, required))

    async def all_open_orders(
        self, *, lane: Lane = Lane.ORDER, timeout: float = 10.0
    ) -> tuple[OpenOrder, ...]:
        await asyncio.sleep(0)
        self.lists += 1
        rows = tuple(
            booked.shown()
            for number, booked in self.book.items()
            if not booked.done and number not in self.hidden
        )
        for row in rows:
            self.events.open_order.emit(row)
        if self.on_listed is not None:
            self.on_listed()
        return rows

    async def completed_orders(self, *, timeout: float = 10.0) -> tuple[OpenOrder, ...]:
        await asyncio.sleep(0)
        return tuple(
            structs.replace(
                booked.shown(), order_id=0, order=structs.replace(booked.order, order_id=0)
            )
            for number, booked in self.book.items()
            if booked.done and number not in self.hidden
        )

    async def executions(self, *, timeout: float = 15.0) -> tuple[Execution, ...]:
        await asyncio.sleep(0)
        for execution, commission in self.fills:
            self.events.execution.emit(execution)
            if commission is not None:
                self.events.commission.emit(commission)
        return tuple(execution for execution, _ in self.fills)

    # orders -------------------------------------------------------------------------------------

    def next_order_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    async def place_order(
        self,
        order_id: int,
        contract: Contract,
        order: Order,
        *,
        permit: Callable[[], None] | None = None,
    ) -> None:
        self.require_ready()
        if self.hold is not None:
            await self.hold.wait()
        if permit is not None:
            permit()
        if self.refuse_order is not None:
            raise self.refuse_order
        self.wire.append(("place", order_id))
        booked = self.book.get(order_id)
        if booked is None:
            self.count(order_id)
        if booked is None:
            kept = structs.replace(order, perm_id=9000 + order_id, client_id=CLIENT)
            self.book[order_id] = BookedOrder(kept, contract)
        else:
            booked.order = structs.replace(order, perm_id=booked.order.perm_id, client_id=CLIENT)
        if self.on_place is not None:
            self.on_place(order)
        if not self.quiet:
            asyncio.get_running_loop().call_soon(self.answer, order_id)

    def count(self, order_id: int) -> None:
        """The real gateway answers 103 to a number that does not rise."""
        assert order_id > self.highest, f"number {order_id} after {self.highest}"
        self.highest = order_id

    async def cancel_order(self, order_id: int) -> None:
        self.require_ready()
        if self.hold_cancel is not None:
            await self.hold_cancel.wait()
        self.wire.append(("cancel", order_id))
        booked = self.book.get(order_id)
        if booked is not None and not booked.done:
            booked.status = "Cancelled"
            if not self.quiet:
                asyncio.get_running_loop().call_soon(self.say, order_id)
        elif not self.quiet:
            error = OrderRefusedError("no", broker_code=10147, broker_text="not found")
            asyncio.get_running_loop().call_soon(self.events.order_error.emit, order_id, error)

    async def cancel_all_orders(self) -> None:
        self.require_ready()
        self.wire.append(("cancel-all", 0))

    # what the broker says -----------------------------------------------------------------------

    def answer(self, order_id: int) -> None:
        if self.reject is not None:
            code, text = self.reject
            self.book[order_id].status = "Inactive"
            error = OrderRefusedError(text, broker_code=code, broker_text=text)
            self.events.order_error.emit(order_id, error)
            return
        self.say(order_id)
        if self.fill_at_once:
            self.fill(order_id)

    def say(self, order_id: int) -> None:
        booked = self.book[order_id]
        self.events.open_order.emit(booked.shown())
        self.events.order_status.emit(
            OrderStatus(
                order_id=order_id,
                status=booked.status,
                filled=booked.filled,
                remaining=booked.order.quantity - booked.filled,
                average_fill_price=100.0 if booked.filled else 0.0,
                perm_id=booked.order.perm_id,
                client_id=CLIENT,
            )
        )

    def fill(self, order_id: int, quantity: float | None = None, *, say: bool = True) -> Execution:
        booked = self.book[order_id]
        amount = booked.order.quantity - booked.filled if quantity is None else quantity
        booked.filled += amount
        if booked.filled >= booked.order.quantity:
            booked.status = "Filled"
        number = len(self.fills) + 1
        execution = Execution(
            exec_id=f"{number:08x}.6553d8a1.01.01",
            time=NOON,
            contract=booked.contract,
            account=booked.order.account,
            side="BOT" if booked.order.action == "BUY" else "SLD",
            quantity=amount,
            price=100.0,
            perm_id=booked.order.perm_id,
            client_id=CLIENT,
            order_id=order_id,
            order_ref=booked.order.order_ref,
        )
        report = CommissionReport(exec_id=execution.exec_id, commission=1.0, currency="USD")
        self.fills.append((execution, report))
        if say:
            self.events.execution.emit(execution)
            self.say(order_id)
            self.events.commission.emit(report)
        return execution

    # the connection -----------------------------------------------------------------------------

    async def reconnect(self, *, only_required: bool = False) -> None:
        """The socket is gone and back; the hooks run before the state is ready."""
        self.state = ConnectionState.RECONNECTING
        self.events.lost.emit("test")
        self.next_valid_id = max(self.book, default=0) + 1
        self.next_id = max(self.next_id, self.next_valid_id)
        for hook, required in self.reconcilers:
            if required:
                await hook()
        self.state = ConnectionState.READY
        self.events.ready.emit()
        for hook, required in self.reconcilers:
            if not required and not only_required:
                await hook()

    @property
    def placed(self) -> list[int]:
        return [number for what, number in self.wire if what == "place"]

    @property
    def cancelled(self) -> list[int]:
        return [number for what, number in self.wire if what == "cancel"]


def lost() -> ConnectionLostError:
    return ConnectionLostError("the connection was lost")


def quote_at(price: float) -> Callable[[FakeLine], None]:
    def quote(line: FakeLine) -> None:
        line.tick(
            PriceTick("bid", price - 0.1, 100.0),
            PriceTick("ask", price + 0.1, 100.0),
            PriceTick("last", price, 100.0),
            PriceTick("close", price, None),
        )

    return quote
