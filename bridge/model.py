"""What the bridge talks about, as plain values.

Contracts, bars, orders, executions, accounts, ticks.

Every struct is camelCase on the wire. Times are aware ``datetime`` in UTC. Money and prices are
floats in the contract's currency, exactly as the broker sends them; ``None`` means that the broker
sent no value.
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Any, Literal

from msgspec import Struct

Action = Literal["BUY", "SELL"]
Right = Literal["C", "P"]


class MarketDataType(IntEnum):
    """The broker's market-data kinds (reqMarketDataType, tick 58)."""

    LIVE = 1
    FROZEN = 2
    DELAYED = 3
    DELAYED_FROZEN = 4


class ComboLeg(Struct, rename="camel", frozen=True, kw_only=True):
    """A part of a combination: ``ratio`` units of it are bought or sold with each unit."""

    con_id: int
    ratio: int
    action: Action
    exchange: str = "SMART"


class Contract(Struct, rename="camel", frozen=True, kw_only=True):
    """An instrument, fully (``con_id`` set) or partly named; a combination (BAG) by its ``legs``.

    ``expiration`` is ``YYYYMMDD`` (or ``YYYYMM``), ``multiplier`` the broker's text (``"100"``).
    """

    con_id: int = 0
    symbol: str = ""
    sec_type: str = "STK"
    exchange: str = "SMART"
    currency: str = "USD"
    primary_exchange: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    expiration: str = ""
    strike: float | None = None
    right: Right | None = None
    multiplier: str = ""
    include_expired: bool = False
    legs: tuple[ComboLeg, ...] = ()


class ContractDetails(Struct, rename="camel", frozen=True, kw_only=True):
    """What the broker knows of one contract.

    ``market_rule_ids`` are in the order of ``valid_exchanges``. ``trading_hours`` and
    ``liquid_hours`` are the broker's text (``20260303:0930-20260303:1600;20260304:CLOSED``) in
    ``time_zone`` (IANA name where known).
    """

    contract: Contract
    long_name: str = ""
    market_name: str = ""
    min_tick: float = 0.01
    price_magnifier: int = 1
    order_types: tuple[str, ...] = ()
    valid_exchanges: tuple[str, ...] = ()
    market_rule_ids: tuple[int, ...] = ()
    under_con_id: int = 0
    under_symbol: str = ""
    contract_month: str = ""
    real_expiration: str = ""
    last_trade_time: str = ""
    time_zone: str = ""
    trading_hours: str = ""
    liquid_hours: str = ""
    min_size: float | None = None
    size_increment: float | None = None
    suggested_size_increment: float | None = None
    stock_type: str = ""
    industry: str = ""
    category: str = ""
    subcategory: str = ""


class PriceIncrement(Struct, rename="camel", frozen=True, kw_only=True):
    """One step of a market rule: from ``low_edge`` upwards prices move in ``increment``."""

    low_edge: float
    increment: float


class ContractMatch(Struct, rename="camel", frozen=True, kw_only=True):
    """One answer of a symbol search."""

    contract: Contract
    description: str = ""
    derivative_sec_types: tuple[str, ...] = ()


class OptionParameters(Struct, rename="camel", frozen=True, kw_only=True):
    """Expirations and strikes of one exchange and trading class, both ascending."""

    exchange: str
    underlying_con_id: int
    trading_class: str
    multiplier: str
    expirations: tuple[str, ...] = ()
    strikes: tuple[float, ...] = ()


class Bar(Struct, rename="camel", frozen=True, kw_only=True):
    """One bar. ``time`` is its start in UTC.

    For daily bars ``date`` (``YYYYMMDD``) is set and time is midnight UTC.
    """

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    average: float | None = None
    count: int | None = None
    date: str = ""


class HistoryRequest(Struct, rename="camel", frozen=True, kw_only=True):
    """One history request.

    ``end`` empty means now. ``duration`` and ``bar_size`` are the broker's words (``1 D``, ``5
    mins``).
    """

    contract: Contract
    duration: str = "1 D"
    bar_size: str = "1 hour"
    what_to_show: str = "TRADES"
    use_rth: bool = True
    end: datetime | None = None


class OrderCondition(Struct, rename="camel", frozen=True, kw_only=True):
    """What has to be so before an order is sent, or cancelled.

    A price of the contract ``con_id`` at ``exchange``, or without one the ``time`` (the broker's
    text), at or above the value when ``above``, else at or below it. ``method`` says which price
    (0: the last). ``joined_by_and``: with the next condition.
    """

    con_id: int = 0
    exchange: str = ""
    price: float | None = None
    time: str = ""
    above: bool = True
    method: int = 0
    joined_by_and: bool = True


class Order(Struct, rename="camel", frozen=True, kw_only=True):
    """An order as sent or as reported.

    ``order_type`` is the broker's word: ``MKT``, ``LMT``, ``STP``, ``STP LMT`` ... One that trails
    keeps ``trail_amount`` or ``trail_percent`` away from the market and stands at
    ``trail_stop_price``. ``limit_offset`` is the distance of a limit from the stop that it trails
    with, or of a pegged order from the price that it is pegged to. With ``cash_quantity`` the
    broker works the quantity out from the money. ``EXERCISE`` and ``LAPSE`` are instructions about
    options that are held, with ``override`` against what the price suggests.
    """

    order_id: int = 0
    client_id: int = 0
    perm_id: int = 0
    parent_id: int = 0
    action: Action = "BUY"
    quantity: float = 0.0
    order_type: str = "LMT"
    limit_price: float | None = None
    stop_price: float | None = None
    trail_amount: float | None = None
    trail_percent: float | None = None
    trail_stop_price: float | None = None
    limit_offset: float | None = None
    cash_quantity: float | None = None
    tif: str = "DAY"
    good_till_date: str = ""
    good_after_time: str = ""
    outside_rth: bool = False
    account: str = ""
    order_ref: str = ""
    oca_group: str = ""
    oca_type: int = 0
    all_or_none: bool = False
    hidden: bool = False
    algo_strategy: str = ""
    algo_parameters: tuple[tuple[str, str], ...] = ()
    conditions: tuple[OrderCondition, ...] = ()
    conditions_cancel: bool = False
    conditions_outside_rth: bool = False
    non_guaranteed: bool | None = None
    override: bool = False
    transmit: bool = True
    what_if: bool = False
    filled_quantity: float | None = None


class OrderState(Struct, rename="camel", frozen=True, kw_only=True):
    """The broker's view of an order; margins and commission are filled in by a what-if."""

    status: str = ""
    init_margin_before: float | None = None
    init_margin_change: float | None = None
    init_margin_after: float | None = None
    maint_margin_before: float | None = None
    maint_margin_change: float | None = None
    maint_margin_after: float | None = None
    equity_with_loan_before: float | None = None
    equity_with_loan_change: float | None = None
    equity_with_loan_after: float | None = None
    commission: float | None = None
    min_commission: float | None = None
    max_commission: float | None = None
    commission_currency: str = ""
    warning_text: str = ""
    completed_time: str = ""
    completed_status: str = ""


class OpenOrder(Struct, rename="camel", frozen=True, kw_only=True):
    """An openOrder or completedOrder message."""

    order_id: int
    contract: Contract
    order: Order
    state: OrderState


class OrderStatus(Struct, rename="camel", frozen=True, kw_only=True):
    """An orderStatus message; ``status`` is the broker's word (``Submitted``, ``Filled``, ...)."""

    order_id: int
    status: str
    filled: float
    remaining: float
    average_fill_price: float = 0.0
    perm_id: int = 0
    parent_id: int = 0
    last_fill_price: float = 0.0
    client_id: int = 0
    why_held: str = ""


class Execution(Struct, rename="camel", frozen=True, kw_only=True):
    """One fill. ``side`` is ``BOT`` or ``SLD``.

    ``time`` is UTC; a correction has the same id but for its last part. Where the broker's time
    cannot be read (``time_known`` false), it is when the fill was told, and ``time_text`` is what
    the broker said. ``reason`` is empty for a trade, else what the clearing house booked it for:
    ``assignment``, ``exercise``, ``expiry``.
    """

    exec_id: str
    time: datetime
    contract: Contract
    account: str
    side: str
    quantity: float
    price: float
    exchange: str = ""
    perm_id: int = 0
    client_id: int = 0
    order_id: int = 0
    order_ref: str = ""
    cumulative_quantity: float = 0.0
    average_price: float = 0.0
    liquidation: int = 0
    last_liquidity: int = 0
    time_known: bool = True
    time_text: str = ""
    reason: str = ""


class CommissionReport(Struct, rename="camel", frozen=True, kw_only=True):
    """The commission of one execution, often later than it."""

    exec_id: str
    commission: float
    currency: str
    realized_pnl: float | None = None


class Unreadable(Struct, rename="camel", frozen=True, kw_only=True):
    """A message about orders or money that cannot be taken as it came.

    `kind` is `execution`, `commission`, `open-order` ...; `name` what it is about, as far as that
    can be read; `content` the message.
    """

    kind: str
    name: str
    cause: str
    content: str


class Position(Struct, rename="camel", frozen=True, kw_only=True):
    """A holding; ``average_cost`` includes the multiplier."""

    account: str
    contract: Contract
    quantity: float
    average_cost: float | None


class AccountValue(Struct, rename="camel", frozen=True, kw_only=True):
    """One value of an account summary, as the broker's text."""

    account: str
    tag: str
    value: str
    currency: str = ""


class PnL(Struct, rename="camel", frozen=True, kw_only=True):
    """Profit and loss of an account, or of one position when ``con_id`` is set."""

    account: str
    daily: float | None = None
    unrealized: float | None = None
    realized: float | None = None
    con_id: int = 0
    position: float | None = None
    value: float | None = None


class PriceTick(Struct, rename="camel", frozen=True):
    """A price, with its size where it has one.

    ``price`` None: there is none.
    """

    field: str
    price: float | None
    size: float | None
    delayed: bool = False


class SizeTick(Struct, rename="camel", frozen=True):
    """A size: ``bidSize``, ``askSize``, ``lastSize``, ``volume``, ``openInterest`` ..."""

    field: str
    size: float | None
    delayed: bool = False


class ValueTick(Struct, rename="camel", frozen=True):
    """A generic number or a text.

    ``halted``, ``historicalVolatility``, ``lastTimestamp`` (seconds, as text) ...
    """

    field: str
    value: float | str | None
    delayed: bool = False


class OptionTick(Struct, rename="camel", frozen=True):
    """A computation.

    ``field`` is ``bidOption``, ``askOption``, ``lastOption`` or ``modelOption``.
    """

    field: str
    implied_volatility: float | None
    delta: float | None
    gamma: float | None
    vega: float | None
    theta: float | None
    option_price: float | None
    present_value_dividend: float | None
    underlying_price: float | None
    delayed: bool = False


Tick = PriceTick | SizeTick | ValueTick | OptionTick


class ConnectionEvent(Struct, rename="camel", frozen=True, kw_only=True):
    """Something that happened to the connection: a short stable word, and what explains it."""

    sequence: int
    at: datetime
    kind: str
    detail: dict[str, Any]
