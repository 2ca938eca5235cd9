"""Routes: contracts, option chains, quotes, history.

Callers name an instrument by the same query parameters on every route.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Raw

from bridge.api.routing import Call, Params, RouteTable
from bridge.callers import Scope
from bridge.market.contracts import ContractService, contract_of, kind_of, match_view, underlying_of
from bridge.market.errors import InvalidFieldError
from bridge.market.history import HistoryQuery, HistoryService
from bridge.market.options import OptionService, SliceQuery
from bridge.market.quotes import QuoteService
from bridge.market.views import Contracts, History, OptionChain, OptionSlice, Quote, Quotes
from bridge.model import Contract, Right
from bridge.orders.combination_quote import CombinationQuote, CombinationQuotes

SymbolText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=32,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 .&/_:+-]*$",
        description="The broker's symbol, e.g. AAPL, BRK B, ES",
        examples=["AAPL"],
    ),
]
SecType = Literal[
    "STK", "OPT", "FUT", "CASH", "IND", "CFD", "FOP", "CRYPTO", "BOND", "FUND", "CMDTY"
]
ExchangeText = Annotated[str, Meta(max_length=24, pattern=r"^[A-Za-z0-9._-]*$")]
CurrencyText = Annotated[str, Meta(max_length=3, pattern=r"^[A-Za-z]{3}$|^$")]
ExpirationText = Annotated[
    str, Meta(pattern=r"^([0-9]{8}|[0-9]{6})?$", description="YYYYMMDD (futures: also YYYYMM)")
]
ClassText = Annotated[str, Meta(max_length=24, pattern=r"^[A-Za-z0-9 ._-]*$")]
MultiplierText = Annotated[str, Meta(max_length=12, pattern=r"^[0-9.]*$")]
StrikeNumber = Annotated[float, Meta(ge=0, le=1e9)]
ConId = Annotated[int, Meta(ge=0, le=2**31 - 1, description="The broker's contract id; 0: none")]

_NEEDED = {"OPT": ("expiration", "strike", "right"), "FOP": ("expiration", "strike", "right")}


class InstrumentParams(Params, frozen=True):
    """An instrument, by its symbol and kind or by `conId`."""

    symbol: SymbolText
    con_id: ConId = 0
    sec_type: Annotated[
        SecType | None, Meta(description="The kind; without it and without `conId`: `STK`")
    ] = None
    exchange: ExchangeText = ""
    primary_exchange: ExchangeText = ""
    currency: Annotated[
        CurrencyText, Meta(description="Three letters; without it and without `conId`: `USD`")
    ] = ""
    expiration: ExpirationText = ""
    strike: StrikeNumber | None = None
    right: Right | None = None
    trading_class: ClassText = ""
    multiplier: MultiplierText = ""

    def contract(self) -> Contract:
        """As it was named.

        Raises:
            InvalidFieldError: a part is missing without which the contract is not one.
        """
        kind = kind_of(self)
        for name in () if self.con_id else _NEEDED.get(kind, ()):
            if getattr(self, name) in {None, ""}:
                raise InvalidFieldError(name, f"is needed for {kind}", code="missing")
        return self.partial()

    def partial(self) -> Contract:
        """The same for a search, in which parts may be missing."""
        return contract_of(self)


def stock_contract(symbol: str) -> Contract:
    """A stock by its symbol alone."""
    return Contract(symbol=symbol.upper())


routes = RouteTable("market", gateway=True)

MOST_SYMBOLS = 50


class PatternParams(Params, frozen=True):
    """What a search for instruments is by: a part of a symbol or a name."""

    pattern: Annotated[
        str, Meta(min_length=1, max_length=32, description="The beginning of a symbol or a name")
    ]


class UnderlyingParams(Params, frozen=True):
    """Which underlying, by its symbol or contract number."""

    symbol: SymbolText
    con_id: ConId = 0
    sec_type: Annotated[
        SecType | None, Meta(description="The kind; without it and without `conId`: `STK`")
    ] = None
    exchange: ExchangeText = ""
    currency: Annotated[
        CurrencyText, Meta(description="Three letters; without it and without `conId`: `USD`")
    ] = ""
    contract_month: Annotated[
        str,
        Meta(
            pattern=r"^([0-9]{8}|[0-9]{6})?$",
            description="Which future, with secType FUT: YYYYMM, or YYYYMMDD of its expiry",
        ),
    ] = ""
    trading_class: ClassText = ""

    def underlying(self) -> Contract:
        """As it was named."""
        return underlying_of(self)


LegText = Annotated[str, Meta(max_length=48)]


class SliceParams(UnderlyingParams, frozen=True):
    """Which options of one expiration."""

    expiration: Annotated[
        str | None,
        Meta(description="YYYYMMDD; without it the nearest one from the exchange's today on"),
    ] = None
    right: Right | None = None
    strikes: Annotated[
        tuple[StrikeNumber, ...], Meta(max_length=80, description="Exactly these strikes")
    ] = ()
    strike_min: StrikeNumber | None = None
    strike_max: StrikeNumber | None = None
    count: Annotated[
        int, Meta(ge=1, le=40, description="How many strikes nearest to the money")
    ] = 10
    legs: Annotated[
        tuple[LegText, ...],
        Meta(
            max_length=4,
            description="A combination instead of a slice: ACTION:EXPIRATION:STRIKE:RIGHT or"
            " ACTION:CONID of each, :RATIO behind it",
            examples=["SELL:20271217:590:C,BUY:20271217:595:C"],
        ),
    ] = ()


class SymbolsParams(Params, frozen=True):
    """Several stocks by symbol, separated by commas."""

    symbols: Annotated[tuple[SymbolText, ...], Meta(min_length=1, max_length=MOST_SYMBOLS)]


class HistoryParams(InstrumentParams, frozen=True):
    """Bars of an instrument."""

    duration: Annotated[
        str, Meta(max_length=16, description="A count of S, D (trading days), W, M or Y")
    ] = "1 D"
    bar_size: Annotated[str, Meta(max_length=16, description="1 secs ... 1 month")] = "5 mins"
    what_to_show: Annotated[
        str | None,
        Meta(description="TRADES (options and forex: MIDPOINT), BID, ASK, BID_ASK, ..."),
    ] = None
    use_rth: bool = True
    end: (
        Annotated[datetime, Meta(tz=True, description="ISO 8601 with an offset; without it: now")]
        | None
    ) = None


@routes.get("/contracts", params=InstrumentParams, answer=Contracts, scope=Scope.HISTORY)
async def contracts(call: Call[InstrumentParams, None]) -> Contracts:
    """Contracts that fit.

    Every contract of the kind, symbol and parts given: for `secType=OPT` without a strike all
    strikes of the expiration.
    """
    contracts = call.services[ContractService]
    call.services.gateway.require_ready()
    wanted = call.params.partial()
    found = (await contracts.named(wanted),) if wanted.con_id else await contracts.details(wanted)
    return Contracts(contracts=tuple(contracts.view(item) for item in found))


@routes.get("/contracts/search", params=PatternParams, answer=Contracts, scope=Scope.HISTORY)
async def contract_search(call: Call[PatternParams, None]) -> Contracts:
    """Search by the beginning of a symbol or a name.

    At most 16 results, by the broker's rule one search a second: others wait their turn.
    """
    call.services.gateway.require_ready()
    found = await call.services[ContractService].search(call.params.pattern)
    return Contracts(contracts=tuple(match_view(item) for item in found))


@routes.get("/options/chain", params=UnderlyingParams, answer=OptionChain, scope=Scope.HISTORY)
async def option_chain(call: Call[UnderlyingParams, None]) -> OptionChain:
    """Expirations and strikes.

    `dte` counts from the exchange's calendar day; what has expired by it is never shown. Of a
    future (`secType=FUT`) `contractMonth` or `conId` says which.
    """
    params = call.params
    return await call.services[OptionService].chain(params.underlying(), params.trading_class)


@routes.get("/options/quotes", params=SliceParams, answer=OptionSlice | CombinationQuote)
async def option_quotes(call: Call[SliceParams, None]) -> OptionSlice | CombinationQuote:
    """Quotes for a slice of an expiration, or of a combination.

    Bid, ask, implied volatility, greeks and open interest of the strikes nearest to the money, of
    a range or of those named. With `legs` the net price of a combination of them.
    """
    params = call.params
    if params.legs:
        quotes = call.services[CombinationQuotes]
        return await quotes.quote(params.underlying(), params.legs, call.holder)
    return await call.services[OptionService].slice(
        SliceQuery(
            underlying=params.underlying(),
            expiration=params.expiration,
            right=params.right,
            strikes=params.strikes,
            strike_min=params.strike_min,
            strike_max=params.strike_max,
            count=params.count,
            trading_class=params.trading_class,
        ),
        call.holder,
    )


@routes.get("/quote/{symbol}", params=InstrumentParams, answer=Quote)
async def quote(call: Call[InstrumentParams, None]) -> Quote:
    """One quote.

    Live where the account has it, else delayed by itself; every value says which, and its age in
    seconds.
    """
    call.services.gateway.require_ready()
    details = await call.services[ContractService].named(call.params.contract())
    terms = call.services[ContractService].terms(details)
    return await call.services[QuoteService].quote(
        details.contract, terms=terms, holder=call.holder
    )


@routes.get("/quotes", params=SymbolsParams, answer=Quotes)
async def quotes(call: Call[SymbolsParams, None]) -> Quotes:
    """Quotes of several stocks at once.

    Those that fail are listed with their reason, and leave the others alone.
    """
    symbols = dict.fromkeys(symbol.upper() for symbol in call.params.symbols)
    return await call.services[QuoteService].quotes(
        [stock_contract(symbol) for symbol in symbols], call.holder
    )


@routes.get("/history", params=HistoryParams, answer=History, scope=Scope.HISTORY)
async def history(call: Call[HistoryParams, None]) -> Raw:
    """Bars of any instrument, options too.

    Longer stretches than the broker answers at once are paged; what is settled comes from a cache;
    the broker's pacing rules are kept by waiting, or by 429 with `Retry-After`.
    """
    params = call.params
    return await call.services[HistoryService].encoded(
        HistoryQuery(
            contract=params.contract(),
            duration=params.duration,
            bar_size=params.bar_size,
            what_to_show=params.what_to_show,
            use_rth=params.use_rth,
            end=params.end,
        )
    )
