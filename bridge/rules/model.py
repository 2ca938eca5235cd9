"""A rule as a person writes it, and all that can be wrong with it.

One shape for the API (camelCase) and for `rules:` in stack.yaml (snake_case); `read` takes both.

Money is in the contract's currency and counts the multiplier, a price does not. Percent is of what
was paid or, for a position that was opened for a credit, of that credit.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, structs

from bridge.errors import InvalidRequestError
from bridge.model import Right

Mode = Literal["simulate", "trade"]
Side = Literal["long", "short"]
MOST_RULES: Final = 200

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Symbol = Annotated[str, Meta(min_length=1, max_length=32)]
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
Clock = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""Wider than `_CLOCK`: what an earlier release took and kept keeps no bridge from starting."""
Positive = Annotated[float, Meta(gt=0)]
Percent = Annotated[float, Meta(gt=0, le=100)]


class RulesInvalidError(InvalidRequestError):
    """A set of rules cannot be used; nothing of it is."""

    code = "rules-invalid"
    next_step = "docs/position-manager.md has every name with an example"


class _Part(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class LegMatch(_Part, frozen=True, kw_only=True):
    """One leg of a combination; what is left out fits everything."""

    side: Side
    ratio: Annotated[int, Meta(ge=1, le=1000)] = 1
    symbol: Symbol | None = None
    sec_type: str | None = None
    right: Right | None = None
    strike: float | None = None
    expiration: str | None = None
    con_id: int | None = None


class Match(_Part, frozen=True, kw_only=True):
    """Which positions a rule is for: everything that is said has to fit.

    `combination`: true for what was opened as one order of several legs, or the legs themselves.
    Without it a rule is for single positions only, never for one leg of a combination.
    """

    symbol: Symbol | tuple[Symbol, ...] | None = None
    sec_type: str | None = None
    side: Side | None = None
    right: Right | None = None
    account: str | None = None
    order_ref: str | None = None
    con_id: int | None = None
    combination: bool | Annotated[tuple[LegMatch, ...], Meta(min_length=2, max_length=8)] = False


class Threshold(_Part, frozen=True, kw_only=True):
    """One of: percent of the entry, money, the price, a multiple of the credit received."""

    percent: Positive | None = None
    amount: Positive | None = None
    price: float | None = None
    of_credit: Positive | None = None


class Trailing(_Part, frozen=True, kw_only=True):
    """How far the best price may be given back: percent of that price, or money.

    `armedAt`: the profit (percent of the entry, or money) from which on it holds; without it from
    the beginning.
    """

    percent: Percent | None = None
    amount: Positive | None = None
    armed_at: Positive | None = None


class Closing(_Part, frozen=True, kw_only=True):
    """How a position is closed.

    A limit begins at the middle of bid and ask and goes in `steps` to the other side, one in
    `stepSeconds`, never further than `boundPercent` from the middle that it began at.
    """

    order: Literal["limit", "market"] = "limit"
    steps: Annotated[int, Meta(ge=1, le=50)] = 5
    step_seconds: Annotated[float, Meta(ge=1, le=600)] = 5.0
    bound_percent: Percent = 10.0


class Rule(_Part, frozen=True, kw_only=True):
    """One rule: for the positions that `match` names, the first trigger that is met closes them."""

    id: Id
    match: Match
    mode: Mode | None = None
    enabled: bool = True
    take_profit: Threshold | None = None
    stop_loss: Threshold | None = None
    trailing: Trailing | None = None
    days_to_expiration: Annotated[int, Meta(ge=0, le=3650)] | None = None
    at: Clock | None = None
    minutes_before_close: Annotated[int, Meta(ge=1, le=1440)] | None = None
    max_holding_days: Annotated[int, Meta(ge=0, le=3650)] | None = None
    underlying_above: Positive | None = None
    underlying_below: Positive | None = None
    close: Closing = Closing()
    allow_quotes: tuple[Literal["delayed", "frozen", "stale"], ...] = ()
    max_spread_percent: Positive = 50.0
    outside_rth: bool = False
    protect: Literal["none", "broker"] = "none"


TRIGGERS: Final = (
    "stop_loss",
    "trailing",
    "take_profit",
    "underlying_below",
    "underlying_above",
    "days_to_expiration",
    "minutes_before_close",
    "at",
    "max_holding_days",
)
"""The members of which one closes, in the order in which they are looked at."""


class RuleSet(_Part, frozen=True, kw_only=True):
    """Rules, and the mode for all: `simulate` holds for every rule whatever it says itself."""

    rules: tuple[Rule, ...] = ()
    mode: Mode | None = None

    def mode_of(self, rule: Rule) -> Mode:
        """What a rule does; nothing said is `simulate`."""
        if self.mode == "simulate":
            return "simulate"
        return rule.mode or self.mode or "simulate"


def together(*sets: RuleSet) -> RuleSet:
    """Several sets as one: each rule's mode is that of its own set, but for `simulate` of any."""
    rules = (structs.replace(each, mode=one.mode_of(each)) for one in sets for each in one.rules)
    simulate = any(one.mode == "simulate" for one in sets)
    return RuleSet(rules=tuple(rules), mode="simulate" if simulate else None)


def wording(rule: Rule, mode: Mode) -> str:
    """A digest of all that a rule says and does: the same as long as nobody changes it.

    What is left at its default is no part of it, so a member that a later release adds changes
    nothing.
    """
    text = msgspec.json.encode(
        [mode, _words(structs.replace(rule, mode=None))], order="deterministic"
    )
    return hashlib.sha256(text).hexdigest()[:16]


def _words(value: Any) -> Any:
    if isinstance(value, Struct):
        given = ((each.name, getattr(value, each.name), each) for each in structs.fields(value))
        return {name: _words(member) for name, member, each in given if member != each.default}
    return [_words(each) for each in value] if isinstance(value, tuple) else value


def read(content: Any) -> RuleSet:
    """The rules in what a file or a request holds: `{rules: [...], mode}`, or the list alone.

    Names may be written as in the API or as in stack.yaml.

    Raises:
        RulesInvalidError: something is wrong; the text says where and what.
    """
    if isinstance(content, list | tuple):
        content = {"rules": content}
    if isinstance(content, dict) and "rules_mode" in content:
        content = {("mode" if name == "rules_mode" else name): content[name] for name in content}
    try:
        found = msgspec.convert(camel(content), RuleSet)
    except msgspec.ValidationError as error:
        raise RulesInvalidError(_placed(str(error), content)) from None
    check(found)
    return found


def check(found: RuleSet) -> None:
    """What the shape alone does not say.

    Raises:
        RulesInvalidError: the first thing that is wrong.
    """
    if len(found.rules) > MOST_RULES:
        raise RulesInvalidError(f"{len(found.rules)} rules are more than {MOST_RULES}")
    seen: set[str] = set()
    for rule in found.rules:
        if rule.id in seen:
            raise RulesInvalidError(f"two rules are named {rule.id}")
        seen.add(rule.id)
        for problem in _problems(rule):
            raise RulesInvalidError(f"rule {rule.id}: {problem}")


def _problems(rule: Rule) -> Iterator[str]:
    if rule.id.endswith("\n"):  # a pattern lets it pass at the end
        yield "its id ends with a line break"
    if rule.at is not None and not _CLOCK.fullmatch(rule.at):
        yield f"at is no time such as 15:30: {rule.at!r}"
    if rule.match == Match():
        yield "match names nothing; say at least one of symbol, secType, account, …"
    yield from _match_problems(rule.match)
    yield from (f"{name} is no finite number" for name in _endless(rule))
    if all(getattr(rule, name) is None for name in TRIGGERS):
        yield "it has no trigger such as takeProfit or daysToExpiration"
    for name, threshold in (("takeProfit", rule.take_profit), ("stopLoss", rule.stop_loss)):
        if threshold is not None and _said(threshold) != 1:
            yield f"{name} takes one of percent, amount, price, ofCredit"
    if rule.trailing is not None and (rule.trailing.percent is None) == (
        rule.trailing.amount is None
    ):
        yield "trailing takes one of percent, amount"
    yield from _protection_problems(rule)


def _match_problems(match: Match) -> Iterator[str]:
    """What no position ever fits, so that the rule would do nothing in silence."""
    legs = () if isinstance(match.combination, bool) else match.combination
    parts: tuple[Match | LegMatch, ...] = (match, *legs)
    for part in parts:
        for name in structs.fields(part):
            if getattr(part, name.name) in {"", ()}:
                yield f"match.{name.encode_name} is empty"
        if part.sec_type is not None and part.sec_type != part.sec_type.upper():
            yield f"secType is written in capitals: {part.sec_type.upper()}"
    for leg in legs:
        if leg.expiration is not None and not re.fullmatch(r"\d{8}", leg.expiration):
            yield f"expiration {leg.expiration} is no day such as 20260619"


def _endless(value: Any, name: str = "") -> Iterator[str]:
    """The names of numbers that are none (.nan, .inf): nothing ever reaches them."""
    if isinstance(value, Struct):
        for each in structs.fields(value):
            yield from _endless(getattr(value, each.name), each.encode_name)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name


def _protection_problems(rule: Rule) -> Iterator[str]:
    if rule.protect == "none":
        return
    if rule.stop_loss is None and rule.trailing is None:
        yield "protect: broker needs stopLoss or trailing, which say where the stop is"
    if rule.match.combination:
        yield "protect: broker is for single positions: the broker has no stop on a combination"


def _said(threshold: Threshold) -> int:
    return sum(getattr(threshold, name) is not None for name in threshold.__struct_fields__)


def stack_schema() -> dict[str, Any]:
    """The JSON schema of `rules:` in stack.yaml, without references, in its names."""
    (schema,), components = msgspec.json.schema_components(
        (tuple[Rule, ...],), ref_template="{name}"
    )
    found: dict[str, Any] = _inlined(schema, components)
    return found


def _inlined(value: Any, components: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inlined(each, components) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inlined(components[value["$ref"]], components)
    made = {name: _inlined(each, components) for name, each in value.items()}
    if "properties" in made:
        made["properties"] = {_snake(name): each for name, each in made["properties"].items()}
        made["required"] = [_snake(name) for name in made.get("required", ())]
    return made


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


_SNAKE: Final = re.compile(r"_([a-z])")


def camel(value: Any) -> Any:
    """A file's content with the names of stack.yaml turned into those of the API."""
    if isinstance(value, dict):
        return {
            _SNAKE.sub(lambda found: found[1].upper(), name) if isinstance(name, str) else name: (
                camel(each)
            )
            for name, each in value.items()
        }
    return [camel(each) for each in value] if isinstance(value, list | tuple) else value


_PLACE: Final = re.compile(r" - at `\$\.rules\[(\d+)\]\.?([^`]*)`$")


def _placed(problem: str, content: Any) -> str:
    """The problem with the rule's name instead of its number, where it has one."""
    found = _PLACE.search(problem)
    if found is None:
        return problem.replace("`$.", "`").replace("`$`", "the top")
    try:
        name = content["rules"][int(found[1])]["id"]
    except (KeyError, TypeError, IndexError):
        name = f"number {int(found[1]) + 1}"
    where = f"{found[2]}: " if found[2] else ""
    return f"rule {name}: {where}{problem[: found.start()]}"
