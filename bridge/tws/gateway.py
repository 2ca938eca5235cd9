"""What services may ask of the gateway, whatever library and state are behind it.

Rules that hold for every coroutine here and in ``bridge.tws.queries``:

* it ends within ``timeout`` seconds (its share of queueing included), with a value or with a class
  of ``bridge.tws.errors``; never with a client library's error, never not at all;
* when the connection is lost it ends at once with ``ConnectionLostError``;
* without a session it raises ``NotConnectedError`` or a subclass at once;
* cancelling it cancels the request at the gateway where the protocol can.

Callbacks (listeners, signals) run on the event loop, must not block, and may be plain functions
only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from bridge.model import AccountValue, Contract, MarketDataType, Order, PnL, Tick
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import TwsError
from bridge.tws.events import GatewayEvents
from bridge.tws.pacing import Lane
from bridge.tws.queries import Queries

Reconciler = Callable[[], Awaitable[None]]


SUMMARY_TAGS: Final = (
    "AccountType,NetLiquidation,TotalCashValue,SettledCash,AccruedCash,BuyingPower,EquityWithLoanValue,"
    "PreviousDayEquityWithLoanValue,GrossPositionValue,RegTEquity,RegTMargin,SMA,InitMarginReq,MaintMarginReq,"
    "AvailableFunds,ExcessLiquidity,Cushion,FullInitMarginReq,FullMaintMarginReq,FullAvailableFunds,"
    "FullExcessLiquidity,LookAheadNextChange,LookAheadInitMarginReq,LookAheadMaintMarginReq,"
    "LookAheadAvailableFunds,LookAheadExcessLiquidity,HighestSeverity,DayTradesRemaining,Leverage"
)
LEDGER_TAGS: Final = "$LEDGER:ALL"
"""Cash and results by currency."""
SETTLES_SECONDS: Final = 50.0
"""So long a gateway that has just logged in may list no orders and positions yet, or only some."""


class MarketDataListener(Protocol):
    """Receives what one market-data line says."""

    def tick(self, tick: Tick) -> None: ...

    def market_data_type(self, kind: MarketDataType) -> None:
        """The line now carries this kind of data."""

    def failed(self, error: TwsError) -> None:
        """The broker refused the line (or took it away).

        It is gone, and cancelling it does nothing.
        """

    def interrupted(self) -> None:
        """The connection or the data farm is gone: values held are stale from now on."""

    def restored(self) -> None:
        """Requested again after an interruption.

        Values before it are stale until they tick again.
        """


class AccountValuesListener(Protocol):
    """Receives account values: all of them at first, then those that change."""

    def begun(self) -> None:
        """All of them are coming."""

    def value(self, value: AccountValue) -> None: ...

    def listed(self) -> None:
        """All of them have come."""

    def failed(self, error: TwsError) -> None:
        """The broker refused; nothing comes any more."""

    def interrupted(self) -> None:
        """The connection is gone: what is held is of before."""


class Subscription(Protocol):
    """Something that goes on until it is cancelled, over reconnects."""

    @property
    def active(self) -> bool:
        """False once cancelled or refused."""

    @property
    def asked(self) -> bool:
        """Whether the gateway has been asked; false while the request waits for its turn."""

    def renew(self) -> None:
        """Asks for it anew, as far as it is asked for at all."""

    def cancel(self) -> None:
        """Gives it back to the gateway; harmless when called twice or while disconnected."""

    def make_way(self) -> None:
        """The same, before anything that an order's checks ask for after it."""


class Gateway(Protocol):
    """One session with one gateway."""

    @property
    def events(self) -> GatewayEvents:
        """The signals to listen to."""

    @property
    def state(self) -> ConnectionState:
        """Where the connection is now."""

    @property
    def client_id(self) -> int:
        """The constant client id."""

    @property
    def address(self) -> str:
        """Which gateway: ``host:port`` of the present settings."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts managed by this session; kept while disconnected."""

    def require_ready(self) -> None:
        """Raises a ``NotConnectedError`` saying why when no order could be placed right now."""

    def add_reconciler(self, name: str, hook: Reconciler, *, required: bool = False) -> None:
        """Registers work for after every (re)connect.

        Required hooks run before the state becomes ready, in the order of registration, and again
        with back-off while they fail: the requests below work in them, ``require_ready`` does not
        pass yet. The others run right after ready, each bounded, a failure only being recorded.
        """

    @property
    def queries(self) -> Queries:
        """What can be asked of it."""

    # orders -----------------------------------------------------------------------------------

    @property
    def next_valid_id(self) -> int | None:
        """What the gateway named as its next order id when this connection began.

        It has taken no order of this client id with this number or a higher one before that.
        """

    def next_order_id(self) -> int:
        """A fresh order id, never lower than the gateway's own next valid id.

        ``NotConnectedError`` before there is one.
        """

    async def place_order(
        self,
        order_id: int,
        contract: Contract,
        order: Order,
        *,
        permit: Callable[[], None] | None = None,
    ) -> None:
        """Puts an order (or a change to it) on the wire and returns then.

        The answer comes as events. ``permit`` is asked at the moment of writing, after any wait
        for room in the lane; what it raises is raised here.

        Raises before writing anything or not at all: after an exception nothing was sent.
        """

    async def cancel_order(self, order_id: int) -> None:
        """Puts a cancel on the wire; the same promise."""

    async def cancel_all_orders(self) -> None:
        """Cancels every open order of every client (reqGlobalCancel)."""

    # subscriptions ----------------------------------------------------------------------------

    def subscribe_market_data(
        self,
        contract: Contract,
        listener: MarketDataListener,
        *,
        generic_ticks: tuple[int, ...] = (),
        kind: MarketDataType = MarketDataType.LIVE,
        lane: Lane = Lane.INTERACTIVE,
    ) -> Subscription:
        """Opens one line.

        It is requested again by itself after a reconnect or 1101. Never raises for lack of a
        session.
        """

    def subscribe_pnl(
        self, account: str, listener: Callable[[PnL], None], *, con_id: int = 0
    ) -> Subscription:
        """Profit and loss as it changes, of an account or of one position in it."""

    def subscribe_account_values(
        self, listener: AccountValuesListener, tags: str = SUMMARY_TAGS
    ) -> Subscription:
        """What the accounts are worth: these tags of all accounts, and their changes.

        The broker allows two of them at once.
        """
