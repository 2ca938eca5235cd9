"""Everything that a rule of `bridge.orders.risk` may look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from bridge.model import Contract, ContractDetails, Order, PriceIncrement
from bridge.orders.order_types import INSTRUCTIONS, KINDS, better, kind_of_type, worse
from bridge.orders.rules import TradingRules
from bridge.quantity import multiplier_in
from bridge.store.keys import UNBOUND, KeyBounds
from bridge.store.orders import DayTotals, OrderRecord


class Reference(Struct, frozen=True, kw_only=True):
    """The last quote, whatever its age; `None`: the broker has none.

    `no_line`: nobody could ask the broker, because no market-data line was free.
    """

    no_line: bool = False
    signed: bool = False
    """Whether prices of zero and below are prices, as a combination's are."""
    bid: float | None = None
    ask: float | None = None
    last: float | None = None
    close: float | None = None

    def for_action(self, action: str) -> float | None:
        """The price that an order of this side would meet."""
        near = self.ask if action == "BUY" else self.bid
        if self.signed:
            return near
        return next((each for each in (near, self.last, self.close) if each and each > 0), None)


class PricedLeg(Struct, frozen=True, kw_only=True):
    """A leg with its contract's details, and the quote that it was judged by."""

    details: ContractDetails
    ratio: int
    sign: int
    reference: Reference | None = None

    @property
    def weight(self) -> float:
        """Units that stand behind one combination."""
        return self.ratio * multiplier(self.details.contract)

    @property
    def money(self) -> float:
        """What a price of it counts for in one combination, in its currency."""
        return self.weight / (self.details.price_magnifier or 1)

    def price(self, action: str) -> float | None:
        """What it trades at when the combination is bought (`BUY`) or sold."""
        bought = (action == "BUY") == (self.sign > 0)
        return self.reference.for_action("BUY" if bought else "SELL") if self.reference else None


UNKNOWN_BASE: Final = ""
"""The currency of an account whose values have not come yet."""


class Exchange(Struct, frozen=True, kw_only=True):
    """What a unit of the contract's currency is worth in the account's; None: nobody knows."""

    base: str
    rate: float | None = None


class RiskContext(Struct, frozen=True, kw_only=True):
    """One order (or the new terms of one that is `change`d) and its circumstances.

    `closing` marks the legs of a bracket that only close what its first leg, `entry`, has opened,
    `reduces` an order that only makes a position smaller (looked up when it matters), `closes` one
    that was sized to do so, and so is bound by the position instead of by limits; `unattended` one
    of a rule, with nobody who looks at the price; `delivers` is the kind of what an exercise opens
    a position in. `enlarges`: the change makes the quantity larger; `shrinks`: it makes it smaller,
    and does nothing else.
    `stop_named`: the change says where a trailing stop shall stand, which else is the broker's,
    `trail_named` by how much it shall trail.
    `bounds` and `orders_of_key` (today) are those of the key that it came with, `members` the open
    orders of OCA groups that new orders join.
    `open_orders` and `day` are what there was before this request, `new_orders` what it would add.
    `seconds_to_restart` is the time to the gateway's next planned restart; None: none is planned.
    """

    rules: TradingRules
    contract: Contract
    details: ContractDetails
    ladder: tuple[PriceIncrement, ...]
    order: Order
    trading_mode: str
    accounts: tuple[str, ...]
    now: datetime
    reference: Reference | None = None
    legs: tuple[PricedLeg, ...] = ()
    bounds: KeyBounds = UNBOUND
    orders_of_key: int = 0
    members: tuple[OrderRecord, ...] = ()
    closing: bool = False
    reduces: bool = False
    closes: bool = False
    unattended: bool = False
    delivers: str = ""
    exchange: Exchange | None = None
    entry: Order | None = None
    change: bool = False
    enlarges: bool = False
    shrinks: bool = False
    stop_named: bool = False
    trail_named: bool = False
    earlier_notional: float = 0.0
    request_notional: float = 0.0
    open_orders: int = 0
    new_orders: int = 1
    day: DayTotals = DayTotals(0, 0.0)
    seconds_to_restart: float | None = None

    @property
    def fills_at_any_price(self) -> bool:
        """Whether nothing in the order limits its price."""
        order = self.order
        return kind_of_type(order.order_type).any_price and order.limit_price is None

    @property
    def exercises(self) -> bool:
        """Whether it exercises an option, and so trades the underlying at the strike."""
        return self.order.order_type == INSTRUCTIONS["exercise"]

    @property
    def market(self) -> float | None:
        """The quoted price that the order would meet; None: unknown."""
        return self.reference.for_action(self.order.action) if self.reference else None

    @property
    def market_or_trigger(self) -> float | None:
        """What its limit is compared with: the market, or the stop price that sets it off.

        Of one that is touched the better of both: the market may have set it off already.
        """
        order, market = self.order, self.market
        if order.stop_price is None or market is None:
            return market if order.stop_price is None else order.stop_price
        if kind_of_type(order.order_type).touched:
            return better(order.action, market, order.stop_price)
        return order.stop_price

    @property
    def unchecked(self) -> bool:
        """Whether no market-data line was free to look the market up."""
        return self.reference is not None and self.reference.no_line

    @property
    def price(self) -> float | None:
        """What it is counted with: the most that it may pay, or bring, by the best guess.

        A limit bounds what a buyer pays, never what a seller gets. None: nobody knows.
        """
        if self.exercises:
            return self.contract.strike or None
        return self._paid if self.order.action == "BUY" else self._brought

    @property
    def _paid(self) -> float | None:
        order, market = self.order, self._market_then(highest=True)
        stop = self._stop_from(market)
        if order.limit_price is not None:
            return order.limit_price
        if stop is not None and order.order_type == KINDS["TRAIL_LMT"].broker:
            stop += order.limit_offset or 0.0
        return max((each for each in (market, stop) if each is not None), default=None)

    @property
    def _brought(self) -> float | None:
        """Without a quote only a stop says it: the market is there, or below, when it sells."""
        order, market = self.order, self._market_then(highest=True)
        if market is None and (order.stop_price is None or kind_of_type(order.order_type).touched):
            return None
        known = (market, order.limit_price, self._stop_from(market))
        return max((each for each in known if each is not None), default=None)

    @property
    def worst_fill(self) -> float | None:
        """What it pays at the most, or brings at the least, by the best guess: for what it loses.

        None: nobody knows.
        """
        order = self.order
        if order.action == "BUY" or order.limit_price is not None or self.exercises:
            return self.price if order.limit_price is None else order.limit_price
        market = self._market_then(highest=False)
        stop = self._stop_from(market)
        if market is None or stop is None:
            return market if stop is None else self._below(stop)
        if kind_of_type(order.order_type).touched:
            return max(market, stop)
        return self._below(min(market, stop))

    def _below(self, stop: float) -> float:
        """The limit of a sale that trails, behind its stop; else the stop."""
        offset = self.order.limit_offset
        limited = offset is not None and self.order.order_type == KINDS["TRAIL_LMT"].broker
        return max(0.0, stop - (offset or 0.0)) if limited else stop

    def _market_then(self, *, highest: bool) -> float | None:
        """The market when it begins to work: perhaps at the price of its own that it waits for."""
        order, market = self.order, self.market
        if market is None or order.conditions_cancel:
            return market
        awaited = [
            each.price
            for each in order.conditions
            if each.price is not None
            and each.con_id == self.contract.con_id
            and each.above is highest
        ]
        return max((market, *awaited)) if highest else min((market, *awaited))

    @property
    def stop(self) -> float | None:
        """Where its stop stands at first; None: it has none, or nobody knows.

        When a change says by how much it trails, nobody knows whether the broker leaves the stop
        where it is: then the one that is further from the market counts.
        """
        return self._stop_from(self.market)

    @property
    def nearest_stop(self) -> float | None:
        """Where a stop that trails stands at first, or where it comes to by itself.

        One of a buyer follows the market down. One of a seller only rises; above the market the
        broker may put it where it follows.
        """
        stop, market = self.stop, self.market
        trailed = self._trailed(market)
        if stop is None or market is None or trailed is None:
            return stop
        if self.order.action == "BUY":
            return min(stop, trailed)
        return trailed if stop > market else stop

    def _stop_from(self, market: float | None) -> float | None:
        order, trailed = self.order, self._trailed(market)
        if order.trail_amount is None and order.trail_percent is None:
            return order.stop_price
        if order.trail_stop_price is None or trailed is None:
            return trailed if order.trail_stop_price is None else order.trail_stop_price
        moved = self.change and self.trail_named and not self.stop_named
        named = order.trail_stop_price
        return worse(order.action, named, trailed) if moved else named

    def _trailed(self, market: float | None) -> float | None:
        """The stop that trails the market as far as the order says."""
        order = self.order
        if market is None or (order.trail_amount is None and order.trail_percent is None):
            return None
        distance = order.trail_amount or market * (order.trail_percent or 0.0) / 100
        return market + distance if order.action == "BUY" else market - distance

    @property
    def price_scale(self) -> float | None:
        """What a price's distance from the market is measured by; None: unknown."""
        if not self.legs:
            return None if self.market is None else abs(self.market)
        money = gross(self.legs, self.order.action)
        return None if money is None else money / multiplier(self.contract)

    @property
    def notional(self) -> float | None:
        """Quantity times price times multiplier, in the contract's currency.

        Of a combination the money in all its legs, of an exercise what the strike moves. None
        without a price.
        """
        if self.legs:
            money = gross(self.legs, self.order.action, money=True)
            return None if money is None else money * self.order.quantity
        if self.price is None:
            return None
        magnifier = self.details.price_magnifier or 1
        return abs(self.order.quantity * self.price) * multiplier(self.contract) / magnifier

    @property
    def counted_notional(self) -> float:
        """What the order takes of the day's money: nothing when it only closes."""
        return 0.0 if self.closing or self.closes else self.base_notional or 0.0

    @property
    def base_notional(self) -> float | None:
        """The same in the account's own currency, which the limits are in.

        Where nobody keeps account values, as it is. None: no price, or no rate.
        """
        amount, exchange = self.notional, self.exchange
        if amount is None or exchange is None:
            return amount
        return None if exchange.rate is None else amount * exchange.rate

    @property
    def money(self) -> str:
        """The currency of the limits."""
        base = self.exchange.base if self.exchange else UNKNOWN_BASE
        return base or self.contract.currency


def gross(legs: Sequence[PricedLeg], action: str, *, money: bool = False) -> float | None:
    """What stands in all legs of one unit, bought and sold ones alike.

    In their prices times what each counts for, or in `money`, where those are in pence.
    """
    total = 0.0
    for each in legs:
        price = each.price(action)
        if price is None:
            return None
        total += abs(price) * (each.money if money else each.weight)
    return total


def multiplier(contract: Contract) -> float:
    """How many units one contract stands for."""
    return multiplier_in(contract.multiplier)
