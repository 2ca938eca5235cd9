"""What a rule says of a holding at one moment: how far each trigger is, and whether to close.

A pure function of (rule, holding, market, memory). What is not known decides nothing: a trigger
without its value is shown as `unknown` with the reason, and never met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from bridge.broker_time import Session, days_left
from bridge.quantity import figure
from bridge.rules.holdings import Holding, Leg
from bridge.rules.model import Rule, Threshold, Trailing

_SLACK: Final = 1e-9
_CLOCKS: Final = timedelta(minutes=1)
NOT_ARMED: Final = "not armed yet"
NO_EXPIRATION: Final = "it does not expire"
NO_SESSION: Final = "no session is running"
EXPECTED: Final = frozenset({NOT_ARMED, NO_EXPIRATION, NO_SESSION})
"""Why a trigger is unknown where nothing is wrong."""
_NARROW: Final = 0.10
"""A spread of this much is never wide: cheap options have no finer market."""


class Price(Struct, frozen=True, kw_only=True):
    """What is known of one contract's price. `tag`: live, delayed, frozen or stale.

    `no_bid`: the broker says that nobody bids. `signed`: zero and below are prices, too.
    """

    bid: float | None = None
    ask: float | None = None
    last: float | None = None
    tag: str = "live"
    no_bid: bool = False
    signed: bool = False

    @property
    def middle(self) -> float | None:
        """Between bid and ask; None without both, or when they are crossed."""
        if self.bid is None or self.ask is None or self.ask < self.bid:
            return None
        if self.ask <= 0 and not self.signed:
            return None
        return (self.bid + self.ask) / 2


class Market(Struct, frozen=True, kw_only=True):
    """All that is looked at beside the holding. Prices by the contract's number.

    `session`: the regular one that is running, `longer` that of the trading hours; None: none is.
    """

    now: datetime
    zone: ZoneInfo
    open: bool = True
    open_outside: bool = True
    session: Session | None = None
    longer: Session | None = None
    prices: Mapping[int, Price] = {}
    underlying: Price | None = None
    followed: bool = True
    """Whether its prices move what is remembered; not while nothing is judged."""


class Guard(Struct, frozen=True, kw_only=True):
    """The stop at the broker: its order's key, where it stands, and for how many units.

    `ended`: somebody cancelled it, or it was refused. `anew`: another one may follow it.
    """

    number: int
    key: str
    stop: float
    units: float
    at: datetime
    ended: bool = False
    anew: bool = False
    withdrawn: bool = False
    """Whether it is us who cancelled it, or mean to."""
    terms: str = ""
    """Of the rules that it stands for; empty: kept by an earlier release."""
    named: dict[str, Any] = {}
    """How events say which holding it is for, when that is gone."""


class Memory(Struct, frozen=True, kw_only=True):
    """What a rule keeps of a holding; `best` is its best price, `stop` where trailing closes.

    `stop` only ever moves towards the price: `terms` says for which wording it holds.
    """

    first_seen: datetime
    """Since when it is held, as far as that is known."""
    made_at: datetime | None = None
    """When this memory began: what tells one decision from those for an earlier position."""
    best: float | None = None
    stop: float | None = None
    terms: str = ""
    units: float = 0.0
    entry: float | None = None
    decided: bool = False
    round: int = 0
    """How often a person has let the rule begin anew for this holding."""
    guard: Guard | None = None
    opened: datetime | None = None
    """Since when the position is certainly held; None: not known, or kept by an earlier release."""
    direction: int = 0
    """That of the holding, from first sight to the end; 0: as `opened`."""
    wording: str = ""
    """Of the rule and its mode when it was last judged; empty: kept by an earlier release."""


class Trigger(Struct, frozen=True, kw_only=True, rename="camel"):
    """One trigger: `level` at which it closes, `value` now, and how far that is.

    `distance` is in the unit of both, 0 or less when it is met; None: not known, see `unknown`.
    """

    name: str
    level: float | str | None = None
    value: float | str | None = None
    distance: float | None = None
    met: bool = False
    unknown: str | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """To close: why, and at which values."""

    id: str
    rule: str
    trigger: str
    reason: str
    price: float | None
    profit: float | None


class Judgement(Struct, frozen=True, kw_only=True):
    """A rule and a holding at one moment. `waits`: why nothing is judged."""

    rule: str
    holding: str
    triggers: tuple[Trigger, ...] = ()
    price: float | None = None
    profit: float | None = None
    profit_percent: float | None = None
    memory: Memory
    decision: Decision | None = None
    waits: str | None = None


class Standing(Struct, frozen=True, kw_only=True, rename="camel"):
    """How a rule stands to a holding: each trigger, and how far it is. `profit` is money."""

    rule: str
    mode: str
    holding: str
    name: str
    account: str
    quantity: float
    price: float | None
    profit: float | None
    profit_percent: float | None
    triggers: tuple[Trigger, ...]
    waits: str | None


def standing_of(judged: Judgement, holding: Holding, mode: str) -> Standing:
    """How the rule stands to the holding, in words and figures for people."""
    return Standing(
        rule=judged.rule,
        mode=mode,
        holding=holding.key,
        name=holding.name,
        account=holding.account,
        quantity=holding.units * (1 if holding.combination else holding.direction),
        price=judged.price,
        profit=judged.profit,
        profit_percent=judged.profit_percent,
        triggers=judged.triggers,
        waits=judged.waits,
    )


def remembered(holding: Holding, now: datetime) -> Memory:
    """The memory of a holding that is seen for the first time."""
    return Memory(
        first_seen=holding.opened_at or now,
        made_at=now,
        units=holding.units,
        entry=holding.entry,
        opened=holding.begun_at,
        direction=holding.direction if holding.direction_known else 0,
    )


def is_of_earlier(memory: Memory, holding: Holding) -> bool:
    """Whether the position was closed and opened again since: then the memory is another's.

    Where the memory does not say when its position was opened, a minute is for clocks that differ:
    executions have the broker's time.
    """
    return is_reopened(holding, memory.opened, memory.made_at or memory.first_seen)


def is_reopened(holding: Holding, opened: datetime | None, seen: datetime) -> bool:
    """Whether it is not the position any more that was `opened` then, and there when `seen`."""
    begun = holding.begun_at
    if begun is None:
        return False
    return begun > opened if opened is not None else begun > seen + _CLOCKS


def price_of(
    holding: Holding, prices: Mapping[int, Price], allowed: tuple[str, ...] = ()
) -> tuple[Price, str | None]:
    """Bid and ask of the whole, in its own direction, and why they are not to be used."""
    if not holding.direction_known:
        return Price(), "no average cost"
    bid = ask = 0.0
    for leg in holding.legs:
        found = prices.get(leg.contract.con_id)
        if found is None:
            return Price(), "no quote"
        if found.tag != "live" and found.tag not in allowed:
            return Price(), f"the quote is {found.tag}"
        found = _with_bid(found, leg, holding)
        if found.middle is None or found.bid is None or found.ask is None:
            return Price(), "bid and ask are not both there"
        weight = leg.ratio * leg.multiplier / holding.multiplier * holding.direction
        near, far = (found.bid, found.ask) if weight > 0 else (found.ask, found.bid)
        bid += weight * near
        ask += weight * far
    return Price(bid=bid, ask=ask), None


def _with_bid(found: Price, leg: Leg, holding: Holding) -> Price:
    """What nobody bids for is worth no less than nothing, if it is an option.

    One that is held alone is not: there is nobody whom it could be sold to.
    """
    option = leg.contract.sec_type in {"OPT", "FOP"}
    sold_alone = not holding.combination and holding.direction > 0
    if not option or not found.no_bid or sold_alone:
        return found
    return structs.replace(found, bid=0.0)


def judge(rule: Rule, holding: Holding, market: Market, memory: Memory) -> Judgement:
    """What the rule says now. Nothing is decided twice: see `Memory.decided`."""
    holding = holding.facing(memory.direction)
    waits = None if _may_trade(rule, market) else "the market is closed"
    whole, bad = price_of(holding, market.prices, rule.allow_quotes)
    middle = None if bad else ((whole.bid or 0.0) + (whole.ask or 0.0)) / 2
    memory = _adjusted(memory, holding)
    profit = _profit(holding, middle)
    if waits is None and market.followed and middle is not None and not _wide(rule, whole):
        memory = _followed(rule, holding, memory, middle)
    facts = _Facts(rule, holding, market, memory, middle, profit, bad, _wide(rule, whole))
    triggers = tuple(_triggers(facts))
    met = next((each for each in triggers if each.met), None) if waits is None else None
    decision = None
    if met is not None and not memory.decided:
        decision = Decision(
            id=decision_id(rule, holding, memory),
            rule=rule.id,
            trigger=met.name,
            reason=reason_of(met),
            price=middle,
            profit=profit,
        )
        memory = structs.replace(memory, decided=True)
    elif met is not None:
        waits = "it has decided already, and begins anew when you change it"
    entry = holding.entry
    return Judgement(
        rule=rule.id,
        holding=holding.key,
        triggers=triggers,
        price=middle,
        profit=profit,
        profit_percent=None
        if profit is None or not entry
        else 100 * profit / (abs(entry) * holding.units),
        memory=memory,
        decision=decision,
        waits=waits,
    )


def _may_trade(rule: Rule, market: Market) -> bool:
    return market.open or (rule.outside_rth and market.open_outside)


def decision_id(rule: Rule, holding: Holding, memory: Memory) -> str:
    """The name of the close of this holding, from its beginning to its end, by this rule."""
    begun = (memory.made_at or memory.first_seen).isoformat()
    text = f"{rule.id}|{holding.key}|{begun}|{memory.round}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def reason_of(trigger: Trigger) -> str:
    """A sentence for people."""
    return f"{trigger.name}: {_spoken(trigger.value)} has reached {_spoken(trigger.level)}"


def _spoken(value: float | str | None) -> str:
    return figure(value) if isinstance(value, int | float) else str(value)


# the memory -------------------------------------------------------------------------------------


def _adjusted(memory: Memory, holding: Holding) -> Memory:
    """Follows quantity and cost; after a split the kept prices are those of the new shares.

    A split leaves the cost of the whole as it was and divides that of each unit.
    """
    entry, before = holding.entry, memory.entry
    if memory.units and holding.units != memory.units:
        factor = entry / before if entry and before else 1.0
        same_cost = abs(factor * holding.units / memory.units - 1) < 0.002
        if same_cost and abs(factor - 1) > 0.05:
            guard = memory.guard
            memory = structs.replace(
                memory,
                best=None if memory.best is None else memory.best * factor,
                stop=None if memory.stop is None else memory.stop * factor,
                guard=guard and structs.replace(guard, stop=guard.stop * factor),
            )
        elif holding.units > memory.units:
            memory = structs.replace(memory, best=_best_of_more(memory, holding))
    return structs.replace(
        memory,
        units=holding.units,
        entry=entry,
        opened=holding.begun_at or memory.opened,
        direction=holding.direction if holding.direction_known else 0,
    )


def _best_of_more(memory: Memory, holding: Holding) -> float | None:
    """The best price of what is held, when some of it was added: that was never worth more.

    None: nobody knows what was paid for it, and the best price begins anew.
    """
    best, entry, before = memory.best, holding.entry, memory.entry
    if best is None or entry is None or before is None:
        return None
    added = holding.units - memory.units
    cost = (entry * holding.units - before * memory.units) / added
    worse = min if holding.direction > 0 else max
    paid = worse(best, holding.direction * cost / holding.multiplier)
    return (best * memory.units + paid * added) / holding.units


def _followed(rule: Rule, holding: Holding, memory: Memory, price: float) -> Memory:
    """The best price so far, and the trailing stop that follows it and never goes back."""
    better = max if holding.direction > 0 else min
    best = price if memory.best is None else better(memory.best, price)
    memory = structs.replace(memory, best=best)
    trailing = rule.trailing
    if trailing is None:
        return memory
    terms = f"{trailing.percent}/{trailing.amount}/{trailing.armed_at}"
    kept = memory.stop if memory.terms == terms else None
    stop = _stop(trailing, holding, best)
    if kept is not None and stop is not None:
        stop = better(kept, stop)
    return structs.replace(memory, stop=kept if stop is None else stop, terms=terms)


def _stop(trailing: Trailing, holding: Holding, best: float) -> float | None:
    """Where trailing closes, for the best price there was; None: it is not armed."""
    if trailing.armed_at is not None:
        profit, entry = _profit(holding, best), holding.entry
        if profit is None or not entry:
            return None
        reached = profit
        if trailing.percent is not None:
            reached = 100 * profit / (abs(entry) * holding.units)
        if reached < trailing.armed_at - _SLACK:
            return None
    if trailing.percent is not None:
        return best - holding.direction * abs(best) * trailing.percent / 100
    if trailing.amount is not None:
        return best - holding.direction * trailing.amount / (holding.multiplier * holding.units)
    return None


def stop_price(rule: Rule, holding: Holding, memory: Memory) -> float | None:
    """The price at which the rule would stop: the nearer of its loss and its trailing stop.

    None: it has none, or one that no price reaches (see `stop_beyond_reach`).
    """
    nearest = _nearest_stop(rule, holding, memory)
    return None if nearest is None or nearest <= 0 else nearest


def stop_beyond_reach(rule: Rule, holding: Holding, memory: Memory) -> float | None:
    """Where the rule would stop when that is at zero or below: no stop can stand there."""
    nearest = _nearest_stop(rule, holding, memory)
    return None if nearest is None or nearest > 0 else nearest


def _nearest_stop(rule: Rule, holding: Holding, memory: Memory) -> float | None:
    if not holding.priced:
        return None
    found = [] if memory.stop is None or rule.trailing is None else [memory.stop]
    threshold, entry = rule.stop_loss, holding.entry
    if threshold is not None and threshold.price is not None:
        found.append(threshold.price)
    elif threshold is not None and entry is not None:
        loss = _money(threshold, holding)
        if not isinstance(loss, str):
            value = holding.direction * (entry - loss / holding.units)
            found.append(value / holding.multiplier)
    if not found:
        return None
    return max(found) if holding.direction > 0 else min(found)


def _profit(holding: Holding, price: float | None) -> float | None:
    """Of all units, in money, at a price of the whole."""
    if price is None or holding.entry is None:
        return None
    value = holding.direction * price * holding.multiplier
    return (value - holding.entry) * holding.units


def _wide(rule: Rule, whole: Price) -> bool:
    bid, ask = whole.bid or 0.0, whole.ask or 0.0
    spread = ask - bid
    return spread > _NARROW and spread > abs(bid + ask) / 2 * rule.max_spread_percent / 100


# the triggers -----------------------------------------------------------------------------------


class _Facts(Struct, frozen=True):
    rule: Rule
    holding: Holding
    market: Market
    memory: Memory
    price: float | None
    profit: float | None
    bad: str | None
    wide: bool


def _triggers(facts: _Facts) -> Iterator[Trigger]:
    for name, made in _MAKERS.items():
        if getattr(facts.rule, name) is not None:
            yield made(facts)


def _stop_loss(facts: _Facts) -> Trigger:
    threshold = facts.rule.stop_loss or Threshold()
    return _threshold("stopLoss", threshold, facts, gain=-1)


def _take_profit(facts: _Facts) -> Trigger:
    threshold = facts.rule.take_profit or Threshold()
    return _threshold("takeProfit", threshold, facts, gain=1)


def _threshold(name: str, threshold: Threshold, facts: _Facts, gain: int) -> Trigger:
    """`gain`: +1 for a profit to be reached, -1 for a loss."""
    why = facts.bad or ("the spread is too wide" if facts.wide and gain < 0 else None)
    if why is not None or facts.price is None:
        return Trigger(name=name, unknown=why or "no price")
    if threshold.price is not None:
        distance = facts.holding.direction * gain * (threshold.price - facts.price)
        return _measured(name, threshold.price, facts.price, distance)
    level = _money(threshold, facts.holding)
    if isinstance(level, str) or facts.profit is None:
        return Trigger(name=name, unknown=level if isinstance(level, str) else "no average cost")
    return _measured(name, gain * level, facts.profit, level - gain * facts.profit)


def _money(threshold: Threshold, holding: Holding) -> float | str:
    """A threshold as money of the whole holding, or why it is none."""
    if threshold.amount is not None:
        return threshold.amount
    entry = holding.entry
    if not entry:
        return "no average cost"
    if threshold.of_credit is not None:
        if entry > 0:
            return "it was not opened for a credit"
        return -entry * threshold.of_credit * holding.units
    return abs(entry) * (threshold.percent or 0.0) / 100 * holding.units


def _trailing(facts: _Facts) -> Trigger:
    stop = facts.memory.stop
    why = facts.bad or ("the spread is too wide" if facts.wide else None)
    if why is not None or facts.price is None:
        return Trigger(name="trailing", level=stop, unknown=why or "no price")
    if stop is None:
        return Trigger(name="trailing", value=facts.price, unknown=NOT_ARMED)
    distance = facts.holding.direction * (facts.price - stop)
    return _measured("trailing", stop, facts.price, distance)


def _underlying_above(facts: _Facts) -> Trigger:
    return _underlying("underlyingAbove", facts.rule.underlying_above or 0.0, facts, 1)


def _underlying_below(facts: _Facts) -> Trigger:
    return _underlying("underlyingBelow", facts.rule.underlying_below or 0.0, facts, -1)


def _underlying(name: str, level: float, facts: _Facts, above: int) -> Trigger:
    found = facts.market.underlying
    if found is None:
        return Trigger(name=name, level=level, unknown="no quote of the underlying")
    if found.tag != "live" and found.tag not in facts.rule.allow_quotes:
        return Trigger(name=name, level=level, unknown=f"the underlying's quote is {found.tag}")
    value = found.middle if found.middle is not None else found.last
    if value is None:
        return Trigger(name=name, level=level, unknown="no quote of the underlying")
    return _measured(name, level, value, above * (level - value))


def _days_to_expiration(facts: _Facts) -> Trigger:
    limit = facts.rule.days_to_expiration or 0
    expiration = facts.holding.expiration
    if not expiration:
        month = any(leg.contract.expiration for leg in facts.holding.legs)
        why = "the day on which it expires is not known" if month else NO_EXPIRATION
        return Trigger(name="daysToExpiration", level=limit, unknown=why)
    left = days_left(expiration, facts.market.zone, facts.market.now)
    if left is None:
        return Trigger(name="daysToExpiration", level=limit, unknown=f"{expiration} is no day")
    return _measured("daysToExpiration", limit, left, left - limit)


def _max_holding_days(facts: _Facts) -> Trigger:
    limit, zone = facts.rule.max_holding_days or 0, facts.market.zone
    opened = facts.memory.first_seen.astimezone(zone).date()
    held = (facts.market.now.astimezone(zone).date() - opened).days
    return _measured("maxHoldingDays", limit, held, limit - held)


def _at(facts: _Facts) -> Trigger:
    if not _may_trade(facts.rule, facts.market):
        return Trigger(name="at", level=facts.rule.at, unknown=NO_SESSION)
    level, market = facts.rule.at or "", facts.market
    here = market.now.astimezone(market.zone)
    session = market.longer if facts.rule.outside_rth else market.session
    try:
        moment = _moment(time.fromisoformat(level), here, session)
    except ValueError:  # written by a release that took it
        return Trigger(name="at", level=level, unknown="it is no time such as 15:30")
    if session is not None and moment >= session.closes:
        ends = f"{session.closes.astimezone(market.zone):%H:%M}"
        return Trigger(name="at", level=level, unknown=f"the session ends at {ends}, before that")
    return _timed("at", level, here, moment - here)


def _moment(clock: time, here: datetime, session: Session | None) -> datetime:
    """When the clock says so in the session, which may have begun on the day before."""
    zone = here.tzinfo
    last = here if session is None else session.closes.astimezone(zone) - timedelta(microseconds=1)
    before = datetime.combine(last.date() - timedelta(days=1), clock, zone)
    if session is not None and before >= session.opens:
        return before
    return datetime.combine(last.date(), clock, zone)


def _minutes_before_close(facts: _Facts) -> Trigger:
    name, session = "minutesBeforeClose", facts.market.session
    if session is None:
        open_without = "it is not known when the session ends"
        return Trigger(name=name, unknown=open_without if facts.market.open else NO_SESSION)
    here = facts.market.now.astimezone(facts.market.zone)
    moment = session.closes.astimezone(facts.market.zone) - timedelta(
        minutes=facts.rule.minutes_before_close or 0
    )
    return _timed(name, f"{moment:%H:%M}", here, moment - here)


def _timed(name: str, level: str, here: datetime, left: timedelta) -> Trigger:
    """`distance` in seconds."""
    seconds = left.total_seconds()
    return Trigger(
        name=name, level=level, value=f"{here:%H:%M}", distance=seconds, met=seconds <= 0
    )


def _measured(name: str, level: float, value: float, distance: float) -> Trigger:
    return Trigger(name=name, level=level, value=value, distance=distance, met=distance <= _SLACK)


_MAKERS: Final[dict[str, Callable[[_Facts], Trigger]]] = {
    "stop_loss": _stop_loss,
    "trailing": _trailing,
    "take_profit": _take_profit,
    "underlying_below": _underlying_below,
    "underlying_above": _underlying_above,
    "days_to_expiration": _days_to_expiration,
    "minutes_before_close": _minutes_before_close,
    "at": _at,
    "max_holding_days": _max_holding_days,
}
"""In the order of `TRIGGERS`: the first that is met is the reason."""
