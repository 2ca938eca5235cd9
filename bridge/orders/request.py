"""What a client may ask for, as it arrives."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

OrderType = Literal["MKT", "LMT", "STP", "STP_LMT"]
TimeInForce = Literal["DAY", "GTC", "IOC", "FOK", "GTD", "OPG"]


class _Request(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class TakeProfit(_Request, frozen=True, kw_only=True):
    """The limit order that closes a bracket with a gain."""

    limit_price: float


class StopLoss(_Request, frozen=True, kw_only=True):
    """The stop that closes a bracket with a loss; a limit price makes it STP_LMT."""

    stop_price: float
    limit_price: float | None = None


class Bracket(_Request, frozen=True, kw_only=True):
    """Two orders that close the position again; the first to fill cancels the other."""

    take_profit: TakeProfit | None = None
    stop_loss: StopLoss | None = None


class OrderRequest(_Request, frozen=True, kw_only=True):
    """One order.

    Prices are in the contract's currency, `quantity` in shares, contracts or units of the first
    currency of a pair. `expiration` is `YYYYMMDD`, `goodTillDate` (for tif `GTD`)
    `YYYYMMDD HH:MM:SS` with an optional zone, or with a dash and UTC.
    """

    symbol: str
    action: Literal["BUY", "SELL"]
    quantity: float
    order_type: OrderType
    limit_price: float | None = None
    stop_price: float | None = None
    sec_type: Annotated[
        Literal["STK", "OPT", "FUT", "CASH"] | None,
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
    tif: TimeInForce = "DAY"
    good_till_date: str = ""
    account: str = ""
    outside_rth: bool = False
    all_or_none: bool = False
    round_to_tick: bool = False
    bracket: Bracket | None = None
    oca_group: str = ""


class OcaRequest(_Request, frozen=True, kw_only=True):
    """Orders of which one fill ends the others.

    `ocaType` 1 cancels the rest, 2 and 3 reduce them (2 with, 3 without overfill protection).
    """

    orders: tuple[OrderRequest, ...]
    oca_type: Literal[1, 2, 3] = 1


class ChangeRequest(_Request, frozen=True, kw_only=True):
    """What may be changed of a working order; what is left out stays as it is."""

    quantity: float | None = None
    limit_price: float | None = None
    stop_price: float | None = None
    tif: TimeInForce | None = None
    good_till_date: str | None = None
    outside_rth: bool | None = None
    round_to_tick: bool = False
