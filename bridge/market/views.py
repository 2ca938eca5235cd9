"""What the reading routes answer about the market."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import fields as struct_fields

from bridge.market.quote_values import QuoteSlot, QuoteValue
from bridge.model import Bar, Contract, MarketDataType, Right

KIND_WORDS: Final = {
    MarketDataType.LIVE: "live",
    MarketDataType.FROZEN: "frozen",
    MarketDataType.DELAYED: "delayed",
    MarketDataType.DELAYED_FROZEN: "delayed-frozen",
}


class Notice(Struct, rename="camel", frozen=True, kw_only=True):
    """Why an instrument's data is not live: the broker's code, and what it means."""

    broker_code: int | None
    detail: str


class Quote(Struct, rename="camel", frozen=True, kw_only=True):
    """One instrument's values; null: the broker never sent it.

    Each value has a tag (`live`, `delayed`, `frozen`, or `stale` when its line was interrupted
    after it) and its age in seconds. Implied volatility and greeks are the broker's model's. A
    price of null inside a value means that the broker says there is none now.
    """

    symbol: str
    con_id: int
    sec_type: str
    exchange: str
    currency: str
    at: datetime
    updated_at: datetime | None = None
    market_data: Literal["live", "frozen", "delayed", "delayed-frozen"] = "live"
    notice: Notice | None = None
    expiration: str | None = None
    dte: int | None = None
    strike: float | None = None
    right: Right | None = None
    multiplier: str | None = None
    local_symbol: str = ""
    trading_class: str = ""
    contract_month: str | None = None
    price_magnifier: int | None = None
    size_increment: float | None = None
    bid: QuoteValue | None = None
    ask: QuoteValue | None = None
    last: QuoteValue | None = None
    bid_size: QuoteValue | None = None
    ask_size: QuoteValue | None = None
    last_size: QuoteValue | None = None
    open: QuoteValue | None = None
    high: QuoteValue | None = None
    low: QuoteValue | None = None
    close: QuoteValue | None = None
    mark_price: QuoteValue | None = None
    volume: QuoteValue | None = None
    halted: QuoteValue | None = None
    last_timestamp: QuoteValue | None = None
    implied_volatility: QuoteValue | None = None
    historical_volatility: QuoteValue | None = None
    bid_implied_volatility: QuoteValue | None = None
    ask_implied_volatility: QuoteValue | None = None
    delta: QuoteValue | None = None
    gamma: QuoteValue | None = None
    vega: QuoteValue | None = None
    theta: QuoteValue | None = None
    model_price: QuoteValue | None = None
    underlying_price: QuoteValue | None = None
    open_interest: QuoteValue | None = None
    call_open_interest: QuoteValue | None = None
    put_open_interest: QuoteValue | None = None
    call_volume: QuoteValue | None = None
    put_volume: QuoteValue | None = None


class FailedQuote(Struct, rename="camel", frozen=True, kw_only=True):
    """An instrument of several that has no quote now, and why."""

    symbol: str
    code: str
    detail: str
    next_step: str


class Quotes(Struct, rename="camel", frozen=True, kw_only=True):
    """Quotes of several instruments, and those that failed."""

    quotes: tuple[Quote, ...]
    failed: tuple[FailedQuote, ...]


class ContractView(Struct, rename="camel", frozen=True, kw_only=True):
    """A contract with what a caller needs to trade or chart it."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    primary_exchange: str
    currency: str
    local_symbol: str
    trading_class: str
    long_name: str = ""
    expiration: str | None = None
    dte: int | None = None
    strike: float | None = None
    right: Right | None = None
    multiplier: str | None = None
    contract_month: str | None = None
    price_magnifier: int | None = None
    size_increment: float | None = None
    last_trade_time: str | None = None
    min_tick: float | None = None
    valid_exchanges: tuple[str, ...] = ()
    order_types: tuple[str, ...] = ()
    time_zone: str = ""
    trading_hours: str = ""
    liquid_hours: str = ""
    industry: str = ""
    category: str = ""
    derivative_sec_types: tuple[str, ...] = ()


class Contracts(Struct, rename="camel", frozen=True, kw_only=True):
    """Every contract that fits."""

    contracts: tuple[ContractView, ...]


class ChainExpiration(Struct, rename="camel", frozen=True, kw_only=True):
    """One expiration (`YYYYMMDD`), days to it from the exchange's today, who lists it."""

    expiration: str
    dte: int
    trading_classes: tuple[str, ...]


class ChainClass(Struct, rename="camel", frozen=True, kw_only=True):
    """One trading class: what it lists, and what one contract is a multiple of."""

    trading_class: str
    exchange: str
    multiplier: str
    expirations: tuple[str, ...]
    strikes: tuple[float, ...]


class OptionChain(Struct, rename="camel", frozen=True, kw_only=True):
    """Expirations and strikes of an underlying, from the exchange's today on.

    `strikes` holds every strike of any expiration; which of them one expiration really lists,
    `/options/quotes` finds out. `age` is seconds since the broker was asked.
    """

    symbol: str
    con_id: int
    exchange: str
    time_zone: str
    exchange_day: str
    expirations: tuple[ChainExpiration, ...]
    strikes: tuple[float, ...]
    classes: tuple[ChainClass, ...]
    multiplier: str
    age: float


class OptionSlice(Struct, rename="camel", frozen=True, kw_only=True):
    """Quotes of the options of one expiration. `complete` is false when some are without values."""

    symbol: str
    con_id: int
    expiration: str
    dte: int
    exchange_day: str
    time_zone: str
    underlying: Quote
    options: tuple[Quote, ...]
    failed: tuple[FailedQuote, ...]
    complete: bool


class History(Struct, rename="camel", frozen=True, kw_only=True):
    """Bars, oldest first. `requests` is how many were sent to the broker for this answer."""

    symbol: str
    con_id: int
    sec_type: str
    duration: str
    bar_size: str
    what_to_show: str
    use_rth: bool
    time_zone: str
    end: datetime
    bars: tuple[Bar, ...]
    requests: int
    cached_pages: int


_QUOTE_NAMES: Final = {
    field.encode_name: field.name
    for field in struct_fields(Quote)
    if field.type == (QuoteValue | None)
}


def quote_view(
    contract: Contract, slot: QuoteSlot, monotonic: float, now: datetime, **more: Any
) -> Quote:
    """The quote as it stands."""
    values = {
        _QUOTE_NAMES[name]: value
        for name, value in slot.view(monotonic).items()
        if name in _QUOTE_NAMES
    }
    return Quote(
        symbol=contract.symbol,
        con_id=contract.con_id,
        sec_type=contract.sec_type,
        exchange=contract.exchange,
        currency=contract.currency,
        at=now,
        updated_at=slot.updated,
        market_data=KIND_WORDS[slot.kind],  # type: ignore[arg-type]
        expiration=contract.expiration or None,
        strike=contract.strike,
        right=contract.right,
        multiplier=contract.multiplier or None,
        local_symbol=contract.local_symbol,
        trading_class=contract.trading_class,
        **values,  # type: ignore[arg-type]
        **more,
    )
