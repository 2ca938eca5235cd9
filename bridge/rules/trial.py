"""Rules tried on given positions and prices, without a gateway, a bridge or an account.

    positions: [{name: put, symbol: SPY, secType: OPT, right: P, strike: 500,
                 expiration: "20260619", multiplier: 100, quantity: -2, averageCost: 125}]
    prices:    [{at: 2026-06-01T14:30:00Z, put: [1.20, 1.30], SPY: [512.1, 512.2]}]

A price is `[bid, ask]`, or one number for both. A position without a `name` goes by its symbol, an
option by `SPY 20260619 500P`; a price under the symbol of an underlying is that underlying's.
`averageCost` counts the multiplier, as the broker's does. A close is taken to fill at the middle.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Struct, structs

from bridge.broker_time import Session
from bridge.model import Contract, Position, Right
from bridge.quantity import plain
from bridge.rules.evaluation import (
    Judgement,
    Market,
    Memory,
    Price,
    Standing,
    judge,
    remembered,
    standing_of,
)
from bridge.rules.holdings import Holding, Opening, fits, holdings
from bridge.rules.model import RuleSet, RulesInvalidError, camel

_OPENS: Final = time(9, 30)
_CLOSES: Final = time(16, 0)


class TrialPosition(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A position as a file gives it."""

    symbol: str
    quantity: float
    average_cost: float | None = None
    name: str = ""
    sec_type: str = "STK"
    right: Right | None = None
    strike: float | None = None
    expiration: Annotated[str, Meta(pattern=r"^(\d{8})?$")] = ""
    multiplier: float | None = None
    account: str = "SIMULATED"
    order_ref: str = ""
    combination: str = ""
    """Positions of one word here were opened as one."""

    @property
    def label(self) -> str:
        """What its prices go by."""
        if self.name or self.strike is None:
            return self.name or self.symbol
        return f"{self.symbol} {self.expiration} {plain(self.strike)}{self.right or ''}"


class Moment(Struct, frozen=True):
    """Prices at one time, by the names of positions and underlyings."""

    at: datetime
    prices: dict[str, Price]


class Happening(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a rule would have done."""

    at: datetime
    rule: str
    holding: str
    account: str
    mode: str
    trigger: str
    reason: str
    action: str
    quantity: float
    order: str
    limit: float | None
    profit: float | None


class Outcome(Struct, frozen=True, kw_only=True, rename="camel"):
    """All of a trial: what would have been done, and how each rule stands at the end."""

    happenings: tuple[Happening, ...]
    standing: tuple[Standing, ...]
    moments: int


def positions_of(content: Any) -> tuple[TrialPosition, ...]:
    """The positions of a file.

    Raises:
        RulesInvalidError: they cannot be used.
    """
    try:
        found = msgspec.convert(_texts(camel(content or ())), tuple[TrialPosition, ...])
    except msgspec.ValidationError as error:
        raise RulesInvalidError(f"positions: {error}") from None
    for each in found:
        numbers = (each.quantity, each.average_cost, each.strike, each.multiplier)
        if not all(math.isfinite(number) for number in numbers if number is not None):
            raise RulesInvalidError(f"positions: {each.label}: a number is not finite")
    return found


def _texts(content: Any) -> Any:
    """YAML makes a number of a day; the day is meant."""
    if not isinstance(content, list):
        return content
    return [
        {name: str(each) if name == "expiration" else each for name, each in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in content
    ]


def moments_of(content: Any) -> tuple[Moment, ...]:
    """The prices of a YAML or JSON file, in the order of time.

    Raises:
        RulesInvalidError: they cannot be used.
    """
    if not isinstance(content, list):
        raise RulesInvalidError("prices: give a list of {at: TIME, NAME: [BID, ASK], …}")
    found = [_moment(number, entry) for number, entry in enumerate(content, 1)]
    return tuple(sorted(found, key=lambda each: each.at))


def moments_of_csv(text: str) -> tuple[Moment, ...]:
    """The prices of a CSV file with the columns `at,name,bid,ask`; what was known before, holds on.

    Raises:
        RulesInvalidError: they cannot be used.
    """
    rows = csv.DictReader(io.StringIO(text))
    if not {"at", "name", "bid", "ask"} <= set(rows.fieldnames or ()):
        raise RulesInvalidError("a CSV file of prices has the columns at,name,bid,ask")
    found: dict[datetime, dict[str, Price]] = {}
    for number, row in enumerate(rows, 2):
        try:
            price = _finite(float(row["bid"]), float(row["ask"]))
        except (TypeError, ValueError):
            raise RulesInvalidError(f"prices, line {number}: bid and ask are numbers") from None
        found.setdefault(_time(row["at"], f"line {number}"), {})[row["name"]] = price
    known: dict[str, Price] = {}
    moments = []
    for at in sorted(found):
        known = known | found[at]
        moments.append(Moment(at, known))
    return tuple(moments)


def _moment(number: int, entry: Any) -> Moment:
    where = f"number {number}"
    if not isinstance(entry, dict) or "at" not in entry:
        raise RulesInvalidError(f"prices, {where}: it has no `at`")
    prices = {
        str(name): _price(value, f"{where}, {name}")
        for name, value in entry.items()
        if name != "at"
    }
    return Moment(_time(entry["at"], where), prices)


def _price(value: Any, where: str) -> Price:
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2 or any(
        isinstance(each, bool) or not isinstance(each, int | float) for each in pair
    ):
        raise RulesInvalidError(f"prices, {where}: give [BID, ASK] or one number")
    try:
        return _finite(float(pair[0]), float(pair[1]))
    except (ValueError, OverflowError):
        raise RulesInvalidError(f"prices, {where}: a price is a finite number") from None


def _finite(bid: float, ask: float) -> Price:
    if not (math.isfinite(bid) and math.isfinite(ask)):
        raise ValueError("no finite number")
    return Price(bid=bid, ask=ask)


def _time(value: Any, where: str) -> datetime:
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise RulesInvalidError(
            f"prices, {where}: {value!r} is no time such as 2026-06-01T14:30:00Z"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def run(
    rules: RuleSet,
    positions: Sequence[TrialPosition],
    moments: Iterable[Moment],
    *,
    zone: ZoneInfo,
) -> Outcome:
    """Judges every rule at every moment. The hours are those of US stocks, holidays aside."""
    contracts = {number: _contract(number, each) for number, each in enumerate(positions, 1)}
    numbers: dict[str, list[int]] = {}
    for number, each in enumerate(positions, 1):
        numbers.setdefault(each.label, []).append(number)
    held = {
        number: Position(
            account=each.account,
            contract=contracts[number],
            quantity=each.quantity,
            average_cost=each.average_cost,
        )
        for number, each in enumerate(positions, 1)
    }
    memories: dict[tuple[str, str], Memory] = {}
    happenings: list[Happening] = []
    standing: list[Standing] = []
    count = 0
    for moment in moments:
        count += 1
        standing = []
        prices = {
            number: structs.replace(price, signed=contracts[number].sec_type == "FUT")
            for name, price in moment.prices.items()
            for number in numbers.get(name, ())
        }
        for holding in _holdings(held, positions, rules):
            for rule in rules.rules:
                if not rule.enabled or not fits(rule.match, holding):
                    continue
                place = (rule.id, holding.key)
                memory = memories.get(place) or remembered(holding, moment.at)
                market = _market(moment, zone, prices, holding)
                judged = judge(rule, holding, market, memory)
                memories[place] = judged.memory
                if judged.decision is None:
                    standing.append(standing_of(judged, holding, rules.mode_of(rule)))
                    continue
                happenings.append(_happening(rules, holding, judged, moment.at))
                for leg in holding.legs:
                    number = leg.contract.con_id
                    left = held[number].quantity - leg.ratio * holding.units
                    held[number] = structs.replace(held[number], quantity=left)
                break
    return Outcome(happenings=tuple(happenings), standing=tuple(standing), moments=count)


def _contract(number: int, position: TrialPosition) -> Contract:
    multiplier = position.multiplier
    if multiplier is None and position.sec_type in {"OPT", "FOP"}:
        multiplier = 100
    return Contract(
        con_id=number,
        symbol=position.symbol,
        sec_type=position.sec_type,
        expiration=position.expiration,
        strike=position.strike,
        right=position.right,
        multiplier="" if multiplier is None else plain(multiplier),
        local_symbol=position.name,
    )


def _holdings(
    held: dict[int, Position], positions: Sequence[TrialPosition], rules: RuleSet
) -> Iterator[Holding]:
    groups: dict[str, dict[int, float]] = {}
    for number, each in enumerate(positions, 1):
        if each.combination and held[number].quantity:
            groups.setdefault(f"{each.account} {each.combination}", {})[number] = each.quantity
    openings = []
    for members in groups.values():
        units = min(abs(quantity) for quantity in members.values())
        account = held[next(iter(members))].account
        labels = frozenset(positions[number - 1].order_ref for number in members) - {""}
        ratios = {number: quantity / units for number, quantity in members.items()}
        if len(members) > 1:
            openings.append(Opening(account, ratios, units, labels))
    labels_of = {
        (each.account, number): frozenset({each.order_ref} - {""})
        for number, each in enumerate(positions, 1)
    }
    yield from holdings(held.values(), rules, openings, labels_of)


def _market(moment: Moment, zone: ZoneInfo, prices: dict[int, Price], holding: Holding) -> Market:
    here = moment.at.astimezone(zone)
    session = here.weekday() < 5 and _OPENS <= here.time() < _CLOSES
    today, later = here.date(), here.date() + timedelta(days=1)
    regular = Session(*(datetime.combine(today, each, zone) for each in (_OPENS, _CLOSES)))
    longer = Session(*(datetime.combine(each, time(), zone) for each in (today, later)))
    return Market(
        now=moment.at,
        zone=zone,
        open=session,
        open_outside=here.weekday() < 5,
        session=regular if session else None,
        longer=longer if here.weekday() < 5 else None,
        prices=prices,
        underlying=moment.prices.get(holding.legs[0].contract.symbol),
    )


def _happening(rules: RuleSet, holding: Holding, judged: Judgement, at: datetime) -> Happening:
    rule = next(each for each in rules.rules if each.id == judged.rule)
    decision = judged.decision
    if decision is None:
        raise ValueError("nothing was decided")
    market = rule.close.order == "market"
    return Happening(
        at=at,
        rule=rule.id,
        holding=holding.name,
        account=holding.account,
        mode=rules.mode_of(rule),
        trigger=decision.trigger,
        reason=decision.reason,
        action="SELL" if holding.direction > 0 else "BUY",
        quantity=holding.units,
        order="MKT" if market else "LMT",
        limit=None if market or decision.price is None else round(decision.price, 4),
        profit=None if decision.profit is None else round(decision.profit, 2),
    )
