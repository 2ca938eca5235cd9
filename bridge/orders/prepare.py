"""Finds out what an order is about before it is judged: contract, price ladder, quote, account."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from bridge.auditing import Caller
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.market.contracts import ContractService, contract_of
from bridge.model import Contract, ContractDetails, Order, PriceIncrement
from bridge.orders.errors import OrderRefusedByRulesError
from bridge.orders.legs import Leg, legs
from bridge.orders.reference import References
from bridge.orders.request import OrderRequest, contradictions
from bridge.orders.risk_context import Reference, RiskContext
from bridge.orders.rules import TradingRules
from bridge.restart_calendar import RestartCalendar
from bridge.store import orders
from bridge.store.keys import UNBOUND, KeyBounds
from bridge.store.orders import DayTotals
from bridge.tws.gateway import Gateway

_LADDER_SECONDS: Final = 3.0
_MOST_LADDERS: Final = 500
_POSITIONS_SECONDS: Final = 3.0


class Prepared(Struct, frozen=True, kw_only=True):
    """One request with all that is needed to judge and to send it."""

    details: ContractDetails
    ladder: tuple[PriceIncrement, ...]
    reference: Reference | None
    legs: tuple[Leg, ...]
    reduces: bool = False

    @property
    def contract(self) -> Contract:
        """The qualified contract."""
        return self.details.contract


class Surroundings(Struct, frozen=True, kw_only=True):
    """What there was before this request."""

    open_orders: int
    day: DayTotals
    bounds: KeyBounds = UNBOUND
    orders_of_key: int = 0


class Preparer:
    """Asks the contract desk, the quotes and the gateway's price ladders (kept for good)."""

    def __init__(
        self,
        gateway: Gateway,
        contracts: ContractService,
        references: References,
        clock: Clock,
        rules: TradingRules,
        trading_mode: str,
        restarts: RestartCalendar,
    ) -> None:
        self.rules = rules
        self._restarts = restarts
        self._own_rules = rules
        self._usual_account = ""
        self._gateway = gateway
        self._contracts = contracts
        self._references = references
        self._clock = clock
        self._trading_mode = trading_mode
        self._ladders: dict[int, tuple[PriceIncrement, ...]] = {}

    def adopt(self, *, read_only: bool, account: str) -> None:
        """Takes over what the connection settings say about orders.

        `read_only` only ever adds to the rules; `account` is that of orders which name none.
        """
        self._usual_account = account
        own = self._own_rules
        self.rules = structs.replace(own, read_only=own.read_only or read_only)

    async def prepare(self, request: OrderRequest) -> Prepared:
        """Qualifies one request.

        Raises:
            OrderRefusedByRulesError: its fields contradict each other, or the contract.
            UnknownContractError, AmbiguousContractError: not exactly one contract fits.
        """
        found = contradictions(request)
        if found:
            raise OrderRefusedByRulesError(found)
        details = await self._contracts.named(contract_of(request))
        if request.sec_type is None:  # some rules of the shape go by the kind, known only now
            kind: Any = details.contract.sec_type
            request = structs.replace(request, sec_type=kind)
            if found := contradictions(request):
                raise OrderRefusedByRulesError(found)
        ladder, reference = await self._surroundings_of(details)
        made = legs(request, self._account(request), ladder)
        unchecked = reference is not None and reference.no_line
        return Prepared(
            details=details,
            ladder=ladder,
            reference=reference,
            legs=made,
            reduces=unchecked
            and len(made) == 1
            and await self._reduces(details.contract, made[0].order),
        )

    async def _reduces(self, contract: Contract, order: Order, number: int | None = None) -> bool:
        """Whether an order makes a position smaller, together with those that work already.

        `number` is that of an order which is changed, and so counts once. When nobody can tell, it
        does not.
        """
        try:
            held = await self._gateway.queries.positions(timeout=_POSITIONS_SECONDS)
            working = await self._gateway.queries.all_open_orders(timeout=_POSITIONS_SECONDS)
        except BridgeError:
            return False
        position = sum(
            each.quantity
            for each in held
            if each.account == order.account and each.contract.con_id == contract.con_id
        )
        waiting = sum(
            each.order.quantity
            for each in working
            if each.order.account == order.account
            and each.contract.con_id == contract.con_id
            and each.order.action == order.action
            and (number is None or each.order_id != number)
        )
        return order.quantity + waiting <= (position if order.action == "SELL" else -position)

    async def prepare_change(self, contract: Contract, order: Order) -> Prepared:
        """The same for a change of an order, to `order`, whose contract was qualified before."""
        details = await self._details_of(contract)
        ladder, reference = await self._surroundings_of(details)
        unchecked = reference is not None and reference.no_line
        return Prepared(
            details=details,
            ladder=ladder,
            reference=reference,
            legs=(),
            reduces=unchecked and await self._reduces(details.contract, order, order.order_id),
        )

    async def _details_of(self, contract: Contract) -> ContractDetails:
        query = Contract(
            con_id=contract.con_id,
            sec_type=contract.sec_type,
            exchange=contract.exchange,
            currency="",
        )
        return await self._contracts.resolve(query)

    async def _surroundings_of(
        self, details: ContractDetails
    ) -> tuple[tuple[PriceIncrement, ...], Reference | None]:
        ladder, reference = await asyncio.gather(
            self._ladder(details), self._references.reference(details.contract)
        )
        return ladder, reference

    def _account(self, request: OrderRequest) -> str:
        managed = self._gateway.accounts
        only = managed[0] if len(managed) == 1 else ""
        return request.account or self._usual_account or only

    async def _ladder(self, details: ContractDetails) -> tuple[PriceIncrement, ...]:
        rule_id = _market_rule(details)
        if rule_id is not None:
            if rule_id not in self._ladders:
                try:
                    ladder = await self._gateway.queries.market_rule(
                        rule_id, timeout=_LADDER_SECONDS
                    )
                except BridgeError:
                    ladder = ()
                if ladder:
                    if len(self._ladders) >= _MOST_LADDERS:
                        self._ladders.pop(next(iter(self._ladders)))
                    self._ladders[rule_id] = ladder
            if rule_id in self._ladders:
                return self._ladders[rule_id]
        return (PriceIncrement(low_edge=0.0, increment=details.min_tick),)

    def before(self, connection: sqlite3.Connection, caller: Caller) -> Surroundings:
        """What is open now, what was ordered since midnight, and how far the caller reaches."""
        since, counted = self.day_start(), caller.bounds.max_orders_per_day is not None
        return Surroundings(
            open_orders=orders.count_open(connection),
            day=orders.totals_since(connection, since),
            bounds=caller.bounds,
            orders_of_key=orders.count_of_key(connection, caller.key_id, since) if counted else 0,
        )

    def day_start(self) -> datetime:
        """Midnight of the present day, in the zone of the limits."""
        here = self._clock.now().astimezone(ZoneInfo(self.rules.time_zone))
        return here.replace(hour=0, minute=0, second=0, microsecond=0)

    def contexts(self, prepared: Iterable[Prepared], before: Surroundings) -> list[RiskContext]:
        """What the safety rules are asked about: every leg of every request, counted together."""
        pairs = [(each, leg) for each in prepared for leg in each.legs]
        contexts = [self._context(each, leg.order, closing=leg.closing) for each, leg in pairs]
        money = sum(context.notional or 0.0 for context in contexts if not context.closing)
        entries = [each.legs[0].order if leg.closing else None for each, leg in pairs]
        return [
            structs.replace(
                context,
                entry=entry,
                open_orders=before.open_orders,
                day=before.day,
                bounds=before.bounds,
                orders_of_key=before.orders_of_key,
                reduces=each.reduces,
                new_orders=len(contexts),
                request_notional=money,
            )
            for context, entry, (each, _) in zip(contexts, entries, pairs, strict=True)
        ]

    def change_context(
        self,
        prepared: Prepared,
        order: Order,
        earlier: float,
        before: Surroundings,
        *,
        closing: bool,
    ) -> RiskContext:
        """The same about the new terms of an order."""
        context = self._context(prepared, order, closing=closing)
        return structs.replace(
            context,
            change=True,
            earlier_notional=earlier,
            day=before.day,
            open_orders=before.open_orders,
            bounds=before.bounds,
            reduces=prepared.reduces,
        )

    def _context(self, prepared: Prepared, order: Order, *, closing: bool) -> RiskContext:
        now = self._clock.now()
        return RiskContext(
            rules=self.rules,
            contract=prepared.contract,
            details=prepared.details,
            ladder=prepared.ladder,
            reference=prepared.reference,
            order=order,
            closing=closing,
            trading_mode=self._trading_mode,
            accounts=self._gateway.accounts,
            now=now,
            seconds_to_restart=self._restarts.seconds_left(now),
        )


def _market_rule(details: ContractDetails) -> int | None:
    """The ladder of the exchange that the order goes to (they are listed side by side)."""
    exchange = details.contract.exchange
    for name, rule_id in zip(details.valid_exchanges, details.market_rule_ids, strict=False):
        if name == exchange:
            return rule_id
    return details.market_rule_ids[0] if details.market_rule_ids else None
