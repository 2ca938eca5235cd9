"""What a client may ask for, as it arrives."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from bridge.orders.order_types import OrderType

TimeInForce = Literal["DAY", "GTC", "IOC", "FOK", "GTD", "OPG"]


class Request(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body of which every member is known."""


Label = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._:-]{0,63})?$")]
"""A client's own word for what an order belongs to; empty: none."""


class TakeProfit(Request, frozen=True, kw_only=True):
    """The limit order that closes a bracket with a gain."""

    limit_price: float


class StopLoss(Request, frozen=True, kw_only=True):
    """The stop that closes a bracket with a loss; a limit price makes it STP_LMT.

    With `trailAmount` or `trailPercent` it is a TRAIL that follows the market, from `stopPrice` on
    when there is one, and with `limitOffset` a TRAIL_LMT.
    """

    stop_price: float | None = None
    limit_price: float | None = None
    trail_amount: float | None = None
    trail_percent: float | None = None
    limit_offset: float | None = None

    @property
    def trails(self) -> bool:
        """Whether it follows the market."""
        return self.trail_amount is not None or self.trail_percent is not None


class Bracket(Request, frozen=True, kw_only=True):
    """Two orders that close the position again; the first to fill cancels the other."""

    take_profit: TakeProfit | None = None
    stop_loss: StopLoss | None = None


class Algo(Request, frozen=True, kw_only=True):
    """The broker's algorithm that works the order; `Adaptive` is the only one."""

    strategy: str
    priority: Literal["Urgent", "Normal", "Patient"] = "Normal"


class Condition(Request, frozen=True, kw_only=True):
    """What has to be so: the price of an instrument `above` or `below`, or the time.

    The instrument is named as in an order; of an option or a future give its `conId`.
    """

    symbol: str = ""
    con_id: int = 0
    sec_type: Literal["STK", "IND", "CASH", "OPT", "FUT", "FOP"] | None = None
    exchange: str = ""
    currency: str = ""
    above: float | None = None
    below: float | None = None
    price: Literal["last", "bidAsk", "middle"] = "last"
    after: str = ""
    before: str = ""
    join: Literal["and", "or"] = "and"

    @property
    def on_time(self) -> bool:
        """Whether it is about the time."""
        return bool(self.after or self.before)


class ComboLegRequest(Request, frozen=True, kw_only=True):
    """A part of a combination: `ratio` units of it for each unit of the whole."""

    action: Literal["BUY", "SELL"]
    ratio: Annotated[int, Meta(ge=1, le=1000)] = 1
    symbol: str = ""
    con_id: int = 0
    sec_type: Literal["STK", "OPT", "FUT", "FOP"] | None = None
    exchange: str = ""
    currency: str = ""
    strike: float | None = None
    right: Literal["C", "P"] | None = None
    expiration: str = ""
    multiplier: str | int | float = ""
    trading_class: str = ""


class OrderRequest(Request, frozen=True, kw_only=True):
    """One order.

    Prices are in the contract's currency, `quantity` in shares, contracts or units of the first
    currency of a pair. `expiration` is `YYYYMMDD`, `goodTillDate` (for tif `GTD`)
    `YYYYMMDD HH:MM:SS` with an optional zone, or with a dash and UTC. A combination (`BAG`) has
    `legs`; its price is what a `BUY` of the whole pays, below zero when it receives.
    """

    symbol: str
    action: Literal["BUY", "SELL"]
    quantity: float | None = None
    cash_quantity: float | None = None
    order_type: OrderType
    limit_price: float | None = None
    stop_price: float | None = None
    trail_amount: float | None = None
    trail_percent: float | None = None
    trail_stop_price: float | None = None
    limit_offset: float | None = None
    sec_type: Annotated[
        Literal["STK", "OPT", "FUT", "CASH", "FOP", "BAG"] | None,
        Meta(description="The kind; without it and without `conId`: `STK`"),
    ] = None
    exchange: str = ""
    primary_exchange: str = ""
    currency: Annotated[
        str, Meta(description="Three letters; without it and without `conId`: `USD`")
    ] = ""
    con_id: int = 0
    strike: float | None = None
    right: Literal["C", "P"] | None = None
    expiration: str = ""
    multiplier: str | int | float = ""
    trading_class: str = ""
    legs: tuple[ComboLegRequest, ...] = ()
    non_guaranteed: bool | None = None
    tif: TimeInForce = "DAY"
    good_till_date: str = ""
    good_after_time: str = ""
    account: str = ""
    outside_rth: bool = False
    all_or_none: bool = False
    round_to_tick: bool = False
    algo: Algo | None = None
    conditions: tuple[Condition, ...] = ()
    conditions_action: Literal["submit", "cancel"] | None = None
    conditions_outside_rth: bool = False
    bracket: Bracket | None = None
    oca_group: str = ""
    label: Label = ""


class OcaRequest(Request, frozen=True, kw_only=True):
    """Orders of which one fill ends the others.

    `ocaType` 1 cancels the rest, 2 and 3 reduce them (2 with, 3 without overfill protection).
    """

    orders: tuple[OrderRequest, ...]
    oca_type: Literal[1, 2, 3] = 1


class ChangeRequest(Request, frozen=True, kw_only=True):
    """What may be changed of a working order; what is left out stays as it is."""

    quantity: float | None = None
    limit_price: float | None = None
    stop_price: float | None = None
    trail_amount: float | None = None
    trail_percent: float | None = None
    trail_stop_price: float | None = None
    limit_offset: float | None = None
    tif: TimeInForce | None = None
    good_till_date: str | None = None
    outside_rth: bool | None = None
    round_to_tick: bool = False
