"""Finds out what an order is about before it is judged: contract, price ladder, quote, account."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from bridge.account.service import AccountService
from bridge.auditing import Caller
from bridge.callers import ORDER_CHECKS
from bridge.clock import Clock
from bridge.errors import BridgeError, Kind
from bridge.market.contracts import ContractService, contract_of
from bridge.market.quote_values import QuoteValue
from bridge.market.quotes import QuoteService
from bridge.model import Contract, ContractDetails, Order, OrderCondition, PriceIncrement
from bridge.orders import combination
from bridge.orders.bracket_changes import enlarged
from bridge.orders.contradictions import contradictions
from bridge.orders.errors import OrderRefusedByRulesError, Violation
from bridge.orders.exposure import Place, only_reduce, parts_of_order
from bridge.orders.legs import Leg, legs
from bridge.orders.request import Condition, OrderRequest
from bridge.orders.risk import OF_SETTINGS, exchange_rate, line, max_loss, worth
from bridge.orders.risk_context import (
    UNKNOWN_BASE,
    Exchange,
    PricedLeg,
    Reference,
    RiskContext,
)
from bridge.orders.rules import TradingRules
from bridge.restart_calendar import RestartCalendar
from bridge.store import orders
from bridge.store.keys import UNBOUND, KeyBounds
from bridge.store.orders import DayTotals, OrderRecord
from bridge.tws.gateway import Gateway
from bridge.tws.pacing import Lane

_QUOTE_SECONDS: Final = 2.0
_TOO_MANY_LINES: Final = 101  # the broker's own count is used up, perhaps by TWS beside us
_LADDER_SECONDS: Final = 3.0
_MOST_LADDERS: Final = 500
_POSITIONS_SECONDS: Final = 3.0
_VALUES_SECONDS: Final = 3.0
_WITHOUT_VALUES_SECONDS: Final = 30.0
"""How long no order waits for account values once one has waited for them in vain."""
PAIRS_EXCHANGE: Final = "IDEALPRO"
_METHODS: Final = {"last": 0, "bidAsk": 4, "middle": 8}
"""The broker's numbers of the prices that a condition can watch."""


class Prepared(Struct, frozen=True, kw_only=True):
    """One request with all that is needed to judge and to send it."""

    details: ContractDetails
    ladder: tuple[PriceIncrement, ...]
    reference: Reference | None
    legs: tuple[Leg, ...]
    parts: tuple[PricedLeg, ...] = ()
    """Those of a combination."""
    reduces: bool = False
    exchange: Exchange | None = None
    closes: bool = False
    """It makes a position smaller, as the broker had it in the sender's turn."""
    unattended: bool = False
    """A rule closes, and nobody looks at the price."""
    delivers: str = ""
    """The kind of what an exercise opens a position in; empty: it is no exercise."""

    @property
    def contract(self) -> Contract:
        return self.details.contract


class Surroundings(Struct, frozen=True, kw_only=True):
    """What there was before this request."""

    open_orders: int
    day: DayTotals
    bounds: KeyBounds = UNBOUND
    orders_of_key: int = 0
    members: tuple[OrderRecord, ...] = ()
    """The open orders of the OCA groups that the new ones join."""


_NOTHING_BEFORE: Final = Surroundings(open_orders=0, day=DayTotals(0, 0.0))


class Preparer:
    """Asks the contracts, the quotes, the account's exchange rates, and for price ladders once."""

    def __init__(
        self,
        gateway: Gateway,
        contracts: ContractService,
        quotes: QuoteService,
        clock: Clock,
        rules: TradingRules,
        trading_mode: str,
        restarts: RestartCalendar,
        accounts: AccountService | None = None,
    ) -> None:
        self._accounts = accounts
        self.rules = rules
        self._restarts = restarts
        self._own_rules = rules
        self._usual_account = ""
        self._gateway = gateway
        self._contracts = contracts
        self._quotes = quotes
        self._clock = clock
        self._trading_mode = trading_mode
        self._ladders: dict[int, tuple[PriceIncrement, ...]] = {}
        self._without_values: dict[str, float] = {}
        """By account, until when no order waits for its values."""

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
        if request.sec_type == "BAG":
            return await self._prepare_combination(request)
        details = await self._contracts.named(contract_of(request), Lane.ORDER)
        if request.sec_type is None:  # some rules of the shape go by the kind, known only now
            kind: Any = details.contract.sec_type
            request = structs.replace(request, sec_type=kind)
            if found := contradictions(request):
                raise OrderRefusedByRulesError(found)
        ladder, reference = await self._surroundings_of(details)
        conditions = await self._conditions(request)
        made = legs(request, self._account(request), ladder, conditions)
        made = tuple(structs.replace(leg, order=_sized(leg.order, reference)) for leg in made)
        prepared = Prepared(
            details=details,
            ladder=ladder,
            reference=reference,
            legs=made,
            exchange=await self._exchange(details.contract, self._account(request)),
        )
        return await self._reducing(prepared, made[0].order) if len(made) == 1 else prepared

    async def _prepare_combination(self, request: OrderRequest) -> Prepared:
        """Qualifies every leg; the broker never answers when asked about the whole."""
        found = await asyncio.gather(
            *(self._contracts.named(contract_of(leg), Lane.ORDER) for leg in request.legs)
        )
        if wrong := list(combination.problems(request, found)):
            raise OrderRefusedByRulesError(wrong)
        details = combination.details_of(request, found)
        parts = await self._priced(details.contract, found)
        ladder = (PriceIncrement(low_edge=0.0, increment=details.min_tick),)
        conditions = await self._conditions(request)
        made = legs(request, self._account(request), ladder, conditions)
        prepared = Prepared(
            details=details,
            ladder=ladder,
            reference=combination.net_reference(details.contract, parts),
            legs=made,
            parts=parts,
            exchange=await self._exchange(details.contract, self._account(request)),
        )
        return await self._reducing(prepared, made[0].order)

    async def _priced(
        self, whole: Contract, found: Sequence[ContractDetails]
    ) -> tuple[PricedLeg, ...]:
        references = await asyncio.gather(*(self._reference(each.contract) for each in found))
        return tuple(
            PricedLeg(
                details=each,
                ratio=leg.ratio,
                sign=1 if leg.action == "BUY" else -1,
                reference=reference,
            )
            for leg, each, reference in zip(whole.legs, found, references, strict=True)
        )

    async def _conditions(self, request: OrderRequest) -> tuple[OrderCondition, ...]:
        """The conditions, with the numbers of the instruments that they are about."""
        return tuple(await asyncio.gather(*(self._condition(each) for each in request.conditions)))

    async def _condition(self, condition: Condition) -> OrderCondition:
        joined = condition.join == "and"
        if condition.on_time:
            return OrderCondition(
                time=condition.after or condition.before,
                above=bool(condition.after),
                joined_by_and=joined,
            )
        details = await self._contracts.named(contract_of(condition), Lane.ORDER)
        above = condition.above is not None
        return OrderCondition(
            con_id=details.contract.con_id,
            exchange=details.contract.exchange,
            price=condition.above if above else condition.below,
            above=above,
            method=_METHODS[condition.price],
            joined_by_and=joined,
        )

    async def _reference(self, contract: Contract) -> Reference | None:
        """The last quote, at once when its line is open already; None when the broker has none.

        Delayed and frozen values count, those from before an interruption do not.
        """
        try:
            quote = await self._quotes.quote(contract, timeout=_QUOTE_SECONDS, holder=ORDER_CHECKS)
        except BridgeError as error:
            broker_code = getattr(error, "broker_code", None)
            if error.kind is Kind.LIMITED or broker_code == _TOO_MANY_LINES:
                return Reference(no_line=True)
            return None
        return Reference(
            bid=_number(quote.bid),
            ask=_number(quote.ask),
            last=_number(quote.last),
            close=_number(quote.close),
        )

    def is_confirmed(self, place: Place) -> bool:
        """Whether the broker has sent this position since its last fill, as far as that is seen."""
        return self._accounts is None or self._accounts.is_confirmed(place)

    def may_pass_by_reducing(
        self, prepared: Prepared, order: Order, changed: OrderRecord | None = None
    ) -> bool:
        """Whether it matters if the order only makes a position smaller.

        So where it could not be checked, can lose more than it may, or nobody knows its worth, in
        its own currency or in that of the limits. `changed` is the order whose new terms these are.
        """
        if changed is None:
            judged = self._context(prepared, order, _NOTHING_BEFORE, closing=False)
        else:
            judged = self.change_context(prepared, order, changed, _NOTHING_BEFORE)
        rules = (line, max_loss, worth, exchange_rate)
        return any(found for rule in rules for found in rule(judged))

    async def _reducing(self, prepared: Prepared, order: Order) -> Prepared:
        """With whether it only makes a position smaller, beside what works, where that matters.

        When nobody can tell, it does not.
        """
        if not self.may_pass_by_reducing(prepared, order):
            return prepared
        wanted = parts_of_order("new", prepared.contract, order, order.quantity)
        try:
            reduces = await only_reduce(
                self._gateway, wanted, confirmed=self.is_confirmed, seconds=_POSITIONS_SECONDS
            )
        except BridgeError:
            reduces = False
        return structs.replace(prepared, reduces=reduces)

    def refused_always(self, contract: Contract, order: Order) -> list[Violation]:
        """What an order that closes is refused for in every market, by what is set."""
        details = ContractDetails(contract=contract)
        prepared = Prepared(details=details, ladder=(), reference=None, legs=(), closes=True)
        context = self._context(prepared, order, _NOTHING_BEFORE, closing=False)
        return [found for rule in OF_SETTINGS for found in rule(context)]

    async def delivered(self, details: ContractDetails) -> str:
        """The kind of what an option is on. Where nobody says, what is usual for such options."""
        usual = "FUT" if details.contract.sec_type == "FOP" else "STK"
        if not details.under_con_id:
            return usual
        underlying = Contract(con_id=details.under_con_id, sec_type="", exchange="", currency="")
        try:
            found = await self._contracts.resolve(underlying, Lane.ORDER)
        except BridgeError:
            return usual
        return found.contract.sec_type or usual

    async def prepare_change(self, contract: Contract, order: Order) -> Prepared:
        """The same for a change of an order, to `order`, whose contract was qualified before.

        Whether it only reduces what is held is not looked up: that is for the sender's turn.
        """
        if contract.legs:
            return await self._prepare_combination_change(contract, order.account)
        details = await self._details_of(contract)
        ladder, reference = await self._surroundings_of(details)
        return Prepared(
            details=details,
            ladder=ladder,
            reference=reference,
            legs=(),
            exchange=await self._exchange(contract, order.account),
        )

    async def _prepare_combination_change(self, contract: Contract, account: str) -> Prepared:
        found = await asyncio.gather(
            *(
                self._details_of(Contract(con_id=leg.con_id, sec_type="", exchange=leg.exchange))
                for leg in contract.legs
            )
        )
        parts = await self._priced(contract, found)
        first, step = found[0], combination.PRICE_STEP
        return Prepared(
            details=ContractDetails(
                contract=contract,
                min_tick=step,
                time_zone=first.time_zone,
                trading_hours=first.trading_hours,
                liquid_hours=first.liquid_hours,
                size_increment=1.0,
            ),
            ladder=(PriceIncrement(low_edge=0.0, increment=step),),
            reference=combination.net_reference(contract, parts),
            legs=(),
            parts=parts,
            exchange=await self._exchange(contract, account),
        )

    async def _exchange(self, contract: Contract, account: str) -> Exchange | None:
        """The account's own rate, or where its ledger has none that of the pair's quote.

        Just after the start the account's values may still be on their way: they are waited for a
        moment, and without them no limit can be held against money. Where they do not come, not
        every order waits.
        """
        if self._accounts is None or account not in self._gateway.accounts:
            return None
        known = self._accounts.exchange_rate(account, contract.currency)
        if known is None and self._clock.monotonic() >= self._without_values.get(account, 0.0):
            await self._wait_for_values(self._accounts, account)
            known = self._accounts.exchange_rate(account, contract.currency)
        base, rate = known or (UNKNOWN_BASE, None)
        if not base:
            return Exchange(base=base)
        if rate is None:
            rate = await self._quoted(contract.currency, base)
        return Exchange(base=base, rate=rate)

    async def _wait_for_values(self, accounts: AccountService, account: str) -> None:
        try:
            async with asyncio.timeout(_VALUES_SECONDS):
                await accounts.accounts(account)
        except TimeoutError:
            again = self._clock.monotonic() + _WITHOUT_VALUES_SECONDS
            self._without_values[account] = again
        except BridgeError:
            return

    async def _quoted(self, currency: str, base: str) -> float | None:
        for symbol, against in ((currency, base), (base, currency)):
            pair = Contract(
                symbol=symbol, sec_type="CASH", exchange=PAIRS_EXCHANGE, currency=against
            )
            try:
                details = await self._contracts.resolve(pair, Lane.ORDER)
            except BridgeError:
                continue
            reference = await self._reference(details.contract)
            price = reference.for_action("BUY") if reference else None
            if price:
                return price if symbol == currency else 1 / price
        return None

    async def _details_of(self, contract: Contract) -> ContractDetails:
        query = Contract(
            con_id=contract.con_id,
            sec_type=contract.sec_type,
            exchange=contract.exchange,
            currency="",
        )
        return await self._contracts.resolve(query, Lane.ORDER)

    async def _surroundings_of(
        self, details: ContractDetails
    ) -> tuple[tuple[PriceIncrement, ...], Reference | None]:
        ladder, reference = await asyncio.gather(
            self._ladder(details), self._reference(details.contract)
        )
        return ladder, reference

    def _account(self, request: OrderRequest) -> str:
        managed = self._gateway.accounts
        only = managed[0] if len(managed) == 1 else ""
        return request.account or self._usual_account or only

    async def _ladder(self, details: ContractDetails) -> tuple[PriceIncrement, ...]:
        rule_id = _market_rule(details)
        if rule_id is not None and rule_id not in self._ladders:
            with suppress(BridgeError):
                ladder = await self._gateway.queries.market_rule(rule_id, timeout=_LADDER_SECONDS)
                if ladder and len(self._ladders) >= _MOST_LADDERS:
                    self._ladders.pop(next(iter(self._ladders)))
                if ladder:
                    self._ladders[rule_id] = ladder
        if rule_id is not None and rule_id in self._ladders:
            return self._ladders[rule_id]
        return (PriceIncrement(low_edge=0.0, increment=details.min_tick),)

    def before(
        self,
        connection: sqlite3.Connection,
        caller: Caller,
        prepared: Iterable[Prepared] = (),
    ) -> Surroundings:
        """What is open now, what was ordered since midnight, and how far the caller reaches.

        `prepared` are the new orders: which group of orders they join is looked up too.
        """
        groups = {leg.order.oca_group for each in prepared for leg in each.legs} - {""}
        since, counted = self.day_start(), caller.bounds.max_orders_per_day is not None
        return Surroundings(
            open_orders=orders.count_open(connection),
            day=orders.totals_since(connection, since),
            bounds=caller.bounds,
            orders_of_key=orders.count_of_key(connection, caller.key_id, since) if counted else 0,
            members=orders.open_in_groups(connection, groups),
        )

    def day_start(self) -> datetime:
        """Midnight of the present day, in the zone of the limits."""
        here = self._clock.now().astimezone(ZoneInfo(self.rules.time_zone))
        return here.replace(hour=0, minute=0, second=0, microsecond=0)

    def contexts(self, prepared: Iterable[Prepared], before: Surroundings) -> list[RiskContext]:
        """What the rules are asked about: every leg of every request, counted together."""
        contexts = [
            structs.replace(
                self._context(each, leg.order, before, closing=leg.closing),
                entry=each.legs[0].order if leg.closing else None,
            )
            for each in prepared
            for leg in each.legs
        ]
        money = sum(context.counted_notional for context in contexts)
        return [
            structs.replace(context, new_orders=len(contexts), request_notional=money)
            for context in contexts
        ]

    def change_context(
        self, prepared: Prepared, order: Order, record: OrderRecord, before: Surroundings
    ) -> RiskContext:
        """The same about the new terms of an order.

        An exit of a bracket that is enlarged is judged as what opens: its entry had the limits'
        consent to its own size only.
        """
        enlarges = enlarged(record, order)
        closing = record.parent_id is not None and not enlarges
        context = self._context(prepared, order, before, closing=closing)
        return structs.replace(
            context, change=True, enlarges=enlarges, earlier_notional=record.notional
        )

    def _context(
        self, prepared: Prepared, order: Order, before: Surroundings, *, closing: bool
    ) -> RiskContext:
        now = self._clock.now()
        return RiskContext(
            rules=self.rules,
            contract=prepared.contract,
            details=prepared.details,
            ladder=prepared.ladder,
            reference=prepared.reference,
            reduces=prepared.reduces,
            closes=prepared.closes,
            unattended=prepared.unattended,
            delivers=prepared.delivers,
            exchange=prepared.exchange,
            legs=prepared.parts,
            order=order,
            closing=closing,
            trading_mode=self._trading_mode,
            accounts=self._gateway.accounts,
            bounds=before.bounds,
            orders_of_key=before.orders_of_key,
            members=before.members,
            open_orders=before.open_orders,
            day=before.day,
            now=now,
            seconds_to_restart=self._restarts.seconds_left(now),
        )


def _number(value: QuoteValue | None) -> float | None:
    if value is None or value.tag == "stale" or isinstance(value.value, str):
        return None
    return value.value


def _sized(order: Order, reference: Reference | None) -> Order:
    """With the quantity that the money buys at the price of the moment, to judge it by."""
    if order.cash_quantity is None:
        return order
    market = reference.for_action(order.action) if reference else None
    price = order.limit_price or market
    return structs.replace(order, quantity=round(order.cash_quantity / price, 2) if price else 0.0)


def _market_rule(details: ContractDetails) -> int | None:
    """The ladder of the exchange that the order goes to (they are listed side by side)."""
    exchange = details.contract.exchange
    for name, rule_id in zip(details.valid_exchanges, details.market_rule_ids, strict=False):
        if name == exchange:
            return rule_id
    return details.market_rule_ids[0] if details.market_rule_ids else None
