"""Finding contracts: from what a caller names to the one that the broker means."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any, Final, Protocol

from bridge.broker_time import days_left, exchange_zone
from bridge.clock import Clock
from bridge.market.errors import AmbiguousContractError, ContractMismatchError
from bridge.market.views import ContractView
from bridge.model import Contract, ContractDetails, ContractMatch
from bridge.quantity import plain
from bridge.single_flight import SingleFlight
from bridge.tws.gateway import Gateway
from bridge.tws.pacing import Lane


class Named(Protocol):
    """What a caller names an instrument with; empty and None: that part was not said."""

    @property
    def con_id(self) -> int:
        """The broker's number; 0: by its parts."""

    @property
    def sec_type(self) -> str | None: ...


class NamedUnderlying(Named, Protocol):
    """What options are on. `expiration` and `trading_class` beside it are the options' own."""

    @property
    def symbol(self) -> str: ...

    @property
    def exchange(self) -> str:
        """Where it trades; empty: as usual."""

    @property
    def currency(self) -> str:
        """The currency; empty: as usual."""

    @property
    def contract_month(self) -> str:
        """Which future, `YYYYMM` or the day of its expiry; empty for all other kinds."""


PARTS: Final = (
    "symbol",
    "exchange",
    "primary_exchange",
    "currency",
    "expiration",
    "strike",
    "right",
    "trading_class",
)
DEFAULT_EXCHANGES: Final = {"CASH": "IDEALPRO", "CRYPTO": "PAXOS", "FUT": "", "FOP": "", "IND": ""}
"""Where such instruments trade when nobody says; all others: SMART. Futures have no default."""


def kind_of(named: Named) -> str:
    """The kind: as it was said, a stock when neither kind nor number was; else "", unknown yet."""
    return named.sec_type or ("" if named.con_id else "STK")


def default_exchange(sec_type: str) -> str:
    """Where such instruments trade when nobody says."""
    return DEFAULT_EXCHANGES.get(sec_type, "SMART")


def is_directed(contract: Contract) -> bool:
    """Whether it is at one exchange by name where the broker would choose among several."""
    return default_exchange(contract.sec_type) == "SMART" and contract.exchange not in {"", "SMART"}


def contract_of(named: Named) -> Contract:
    """The name as a contract, with the defaults that hold when it goes by its parts.

    Beside a number every part stays as it was said, for `require_same`.
    """
    kind = kind_of(named)
    said = {name: getattr(named, name) for name in PARTS if hasattr(named, name)}
    said["exchange"] = said["exchange"].upper() or (default_exchange(kind) if kind else "")
    said["currency"] = said["currency"].upper() or ("" if named.con_id else "USD")
    said["symbol"] = said["symbol"].strip().upper()
    if "primary_exchange" in said:
        said["primary_exchange"] = said["primary_exchange"].upper()
    text = multiplier_text(getattr(named, "multiplier", ""))
    return Contract(con_id=named.con_id, sec_type=kind, multiplier=text, **said)


def multiplier_text(multiplier: str | float) -> str:
    """A multiplier as the broker writes it, never with an exponent."""
    if isinstance(multiplier, float):
        return plain(multiplier)
    return str(multiplier)


def underlying_of(named: NamedUnderlying) -> Contract:
    """The name of what options are on, as a contract; a future goes by its month or its number."""
    kind = kind_of(named)
    return Contract(
        con_id=named.con_id,
        symbol=named.symbol.strip().upper(),
        sec_type=kind,
        exchange=named.exchange.upper() or (default_exchange(kind) if kind else ""),
        currency=named.currency.upper() or ("" if named.con_id else "USD"),
        expiration=named.contract_month,
    )


def options_kind(underlying: str) -> str:
    """The kind of the options on such an underlying."""
    return "FOP" if underlying == "FUT" else "OPT"


def question(named: Contract) -> Contract:
    """What the broker is asked: by the number alone when there is one."""
    if not named.con_id:
        return named
    return Contract(
        con_id=named.con_id, sec_type=named.sec_type, exchange=named.exchange, currency=""
    )


def require_same(named: Contract, found: ContractDetails) -> None:
    """Compares what was said with what the broker answered to the number.

    Raises:
        ContractMismatchError: they contradict each other; every field is listed.
    """
    wrong = list(_contradictions(named, found)) if named.con_id else []
    if wrong:
        raise ContractMismatchError(named.con_id, wrong)


def _contradictions(
    named: Contract, found: ContractDetails
) -> Iterator[tuple[str, object, object]]:
    contract = found.contract
    if named.symbol and named.symbol not in {
        contract.symbol.upper(),
        contract.local_symbol.upper(),
    }:
        yield "symbol", named.symbol, contract.symbol
    days = {contract.expiration, found.real_expiration, found.contract_month} - {""}
    if len(named.expiration) == 6:
        days = {day[:6] for day in days}
    if named.expiration and named.expiration not in days:
        yield "expiration", named.expiration, contract.expiration or None
    said: tuple[tuple[str, object, object], ...] = (
        ("secType", named.sec_type, contract.sec_type),
        ("currency", named.currency, contract.currency),
        ("strike", named.strike, contract.strike),
        ("right", named.right, contract.right),
        ("tradingClass", named.trading_class, contract.trading_class),
        ("multiplier", _number(named.multiplier), _number(contract.multiplier)),
        ("primaryExchange", named.primary_exchange, contract.primary_exchange),
    )
    yield from (each for each in said if each[1] not in (None, "") and each[1] != each[2])


def _number(multiplier: str) -> float | str:
    try:
        return float(multiplier) if multiplier else ""
    except ValueError:
        return multiplier


KEPT_SECONDS = 6 * 3600.0
"""Contract details change between sessions (hours, tick size), not within one."""

MOST_KEPT = 1024
"""Contracts, however many one answer holds; each takes some 8 kB."""

SEARCH_SECONDS = 300.0
MOST_CANDIDATES = 10


class ContractService:
    """Contract details, kept for some hours, each asked for once however many want it."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self._details: SingleFlight[Contract, tuple[ContractDetails, ...]] = SingleFlight(
            clock, seconds=KEPT_SECONDS, size=MOST_KEPT, weigh=len
        )
        self._listed: SingleFlight[tuple[Contract, int], tuple[Contract, ...]] = SingleFlight(
            clock, seconds=KEPT_SECONDS, size=12
        )
        self._matches: SingleFlight[str, tuple[ContractMatch, ...]] = SingleFlight(
            clock, seconds=SEARCH_SECONDS, size=64
        )

    async def details(
        self, contract: Contract, lane: Lane = Lane.INTERACTIVE
    ) -> tuple[ContractDetails, ...]:
        """Every contract that fits. What an order needs does not wait behind those who read.

        Raises:
            UnknownContractError: none does.
        """

        def ask() -> Awaitable[tuple[ContractDetails, ...]]:
            return self._gateway.queries.contract_details(contract, lane=lane)

        if lane is Lane.ORDER and self._details.running(contract):
            return await ask()
        return await self._details.get(contract, ask)

    async def resolve(self, contract: Contract, lane: Lane = Lane.INTERACTIVE) -> ContractDetails:
        """The one contract that fits.

        Raises:
            UnknownContractError: none does.
            AmbiguousContractError: several do.
        """
        found = await self.details(contract, lane)
        if len(found) > 1:
            found = _narrowed(found, contract)
        if len(found) == 1:
            return found[0]
        candidates = [_candidate(item.contract) for item in found[:MOST_CANDIDATES]]
        raise AmbiguousContractError(
            f"{len(found)} contracts fit {contract.symbol or contract.con_id}",
            extra={"candidates": candidates},
        )

    async def named(self, named: Contract, lane: Lane = Lane.INTERACTIVE) -> ContractDetails:
        """The one contract that a caller names so, by its parts or its number.

        Raises:
            UnknownContractError: none is.
            AmbiguousContractError: several are.
            ContractMismatchError: a part contradicts the number.
        """
        details = await self.resolve(question(named), lane)
        require_same(named, details)
        return details

    async def listed_options(self, query: Contract, underlying: int) -> tuple[Contract, ...]:
        """The options that really exist for an underlying, class and expiration.

        `underlying` is its number: those of one day may be on several futures of one symbol.
        """

        async def ask() -> tuple[Contract, ...]:
            found = await self._gateway.queries.contract_details(
                query, lane=Lane.BULK, timeout=20.0
            )
            return tuple(item.contract for item in found if item.under_con_id in {0, underlying})

        return await self._listed.get((query, underlying), ask)

    async def search(self, pattern: str) -> tuple[ContractMatch, ...]:
        """Instruments whose symbol or name begins so."""
        return await self._matches.get(
            pattern.upper(), lambda: self._gateway.queries.matching_symbols(pattern)
        )

    def days_left(self, details: ContractDetails) -> int | None:
        """Days to expiry by the exchange's calendar day; None: it does not expire."""
        expiration = details.real_expiration or details.contract.expiration
        zone = exchange_zone(details.time_zone, details.contract)
        return days_left(expiration, zone, self._clock.now())

    def terms(self, details: ContractDetails) -> dict[str, Any]:
        """What views show of a contract beyond its name: how far off, how counted, in what steps.

        `price_magnifier`: prices are in that fraction of the currency (100: pence).
        """
        return {
            "dte": self.days_left(details),
            "contract_month": details.contract_month or None,
            "price_magnifier": details.price_magnifier or 1,
            "size_increment": details.size_increment,
        }

    def view(self, details: ContractDetails) -> ContractView:
        """Details as a caller sees them."""
        contract = details.contract
        expiration = details.real_expiration or contract.expiration
        return ContractView(
            **_named(contract),
            **self.terms(details),
            last_trade_time=details.last_trade_time or None,
            long_name=details.long_name,
            expiration=expiration or None,
            strike=contract.strike,
            right=contract.right,
            multiplier=contract.multiplier or None,
            min_tick=details.min_tick,
            valid_exchanges=details.valid_exchanges,
            order_types=details.order_types,
            time_zone=details.time_zone,
            trading_hours=details.trading_hours,
            liquid_hours=details.liquid_hours,
            industry=details.industry,
            category=details.category,
        )


def match_view(match: ContractMatch) -> ContractView:
    """A search result as a caller sees it."""
    return ContractView(
        **_named(match.contract),
        long_name=match.description,
        derivative_sec_types=match.derivative_sec_types,
    )


def _named(contract: Contract) -> dict[str, Any]:
    """The members of a view that say which contract it is."""
    return {
        "con_id": contract.con_id,
        "symbol": contract.symbol,
        "sec_type": contract.sec_type,
        "exchange": contract.exchange,
        "primary_exchange": contract.primary_exchange,
        "currency": contract.currency,
        "local_symbol": contract.local_symbol,
        "trading_class": contract.trading_class,
    }


def _narrowed(found: tuple[ContractDetails, ...], wanted: Contract) -> tuple[ContractDetails, ...]:
    """Those whose symbol is exactly the one asked for, when that leaves any.

    Two trading classes of one day and strike (SPX in the morning, SPXW in the afternoon) are two
    contracts that settle differently: nobody but the caller can choose.
    """
    return tuple(item for item in found if item.contract.symbol == wanted.symbol) or found


def _candidate(contract: Contract) -> dict[str, object]:
    return {
        "conId": contract.con_id,
        "localSymbol": contract.local_symbol,
        "exchange": contract.exchange,
        "primaryExchange": contract.primary_exchange,
        "currency": contract.currency,
        "tradingClass": contract.trading_class,
        "expiration": contract.expiration or None,
        "strike": contract.strike,
        "right": contract.right,
    }
