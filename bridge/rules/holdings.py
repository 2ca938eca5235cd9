"""What rules judge: single positions, and combinations that were opened as one. No I/O.

The broker knows positions leg by leg. Which legs belong together is told by how they were opened
(`Opening`), or by a rule that names the legs. A leg counts for the combination as far as the
combination reaches; what is beyond is a position of its own.
"""

from __future__ import annotations

import fnmatch
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from bridge.model import Contract, Position
from bridge.quantity import SLACK, exact, multiplier_in, plain, whole_steps
from bridge.rules.model import LegMatch, Match, RuleSet

_COMMISSION: Final = 2.0
"""For a contract at most: the average cost has it, the price of a fill does not."""


class Leg(Struct, frozen=True):
    """One contract of a holding. `ratio` is signed, in contracts or shares for each unit.

    `entry`: the price at which it was opened, without the multiplier; None: the broker sent none.
    `magnifier`: prices are in that fraction of the currency (100: cents).
    """

    contract: Contract
    ratio: float
    entry: float | None
    magnifier: int = 1

    @property
    def multiplier(self) -> float:
        """What a price counts for, in money."""
        return multiplier_of(self.contract) / self.magnifier


def places_of_key(key: str) -> list[tuple[str, int]]:
    """The account and the contracts' numbers in a holding's key, or in what looks like one."""
    account, *legs = key.split("/")
    numbers = (leg.partition(":")[0] for leg in legs)
    return [(account, int(number)) for number in numbers if number.isdecimal()]


class Opening(Struct, frozen=True):
    """An order of several legs that was filled: signed contracts for each unit, and how many."""

    account: str
    ratios: dict[int, float]
    units: float
    labels: frozenset[str] = frozenset()
    at: datetime | None = None


class Holding(Struct, frozen=True, kw_only=True):
    """What is judged and closed as one: `units` (above 0) of all its legs."""

    account: str
    legs: tuple[Leg, ...]
    units: float
    labels: frozenset[str] = frozenset()
    opened_at: datetime | None = None
    begun_at: datetime | None = None
    """Since when all its legs are certainly held: what was remembered before is another's."""
    priced: bool = True
    """Whether it is known what a price of its legs counts for."""
    unclear: str = ""
    """The rule that may name it as a leg, where several positions fit what that says."""
    faces: int = 0
    """The direction that it was first seen with, if that is known: it holds to the end."""
    step: float = 0.0
    """What an order for it has to be a multiple of; 0: anything, or not known."""

    @property
    def key(self) -> str:
        """The same for the same position as long as it is held; another side is another."""
        parts = (f"{leg.contract.con_id}:{leg.ratio:+g}" for leg in self.legs)
        return f"{self.account}/{'/'.join(parts)}"

    @property
    def whole(self) -> float:
        """As many of its units as an order may be for: what is beyond stays."""
        return self.fitting(self.units)

    def fitting(self, units: float) -> float:
        """As many of so many as an order may be for: what is taken off comes off before that."""
        return whole_steps(units, self.step)

    @property
    def name(self) -> str:
        names = [leg.contract.local_symbol or spoken_contract(leg.contract) for leg in self.legs]
        if len(names) == 1:
            return names[0].strip()
        parts = (
            f"{leg.ratio:+g} {name.strip()}" for leg, name in zip(self.legs, names, strict=True)
        )
        return f"{self.legs[0].contract.symbol} ({', '.join(parts)})"

    @property
    def combination(self) -> bool:
        """Whether it has several legs."""
        return len(self.legs) > 1

    @property
    def entry(self) -> float | None:
        """What one unit cost, in money; below 0 a credit. None: not known."""
        total = 0.0
        for leg in self.legs:
            if leg.entry is None:
                return None
            total += leg.ratio * leg.entry * leg.multiplier
        return total

    @property
    def direction(self) -> int:
        """+1 when a higher price is a gain, -1 when it is a loss.

        Which of both a combination is, is a matter of words: by what it has cost, unless that was
        said before. Its cost may cross zero while it is held, its price must not turn with that.
        """
        if not self.combination:
            return 1 if self.legs[0].ratio > 0 else -1
        return self.faces or (-1 if (self.entry or 0.0) < 0 else 1)

    @property
    def direction_known(self) -> bool:
        """Whether anything tells it."""
        return not self.combination or self.faces != 0 or self.entry is not None

    def facing(self, direction: int) -> Holding:
        """The same with the direction that it was first seen with; 0: that is not known."""
        if not self.combination or self.faces or not direction:
            return self
        return structs.replace(self, faces=direction)

    def magnified(self, magnifiers: Mapping[int, int]) -> Holding:
        """The same with what its contracts' details say; a leg that is missing has no price."""
        legs = tuple(
            structs.replace(leg, magnifier=by, entry=None if leg.entry is None else leg.entry * by)
            for leg in self.legs
            for by in [magnifiers.get(leg.contract.con_id, 1)]
        )
        priced = all(leg.contract.con_id in magnifiers for leg in legs)
        return structs.replace(self, legs=legs, priced=priced)

    @property
    def multiplier(self) -> float:
        """What a price of the whole counts for, in money."""
        return max(leg.multiplier for leg in self.legs)

    @property
    def expiration(self) -> str:
        """The first day on which a leg expires, `YYYYMMDD`; empty: never."""
        days = [leg.contract.expiration for leg in self.legs if len(leg.contract.expiration) >= 8]
        return min(days, default="")[:8]


def multiplier_of(contract: Contract) -> float:
    """The broker's text as a number; 1 when there is none."""
    return multiplier_in(contract.multiplier)


def spoken_contract(contract: Contract) -> str:
    """Its name for people, where the broker gives none."""
    parts = [contract.symbol, contract.expiration, contract.right or ""]
    if contract.strike is not None and contract.right:
        parts.append(plain(contract.strike))
    return " ".join(part for part in parts if part)


def holdings(
    positions: Iterable[Position],
    rules: RuleSet,
    openings: Iterable[Opening] = (),
    labels: Mapping[tuple[str, int], frozenset[str]] = {},
    opened: Mapping[tuple[str, int], datetime] = {},
    begun: Mapping[tuple[str, int], datetime] = {},
) -> list[Holding]:
    """Positions as they are judged: combinations first, single positions with what is left.

    `openings` are those of the past, the newest first; one whose legs are no longer all held is
    over. `labels` and `opened` are of single positions, by account and contract; `begun` those of
    `opened` that are certain.
    """
    left = {
        (each.account, each.contract.con_id): each for each in positions if abs(each.quantity) > 0
    }
    combined = _combined(left, _claims(left, rules, list(openings)))
    found = [structs.replace(each, begun_at=_begun(each, begun)) for each in combined]
    unclear = _unclear(left, rules)
    for place, each in left.items():
        if abs(each.quantity) <= SLACK:
            continue
        leg = Leg(each.contract, 1.0 if each.quantity > 0 else -1.0, _entry(each))
        found.append(
            Holding(
                account=each.account,
                legs=(leg,),
                units=abs(each.quantity),
                labels=labels.get(place, frozenset()),
                opened_at=opened.get(place),
                begun_at=begun.get(place),
                unclear=unclear.get(place, ""),
            )
        )
    return sorted(found, key=lambda each: each.key)


def _combined(
    left: dict[tuple[str, int], Position], openings: Iterable[Opening]
) -> Iterator[Holding]:
    """Takes out of `left` what combinations hold."""
    merged: dict[str, Holding] = {}
    for opening in openings:
        places = {(opening.account, con_id): ratio for con_id, ratio in opening.ratios.items()}
        held = [_units(left.get(place), ratio) for place, ratio in places.items()]
        units = min([opening.units, *held])
        if units < 1:
            continue
        units = float(int(units + SLACK))
        legs = tuple(
            Leg(left[place].contract, ratio, _entry(left[place]))
            for place, ratio in sorted(places.items())
        )
        for place, ratio in places.items():
            each = left[place]
            left[place] = structs.replace(each, quantity=exact(each.quantity - ratio * units))
        made = Holding(
            account=opening.account,
            legs=legs,
            units=units,
            labels=opening.labels,
            opened_at=opening.at,
        )
        earlier = merged.get(made.key)
        if earlier is not None:
            made = structs.replace(
                made,
                units=made.units + earlier.units,
                labels=made.labels | earlier.labels,
                opened_at=_first(made.opened_at, earlier.opened_at),
            )
        merged[made.key] = made
    yield from merged.values()


def _begun(holding: Holding, begun: Mapping[tuple[str, int], datetime]) -> datetime | None:
    """Where one leg is not certain nothing is: it may be the newest, or become so in a moment."""
    places = [(holding.account, leg.contract.con_id) for leg in holding.legs]
    certain = [begun[place] for place in places if place in begun]
    return max(certain) if len(certain) == len(places) else None


def _claims(
    left: Mapping[tuple[str, int], Position], rules: RuleSet, openings: list[Opening]
) -> Iterator[Opening]:
    """What is to be taken out of `left`, in turn: each is told from what is left by then.

    What was opened as one stays so, with its label and its age; unless a rule names more legs,
    of which it is a part.
    """
    wider = [(each.account, each.ratios.keys()) for each in _named(left, rules)]
    parts = [
        each
        for each in openings
        if any(each.account == of and each.ratios.keys() < legs for of, legs in wider)
    ]
    yield from (each for each in openings if each not in parts)
    yield from _named(left, rules)
    yield from parts


def _named(left: Mapping[tuple[str, int], Position], rules: RuleSet) -> Iterator[Opening]:
    """The combinations that rules name leg by leg, as far as exactly one position fits each."""
    for _, account, fitting in _namings(left, rules):
        ratios = {
            each.contract.con_id: math.copysign(leg.ratio, each.quantity)
            for leg, (each, *others) in fitting
            if not others
        }
        if len(ratios) == len(fitting):
            yield Opening(account, ratios, float("inf"))


def _unclear(
    left: Mapping[tuple[str, int], Position], rules: RuleSet
) -> dict[tuple[str, int], str]:
    """Which positions may be legs that a rule names, where nobody can tell which of them are."""
    return {
        (account, each.contract.con_id): rule
        for rule, account, fitting in _namings(left, rules)
        if any(len(found) > 1 for _, found in fitting)
        for _, found in fitting
        for each in found
    }


def _namings(
    left: Mapping[tuple[str, int], Position], rules: RuleSet
) -> Iterator[tuple[str, str, list[tuple[LegMatch, list[Position]]]]]:
    """The rules that name legs, by account, with the positions that fit each leg; none may lack."""
    for rule in rules.rules:
        wanted = rule.match.combination
        if isinstance(wanted, bool) or not rule.enabled:
            continue
        for account in sorted({account for account, _ in left}):
            if rule.match.account not in {None, account}:
                continue
            held = [
                each
                for each in left.values()
                if each.account == account and abs(each.quantity) > SLACK
            ]
            fitting = [
                (leg, [each for each in held if _leg_fits(leg, rule.match, each)]) for leg in wanted
            ]
            if all(found for _, found in fitting):
                yield rule.id, account, fitting


def _leg_fits(leg: LegMatch, match: Match, position: Position) -> bool:
    contract = position.contract
    said = (
        (leg.con_id, contract.con_id),
        (leg.sec_type, contract.sec_type),
        (leg.right, contract.right),
        (leg.strike, contract.strike),
        (leg.expiration, contract.expiration),
    )
    symbol = leg.symbol if leg.symbol is not None else match.symbol
    return (
        all(wanted is None or wanted == found for wanted, found in said)
        and _symbol_fits(symbol, contract.symbol)
        and (position.quantity > 0) == (leg.side == "long")
    )


def fits(match: Match, holding: Holding) -> bool:
    """Whether a rule is for this holding."""
    if isinstance(match.combination, bool):
        if match.combination != holding.combination or holding.unclear:
            return False
    elif not _legs_fit(match.combination, match, holding):
        return False
    side = "long" if holding.direction > 0 else "short"
    if match.side is not None and not holding.direction_known:
        return False
    return (
        match.account in {None, holding.account}
        and match.side in {None, side}
        and (match.order_ref is None or _labelled(match.order_ref, holding.labels))
        and all(_contract_fits(match, leg.contract) for leg in holding.legs)
    )


def _contract_fits(match: Match, contract: Contract) -> bool:
    if not _symbol_fits(match.symbol, contract.symbol):
        return False
    if match.combination:
        return True  # its legs may differ in all the rest
    return (
        match.sec_type in {None, contract.sec_type}
        and match.right in {None, contract.right}
        and match.con_id in {None, contract.con_id}
    )


def _legs_fit(legs: tuple[LegMatch, ...], match: Match, holding: Holding) -> bool:
    if len(legs) != len(holding.legs):
        return False
    left = list(holding.legs)
    for wanted in legs:
        sign = 1.0 if wanted.side == "long" else -1.0
        for each in left:
            position = Position(
                account=holding.account, contract=each.contract, quantity=each.ratio,
                average_cost=None,
            )  # fmt: skip
            if each.ratio == sign * wanted.ratio and _leg_fits(wanted, match, position):
                left.remove(each)
                break
        else:
            return False
    return True


def _symbol_fits(wanted: str | tuple[str, ...] | None, symbol: str) -> bool:
    if wanted is None:
        return True
    names = (wanted,) if isinstance(wanted, str) else wanted
    return symbol.upper() in {name.upper() for name in names}


def _labelled(pattern: str, labels: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(label, pattern) for label in labels)


def _entry(position: Position) -> float | None:
    if not position.average_cost:  # zero is what the broker says of what came without a purchase
        return None
    return position.average_cost / multiplier_of(position.contract)


def _units(position: Position | None, ratio: float) -> float:
    if position is None or position.quantity * ratio <= 0:
        return 0.0
    return position.quantity / ratio + SLACK


def _first(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)


class Fill(Struct, frozen=True):
    """One execution, as far as it says what was opened together."""

    account: str
    order: str
    con_id: int
    quantity: float
    """Signed: bought above 0."""
    at: datetime
    labels: frozenset[str] = frozenset()
    """The order's reference at the broker, and the label that its client gave it."""
    price: float = 0.0


@dataclass(eq=False)
class _Lot:
    """What one order of several legs has opened: by contract, what of it is still held."""

    account: str
    ratios: dict[int, float]
    labels: frozenset[str]
    at: datetime
    left: dict[int, float] = field(default_factory=dict)

    @property
    def units(self) -> float:
        return max(0.0, min(self.left.get(each, 0.0) / by for each, by in self.ratios.items()))

    def lose(self, con_id: int, quantity: float) -> None:
        """Of one leg: as much of the others is held singly from now on."""
        self.left[con_id] = exact(self.left[con_id] - quantity)
        units = self.units
        self.left = {each: self.ratios[each] * units for each in self.left}


def opened_together(fills: Iterable[Fill], positions: Iterable[Position] = ()) -> list[Opening]:
    """The orders of which several contracts were filled, the newest first, as far as still held.

    What was closed since is opened by nobody any more, whoever holds the same contracts later. A
    fill takes first from what is held singly. Where the fills do not lead to `positions` (older or
    newer ones are missing), an order keeps what it may still have opened. After a split it has
    opened so many more: see `_splits`.
    """
    fills, positions = sorted(fills, key=lambda each: each.at), list(positions)
    splits = _splits(fills, positions)
    sizes = {(each.account, each.contract.con_id): each.quantity for each in positions}
    lots = _lots(fills)
    told: dict[tuple[str, int], float] = defaultdict(float)
    for fill in fills:
        told[fill.account, fill.con_id] += fill.quantity
    held = {place: [0.0, sizes.get(place, total) - total] for place, total in told.items()}
    claims: dict[tuple[str, int], list[_Lot]] = defaultdict(list)
    for fill in fills:
        place, own = (fill.account, fill.con_id), lots.get((fill.account, fill.order))
        before = held[place]
        after = held[place] = [exact(each + fill.quantity) for each in before]
        if own is not None and fill.con_id in own.ratios:
            pairs = zip(before, after, strict=True)
            opened = max((_opened(*each, fill.quantity) for each in pairs), key=abs)
            own.left[fill.con_id] = own.left.get(fill.con_id, 0.0) + opened
            if own not in claims[place]:
                claims[place].append(own)
        mirrored = None if own is None else {each: -by for each, by in own.ratios.items()}
        # Only those that have something of it left: there may have been thousands.
        claiming = [each for each in claims.get(place, ()) if each.left.get(fill.con_id)]
        claiming.sort(key=lambda each: (each.ratios != mirrored, each.at))
        for side in (1, -1):
            _release(claiming, fill.con_id, side, max(0.0, *(each * side for each in after)))
        if place in claims:
            claims[place] = claiming
    found = [
        Opening(each.account, each.ratios, each.units * factor, each.labels, each.at)
        for each in lots.values()
        if each.units > SLACK
        for factor in [_common_split(each, splits)]
    ]
    return sorted(found, key=lambda each: each.at or datetime.max, reverse=True)  # noqa: DTZ901


def _splits(fills: Iterable[Fill], positions: Iterable[Position]) -> dict[tuple[str, int], float]:
    """By what factor positions have grown without a fill, for the same money: they were split.

    What was bought elsewhere has cost something. Only for what was never closed in part.
    """
    groups: dict[tuple[str, int], list[Fill]] = defaultdict(list)
    for fill in fills:
        groups[fill.account, fill.con_id].append(fill)
    found = {}
    for each in positions:
        group = groups.get((each.account, each.contract.con_id), [])
        if not group or any(fill.quantity * each.quantity <= 0 for fill in group):
            continue
        size = sum(fill.quantity for fill in group)
        unit = multiplier_of(each.contract)
        cost = sum(fill.quantity * fill.price for fill in group) * unit
        off = abs(each.quantity * (each.average_cost or 0.0) - cost)
        if abs(each.quantity - size) > SLACK and off <= abs(cost) / 10 + abs(size) * _COMMISSION:
            found[each.account, each.contract.con_id] = each.quantity / size
    return found


def _common_split(lot: _Lot, splits: Mapping[tuple[str, int], float]) -> float:
    factors = [splits.get((lot.account, con_id), 1.0) for con_id in lot.ratios]
    return factors[0] if max(factors) - min(factors) <= SLACK else 1.0


def _lots(fills: Iterable[Fill]) -> dict[tuple[str, str], _Lot]:
    """By account and order; those of several contracts."""
    orders: dict[tuple[str, str], list[Fill]] = defaultdict(list)
    for fill in fills:
        orders[fill.account, fill.order].append(fill)
    found = {}
    for order, group in orders.items():
        totals: dict[int, float] = defaultdict(float)
        for fill in group:
            totals[fill.con_id] += fill.quantity
        net = {con_id: total for con_id, total in totals.items() if abs(total) > SLACK}
        if len(net) > 1:
            units = _common(net.values())
            ratios = {con_id: total / units for con_id, total in net.items()}
            labels = frozenset[str]().union(*(fill.labels for fill in group))
            found[order] = _Lot(order[0], ratios, labels, min(fill.at for fill in group))
    return found


def _opened(before: float, after: float, quantity: float) -> float:
    """What of a fill has opened, signed: the rest has closed what was held."""
    if before * quantity >= 0:
        return quantity
    return after if after * quantity > 0 else 0.0


def _release(lots: Iterable[_Lot], con_id: int, side: int, most: float) -> None:
    """No more of a leg on this side was opened by these than is held; the first lose first."""
    claims = [each for each in lots if each.left.get(con_id, 0.0) * side > SLACK]
    excess = sum(abs(each.left[con_id]) for each in claims) - most
    for each in claims:
        if excess <= SLACK:
            return
        lost = min(excess, abs(each.left[con_id]))
        excess -= lost
        each.lose(con_id, side * lost)


class Opened(Struct, frozen=True, kw_only=True):
    """How single positions were opened, by account and contract.

    `certain` is `since` where the fills account for all that is held: none of them is missing, so
    there was nothing before.
    """

    labels: dict[tuple[str, int], frozenset[str]] = {}
    since: dict[tuple[str, int], datetime] = {}
    certain: dict[tuple[str, int], datetime] = {}


def opened_by(fills: Iterable[Fill], positions: Iterable[Position]) -> Opened:
    """Of each single position: the labels of the orders that opened it, and since when it is held.

    `fills` are the oldest first. What happened before the position was last closed does not count,
    and where they lead to the other side than `positions`, the beginning is missing: nothing is
    known then. Else one that several orders have made larger has the labels of all of them, but
    for those of several contracts: what is left beside a combination is not theirs.
    """
    fills = list(fills)
    contracts: dict[tuple[str, str], set[int]] = defaultdict(set)
    for fill in fills:
        contracts[fill.account, fill.order].add(fill.con_id)
    sizes = {(each.account, each.contract.con_id): each.quantity for each in positions}
    held: dict[tuple[str, int], float] = defaultdict(float)
    labels: dict[tuple[str, int], set[str]] = defaultdict(set)
    since: dict[tuple[str, int], datetime] = {}
    for fill in fills:
        place = (fill.account, fill.con_id)
        before, held[place] = held[place], held[place] + fill.quantity
        if abs(held[place]) <= SLACK:
            labels.pop(place, None)
            since.pop(place, None)
            continue
        if abs(before) <= SLACK or before * held[place] < 0:
            labels[place], since[place] = set(), fill.at
        alone = len(contracts[fill.account, fill.order]) == 1
        if alone and fill.quantity * held[place] > 0:
            labels[place] |= fill.labels
    known = [place for place in since if sizes.get(place, 0.0) * held[place] > 0]
    return Opened(
        labels={place: frozenset(labels[place]) for place in known},
        since={place: since[place] for place in known},
        certain={
            place: since[place] for place in known if abs(sizes[place] - held[place]) <= SLACK
        },
    )


def _common(quantities: Iterable[float]) -> float:
    """The largest whole number that divides all of them; 1 where they are not whole."""
    values = [abs(each) for each in quantities]
    if any(abs(each - round(each)) > SLACK for each in values):
        return 1.0
    return float(math.gcd(*(round(each) for each in values)))
