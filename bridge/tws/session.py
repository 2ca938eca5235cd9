"""The gateway session that services use.

``bridge.tws.gateway.Gateway``, over the client library's protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, Final

from msgspec import structs

from bridge import model
from bridge.clock import TimerClock, settle, within
from bridge.tws import convert
from bridge.tws.callbacks import Callbacks
from bridge.tws.client import LIBRARY
from bridge.tws.connection_context import ConnectionContext, Target
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import ClientIdInUseError, NotConnectedError
from bridge.tws.events import GatewayEvents
from bridge.tws.gateway import (
    SUMMARY_TAGS,
    AccountValuesListener,
    MarketDataListener,
    Reconciler,
    Subscription,
)
from bridge.tws.heartbeat import Heartbeat, UpstreamProbe
from bridge.tws.messages import Messages
from bridge.tws.pacing import Lane
from bridge.tws.queries import Queries
from bridge.tws.requester import Requester
from bridge.tws.subscriptions import (
    AccountValuesSubscription,
    MarketDataLine,
    PnLSubscription,
    Subscriptions,
)
from bridge.tws.supervisor import Hook, Reconciliation, Starting, Supervisor
from bridge.tws.wire import CloseReason


class TwsSession:
    """One session with one gateway. ``start`` returns at once; the supervisor does the rest."""

    def __init__(self, target: Target, clock: TimerClock, random: Random | None = None) -> None:
        self.context = ConnectionContext(target, clock, random)
        self._requester = Requester(self.context)
        self.queries = Queries(self.context, self._requester)
        self.subscriptions = Subscriptions(self.context)
        self._reconciliation = Reconciliation(self.context)
        self._reconciliation.add(Hook("subscriptions", self._restore, required=False))
        self._reconciliation.add(Hook("clock", self._look_at_clock, required=False))
        self._messages = Messages(self.context, self.subscriptions, self._reconciliation)
        self.supervisor = Supervisor(
            self.context,
            Heartbeat(self.context, self._beat),
            self._reconciliation,
            UpstreamProbe(
                self.context, self.queries.broker_answers, self._messages.upstream_answered
            ),
            self._callbacks,
            self._lost,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the supervisor; there need not be a gateway."""
        if self._task is None:
            self._task = asyncio.create_task(self.supervisor.run(), name="tws-supervisor")

    async def stop(self) -> None:
        """Ends the connection and everything that waits."""
        await settle(self._task)
        self._task = None
        self.end_pending(CloseReason.STOPPING)

    def end_pending(self, reason: str) -> None:
        """Ends whatever waits for the gateway."""
        self.context.pacer.clear()
        self.context.requests.fail_all(
            lambda kind: NotConnectedError(f"{kind} was pending: {reason}"), forget=True
        )

    def reconfigure(self, target: Target) -> bool:
        """Takes over other settings; another address or client id means a new connection.

        Returns whether the connection is made anew.
        """
        before, self.context.target = self.context.target, target
        same = (before.host, before.port, before.client_id) == (
            target.host,
            target.port,
            target.client_id,
        )
        if not same:
            self.context.accounts = ()
            self.context.next_order_id = self.context.next_valid_id = None
            self.context.diagnostics.note("settings-changed", host=target.host, port=target.port)
            self.supervisor.reconnect(CloseReason.SETTINGS_CHANGED)
        elif before.market_data_type is not target.market_data_type:
            self.subscriptions.renew_lines()
        return not same

    # state ------------------------------------------------------------------------------------

    @property
    def events(self) -> GatewayEvents:
        """The signals to listen to."""
        return self.context.events

    @property
    def state(self) -> ConnectionState:
        """Where the connection is now."""
        return self.context.status.state

    @property
    def client_id(self) -> int:
        """The constant client id."""
        return self.context.target.client_id

    @property
    def address(self) -> str:
        """``host:port`` of the gateway."""
        return f"{self.context.target.host}:{self.context.target.port}"

    @property
    def server_version(self) -> int:
        """The negotiated version; 0 before the first connection."""
        return self.context.server_version

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts of this session."""
        return self.context.accounts

    @property
    def market_data_type(self) -> str | None:
        """What lines are asked for as now: ``live``, ``delayed`` ....

        None before the first line.
        """
        kind = self.subscriptions.sent_kind
        return kind.name.lower().replace("_", "-") if kind else None

    @property
    def library(self) -> str:
        """The client library and its version."""
        return LIBRARY

    def require_ready(self) -> None:
        """Raises when no order could be placed now."""
        self.context.require_ready()

    def add_reconciler(self, name: str, hook: Reconciler, *, required: bool = False) -> None:
        """Registers work for after every (re)connect."""
        self._reconciliation.add(Hook(name, hook, required))

    # orders -----------------------------------------------------------------------------------

    @property
    def next_valid_id(self) -> int | None:
        """What the gateway named as its next order id when this connection began."""
        return self.context.next_valid_id

    def next_order_id(self) -> int:
        """A fresh order id."""
        return self.context.take_order_id()

    async def place_order(
        self,
        order_id: int,
        contract: model.Contract,
        order: model.Order,
        *,
        permit: Callable[[], None] | None = None,
    ) -> None:
        """Puts an order on the wire, or raises having written nothing."""
        wanted, placed = convert.to_contract(contract), convert.to_order(order)

        def write(send: Any) -> None:
            if permit is not None:
                permit()
            instruction = convert.EXERCISE_ACTIONS.get(order.order_type)
            if instruction is None:
                send.placeOrder(order_id, wanted, placed)
            else:
                what = (instruction, int(order.quantity), order.account, int(order.override))
                send.exerciseOptions(order_id, wanted, *what)

        await self._requester.write_order(write)

    async def cancel_order(self, order_id: int) -> None:
        """Puts a cancel on the wire, or raises having written nothing.

        It is ahead of orders that still wait for their slot, of this number as well.
        """
        await self._requester.write_order(lambda send: send.cancelOrder(order_id), lane=Lane.CANCEL)

    async def cancel_all_orders(self) -> None:
        """Cancels every open order of every client."""
        await self._requester.write_order(lambda send: send.reqGlobalCancel(), lane=Lane.CANCEL)

    # subscriptions ----------------------------------------------------------------------------

    def subscribe_market_data(
        self,
        contract: model.Contract,
        listener: MarketDataListener,
        *,
        generic_ticks: tuple[int, ...] = (),
        kind: model.MarketDataType = model.MarketDataType.LIVE,
        lane: Lane = Lane.INTERACTIVE,
    ) -> Subscription:
        line = MarketDataLine(self.subscriptions, contract, listener, generic_ticks, kind, lane)
        return self.subscriptions.add(line)

    def subscribe_pnl(
        self, account: str, listener: Callable[[model.PnL], None], *, con_id: int = 0
    ) -> Subscription:
        """Profit and loss as it changes."""
        return self.subscriptions.add(
            PnLSubscription(self.subscriptions, account, con_id, listener)
        )

    def subscribe_account_values(
        self, listener: AccountValuesListener, tags: str = SUMMARY_TAGS
    ) -> Subscription:
        """What the accounts are worth, and as it changes."""
        return self.subscriptions.add(AccountValuesSubscription(self.subscriptions, listener, tags))

    # ------------------------------------------------------------------------------------------

    def _callbacks(self, starting: Starting) -> Callbacks:
        return Callbacks(self.context, self.subscriptions, self._messages, starting)

    async def _restore(self) -> None:
        self.subscriptions.restore()

    async def _look_at_clock(self) -> None:
        await self.queries.current_time()

    async def _beat(self, seconds: float) -> None:
        await self.queries.current_time(timeout=seconds + self.queries.time_gap())

    def _lost(self, reason: str) -> None:
        self.subscriptions.interrupt(forget=True)
        self.events.lost.emit(reason)


BORROWED_SECONDS: Final = 8.0
_SETTLED: Final = {ConnectionState.READY, ConnectionState.SESSION_CONFLICT}


class ClientIds:
    """Short sessions under the client ids of other programs, one at a time.

    An order can be cancelled only under the client id that placed it (those entered by hand: under
    0), whoever else may see it; not even the master client may. While that program is connected the
    gateway refuses its id to anybody else (326).
    """

    def __init__(self, own: TwsSession) -> None:
        self._own = own
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def borrowed(self, client_id: int) -> AsyncIterator[TwsSession]:
        """A session that is ready, ended afterwards.

        Raises:
            ClientIdInUseError: a program with this id is connected.
            NotConnectedError: the gateway lets no such session begin.
        """
        async with self._turn:
            context = self._own.context
            session = TwsSession(
                structs.replace(context.target, client_id=client_id), context.clock
            )
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def changed(_: ConnectionState, state: ConnectionState) -> None:
                if state in _SETTLED and not settled.done():
                    settled.set_result(None)

            session.events.state.listen(changed)
            await session.start()
            try:
                with suppress(TimeoutError):
                    await within(context.clock, BORROWED_SECONDS, settled)
                if session.context.client_id_taken:
                    raise ClientIdInUseError(
                        f"a program with client id {client_id} is connected to the gateway"
                    )
                session.require_ready()
                yield session
            finally:
                await session.stop()
