"""Finding contracts: from what a caller names to the one that the broker means."""

from __future__ import annotations

from typing import Any

from bridge.clock import Clock
from bridge.market.errors import AmbiguousContractError
from bridge.market.exchange_time import days_to_expiration, exchange_zone
from bridge.market.naming import question, require_same
from bridge.market.single_flight import SingleFlight
from bridge.market.views import ContractView
from bridge.model import Contract, ContractDetails, ContractMatch
from bridge.tws.gateway import Gateway
from bridge.tws.pacing import Lane

KEPT_SECONDS = 6 * 3600.0
"""Contract details change between sessions (hours, tick size), not within one."""

SEARCH_SECONDS = 300.0
MOST_CANDIDATES = 10


class ContractDesk:
    """Contract details, kept for some hours, each asked for once however many want it."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self._details: SingleFlight[Contract, tuple[ContractDetails, ...]] = SingleFlight(
            clock, seconds=KEPT_SECONDS, size=256
        )
        self._listed: SingleFlight[tuple[Contract, int], tuple[Contract, ...]] = SingleFlight(
            clock, seconds=KEPT_SECONDS, size=12
        )
        self._matches: SingleFlight[str, tuple[ContractMatch, ...]] = SingleFlight(
            clock, seconds=SEARCH_SECONDS, size=64
        )

    async def details(self, contract: Contract) -> tuple[ContractDetails, ...]:
        """Every contract that fits.

        Raises:
            UnknownContractError: none does.
        """
        return await self._details.get(
            contract, lambda: self._gateway.contract_details(contract, lane=Lane.INTERACTIVE)
        )

    async def resolve(self, contract: Contract) -> ContractDetails:
        """The one contract that fits.

        Raises:
            UnknownContractError: none does.
            AmbiguousContractError: several do.
        """
        found = await self.details(contract)
        if len(found) > 1:
            found = _narrowed(found, contract)
        if len(found) == 1:
            return found[0]
        candidates = [_candidate(item.contract) for item in found[:MOST_CANDIDATES]]
        raise AmbiguousContractError(
            f"{len(found)} contracts fit {contract.symbol or contract.con_id}",
            extra={"candidates": candidates},
        )

    async def named(self, named: Contract) -> ContractDetails:
        """The one contract that a caller names so, by its parts or its number.

        Raises:
            UnknownContractError: none is.
            AmbiguousContractError: several are.
            ContractMismatchError: a part contradicts the number.
        """
        details = await self.resolve(question(named))
        require_same(named, details)
        return details

    async def listed_options(self, query: Contract, underlying: int) -> tuple[Contract, ...]:
        """The options that really exist for an underlying, class and expiration.

        `underlying` is its number: those of one day may be on several futures of one symbol.
        """

        async def ask() -> tuple[Contract, ...]:
            found = await self._gateway.contract_details(query, lane=Lane.BULK, timeout=20.0)
            return tuple(item.contract for item in found if item.under_con_id in {0, underlying})

        return await self._listed.get((query, underlying), ask)

    async def search(self, pattern: str) -> tuple[ContractMatch, ...]:
        """Instruments whose symbol or name begins so."""
        return await self._matches.get(
            pattern.upper(), lambda: self._gateway.matching_symbols(pattern)
        )

    def days_left(self, details: ContractDetails) -> int | None:
        """Days to expiry by the exchange's calendar day; None: it does not expire."""
        expiration = details.real_expiration or details.contract.expiration
        if len(expiration) < 8:
            return None
        zone = exchange_zone(details.time_zone, details.contract)
        return days_to_expiration(expiration, zone, self._clock.now())

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
