"""Option chains, and quotes with greeks for a slice of one expiration.

The gateway answers one row per exchange and trading class. Rows of one class agree across exchanges
but for venues that list less, so the routed exchange's rows count when it has any. What is kept
between requests are the broker's rows; days to expiration and what has expired are worked out anew
for each answer, so that a chain kept overnight cannot show yesterday's dates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from bridge.broker_time import (
    days_left,
    days_to_expiration,
    exchange_day,
    exchange_zone,
    parse_day,
)
from bridge.callers import BRIDGE, Holder
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.market.contracts import ContractService, options_kind
from bridge.market.errors import AmbiguousContractError, InvalidFieldError, StaleExpirationError
from bridge.market.quote_values import QuoteSlot
from bridge.market.quotes import QuoteService, failed_quote, greeks_known
from bridge.market.views import (
    ChainClass,
    ChainExpiration,
    FailedQuote,
    Notice,
    OptionChain,
    OptionSlice,
    Quote,
    quote_view,
)
from bridge.model import Contract, ContractDetails, OptionParameters, Right
from bridge.single_flight import SingleFlight
from bridge.tws.errors import NotConnectedError
from bridge.tws.gateway import Gateway


def routed_rows(
    rows: Sequence[OptionParameters], exchange: str, trading_class: str = ""
) -> tuple[OptionParameters, ...]:
    """One row per trading class: the routed exchange's where it has one, else the fullest."""
    best: dict[str, OptionParameters] = {}
    for row in rows:
        if trading_class and row.trading_class != trading_class:
            continue
        held = best.get(row.trading_class)
        if held is None or _preference(row, exchange) > _preference(held, exchange):
            best[row.trading_class] = row
    return tuple(best[name] for name in sorted(best))


def _preference(row: OptionParameters, exchange: str) -> tuple[bool, int]:
    return row.exchange == exchange, len(row.expirations) * len(row.strikes)


def chain_classes(
    rows: Iterable[OptionParameters], zone: ZoneInfo, now: datetime
) -> tuple[ChainClass, ...]:
    """The classes that still list something, without what has expired."""
    classes = (
        ChainClass(
            trading_class=row.trading_class,
            exchange=row.exchange,
            multiplier=row.multiplier,
            expirations=tuple(
                sorted(day for day in row.expirations if days_to_expiration(day, zone, now) >= 0)
            ),
            strikes=tuple(sorted(row.strikes)),
        )
        for row in rows
    )
    return tuple(item for item in classes if item.expirations)


def chain_expirations(
    classes: Sequence[ChainClass], zone: ZoneInfo, now: datetime
) -> tuple[ChainExpiration, ...]:
    """Every expiration once, ascending, with its days to go."""
    names: dict[str, list[str]] = {}
    for item in classes:
        for day in item.expirations:
            names.setdefault(day, []).append(item.trading_class)
    return tuple(
        ChainExpiration(
            expiration=day,
            dte=days_to_expiration(day, zone, now),
            trading_classes=tuple(names[day]),
        )
        for day in sorted(names)
    )


def all_strikes(classes: Sequence[ChainClass]) -> tuple[float, ...]:
    """Every strike once, ascending."""
    return tuple(sorted({strike for item in classes for strike in item.strikes}))


def check_expiration(expiration: str, zone: ZoneInfo, now: datetime) -> int:
    """Days to go of an expiration that a caller named.

    Raises:
        InvalidFieldError: it is not a date.
        StaleExpirationError: it is before the exchange's today.
    """
    try:
        parse_day(expiration)
        if len(expiration) != 8:
            raise ValueError(f"{expiration!r} is not a date of the form YYYYMMDD")
    except ValueError as error:
        raise InvalidFieldError("expiration", str(error)) from None
    dte = days_to_expiration(expiration, zone, now)
    if dte < 0:
        raise StaleExpirationError(
            "expiration",
            f"{expiration} is {-dte} days before the exchange's today",
            code="stale-expiration",
        )
    return dte


def nearest_strikes(strikes: Sequence[float], center: float, count: int) -> tuple[float, ...]:
    """The `count` strikes nearest to `center`, ascending."""
    nearest = sorted(strikes, key=lambda strike: (abs(strike - center), strike))[:count]
    return tuple(sorted(nearest))


KEPT_SECONDS = 3600.0
"""New expirations are listed between sessions; an hour bounds how late a new one is seen."""

GREEKS_SECONDS = 6.0
MOST_OPTIONS = 80
"""In one answer; more would be most of an account's lines at once."""


class SliceQuery(Struct, frozen=True, kw_only=True):
    """Which options: all strikes named, or `count` strikes nearest to the money within bounds."""

    underlying: Contract
    expiration: str | None = None
    right: Right | None = None
    strikes: tuple[float, ...] = ()
    strike_min: float | None = None
    strike_max: float | None = None
    count: int = 10
    trading_class: str = ""


class OptionService:
    """Chains by the exchange's calendar; slices over shared lines."""

    def __init__(
        self, gateway: Gateway, contracts: ContractService, quotes: QuoteService, clock: Clock
    ) -> None:
        self._gateway = gateway
        self._contracts = contracts
        self._quotes = quotes
        self._clock = clock
        self._rows: SingleFlight[int, tuple[OptionParameters, ...]] = SingleFlight(
            clock, seconds=KEPT_SECONDS, size=24
        )

    async def chain(self, underlying: Contract, trading_class: str = "") -> OptionChain:
        """What the underlying's options are, from the exchange's today on.

        Raises:
            NotConnectedError: there is no session; nothing old is shown instead.
            UnknownContractError, AmbiguousContractError: the underlying is not one contract.
            InvalidFieldError: it has no options (of that class).
        """
        self._gateway.require_ready()
        details = await self._contracts.named(underlying)
        contract = details.contract
        rows = await self._option_rows(contract)
        usual = contract.exchange if contract.sec_type == "FUT" else "SMART"
        chosen = routed_rows(rows, underlying.exchange or usual, trading_class)
        zone, now = exchange_zone(details.time_zone, contract), self._clock.now()
        classes = chain_classes(chosen, zone, now)
        if not classes:
            field = "tradingClass" if trading_class else "symbol"
            raise InvalidFieldError(
                field, f"{contract.symbol} has no such options", code="no-options"
            )
        standard = next(
            (item for item in classes if item.trading_class == contract.symbol), classes[0]
        )
        return OptionChain(
            symbol=contract.symbol,
            con_id=contract.con_id,
            exchange=standard.exchange,
            time_zone=zone.key,
            exchange_day=exchange_day(zone, now).strftime("%Y%m%d"),
            expirations=chain_expirations(classes, zone, now),
            strikes=all_strikes(classes),
            classes=classes,
            multiplier=standard.multiplier,
            age=round(self._rows.age(contract.con_id), 3),
        )

    async def slice(self, query: SliceQuery, holder: Holder = BRIDGE) -> OptionSlice:
        """Quotes of the options that the query means, with greeks and open interest.

        Raises:
            StaleExpirationError, InvalidFieldError: the expiration is gone or not listed, or
                nothing is left of the strikes.
            AmbiguousContractError: two trading classes expire on that day, and none is named.
        """
        self._gateway.require_ready()
        details = await self._contracts.named(query.underlying)
        zone = exchange_zone(details.time_zone, details.contract)
        if query.expiration is not None:
            check_expiration(query.expiration, zone, self._clock.now())
        chain = await self.chain(query.underlying, query.trading_class)
        expiration = _chosen_expiration(chain, query.expiration)
        underlying, listed = await asyncio.gather(
            self._underlying(details.contract, query, holder),
            self._listed(details, expiration, query, chain.exchange),
        )
        _require_one_class(listed)
        options = _chosen(listed, query, _money(underlying))
        if not options:
            raise InvalidFieldError(
                "strikes", f"no option of {expiration} is left of them", code="no-options"
            )
        quotes, failed = await self._read(options, zone, holder)
        return OptionSlice(
            symbol=chain.symbol,
            con_id=chain.con_id,
            expiration=expiration,
            dte=days_to_expiration(expiration, zone, self._clock.now()),
            exchange_day=exchange_day(zone, self._clock.now()).strftime("%Y%m%d"),
            time_zone=zone.key,
            underlying=underlying,
            options=quotes,
            failed=failed,
            complete=not failed and all(_has_greeks(item) for item in quotes),
        )

    async def _underlying(self, contract: Contract, query: SliceQuery, holder: Holder) -> Quote:
        """Its quote. Where the strikes are named it only goes along: without one it says why."""
        try:
            return await self._quotes.quote(contract, holder=holder)
        except BridgeError as error:
            if not query.strikes or isinstance(error, NotConnectedError):
                raise
            why = Notice(broker_code=getattr(error, "broker_code", None), detail=error.detail)
            now, monotonic = self._clock.now(), self._clock.monotonic()
            return quote_view(contract, QuoteSlot(contract), monotonic, now, notice=why)

    async def _option_rows(self, contract: Contract) -> tuple[OptionParameters, ...]:
        return await self._rows.get(
            contract.con_id, lambda: self._gateway.queries.option_parameters(contract)
        )

    async def _listed(
        self, details: ContractDetails, expiration: str, query: SliceQuery, exchange: str
    ) -> tuple[Contract, ...]:
        return await self._contracts.listed_options(
            Contract(
                symbol=details.contract.symbol,
                sec_type=options_kind(details.contract.sec_type),
                exchange=exchange,
                currency=details.contract.currency,
                expiration=expiration,
                trading_class=query.trading_class,
            ),
            details.contract.con_id,
        )

    async def _read(
        self, options: Sequence[Contract], zone: ZoneInfo, holder: Holder
    ) -> tuple[tuple[Quote, ...], tuple[FailedQuote, ...]]:
        """In as many turns as the free lines make necessary."""
        quotes: list[Quote] = []
        failed: list[FailedQuote] = []
        left = list(options)
        while left:
            turn = max(min(self._quotes.pool.available(holder), len(left)), 1)
            now = self._clock.now()
            for item in await asyncio.gather(
                *(self._read_one(contract, zone, now, holder) for contract in left[:turn])
            ):
                (quotes if isinstance(item, Quote) else failed).append(item)  # type: ignore[arg-type]
            del left[:turn]
        return tuple(quotes), tuple(failed)

    async def _read_one(
        self, contract: Contract, zone: ZoneInfo, now: datetime, holder: Holder
    ) -> Quote | FailedQuote:
        try:
            with self._quotes.holding(contract, holder) as line:
                if not await line.wait(greeks_known, GREEKS_SECONDS, settle=1.0) and line.error:
                    return failed_quote(contract, line.error)
                return self._quotes.view(line, {"dte": days_left(contract.expiration, zone, now)})
        except BridgeError as error:
            return failed_quote(contract, error)


def _require_one_class(listed: Sequence[Contract]) -> None:
    classes = sorted({contract.trading_class for contract in listed})
    if len(classes) > 1:
        day = listed[0].expiration
        raise AmbiguousContractError(
            f"{len(classes)} trading classes of {listed[0].symbol} expire on {day}",
            extra={"candidates": [{"tradingClass": each, "expiration": day} for each in classes]},
        )


def _chosen_expiration(chain: OptionChain, expiration: str | None) -> str:
    listed = [item.expiration for item in chain.expirations]
    if expiration is None:
        return listed[0]
    if expiration not in listed:
        asked = parse_day(expiration)
        nearest = min(listed, key=lambda day: abs(parse_day(day) - asked))
        raise InvalidFieldError(
            "expiration", f"{expiration} is not listed; the nearest is {nearest}", code="not-listed"
        )
    return expiration


def _chosen(
    listed: Sequence[Contract], query: SliceQuery, money: float | None
) -> tuple[Contract, ...]:
    """The options of the slice, by strike and right; at most `MOST_OPTIONS`."""
    low = query.strike_min if query.strike_min is not None else 0.0
    high = query.strike_max if query.strike_max is not None else float("inf")
    strikes = sorted(
        {item.strike for item in listed if item.strike is not None and low <= item.strike <= high}
    )
    if query.strikes:
        wanted = set(query.strikes)
        unknown = sorted(wanted.difference(strikes))
        if unknown:
            raise InvalidFieldError("strikes", f"not listed: {unknown}", code="not-listed")
    elif strikes:
        center = money if money is not None else strikes[len(strikes) // 2]
        wanted = set(nearest_strikes(strikes, center, query.count))
    else:
        wanted = set()
    chosen = [
        item
        for item in listed
        if item.strike in wanted and (query.right is None or item.right == query.right)
    ]
    if len(chosen) > MOST_OPTIONS:
        raise InvalidFieldError(
            "strikes", f"{len(chosen)} options are more than {MOST_OPTIONS} in one answer"
        )
    return tuple(sorted(chosen, key=lambda item: (item.strike or 0.0, item.right or "")))


def _money(quote: Quote) -> float | None:
    """Where the underlying is: last, else between bid and ask, else the previous close."""
    last, bid, ask, close = (
        value.value if value is not None and isinstance(value.value, float | int) else None
        for value in (quote.last, quote.bid, quote.ask, quote.close)
    )
    if last is not None:
        return last
    return (bid + ask) / 2 if bid is not None and ask is not None else close


def _has_greeks(quote: Quote) -> bool:
    return quote.delta is not None and quote.delta.value is not None
