"""Quotes whose every value says how good it is.

A value is `live`, `delayed` or `frozen` as the line that carried it, and `stale` from the moment
its line was interrupted until that very value ticks again: a bid from before a gap never passes for
a new one because the ask came back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from bridge.model import (
    Contract,
    MarketDataType,
    OptionTick,
    PriceTick,
    SizeTick,
    Tick,
    ValueTick,
)

Tag = Literal["live", "delayed", "frozen", "stale"]
Scalar = float | str

TAG_OF_KIND: Final[dict[MarketDataType, Tag]] = {
    MarketDataType.LIVE: "live",
    MarketDataType.FROZEN: "frozen",
    MarketDataType.DELAYED: "delayed",
    MarketDataType.DELAYED_FROZEN: "frozen",
}

_OPEN_INTEREST: Final = frozenset({"callOpenInterest", "putOpenInterest", "futuresOpenInterest"})
_SIZE_OF_PRICE: Final = {"bid": "bidSize", "ask": "askSize", "last": "lastSize"}


class QuoteValue(Struct, rename="camel", frozen=True):
    """One value, how good it is, and its age in seconds. A null value: the broker says none."""

    value: Scalar | None
    tag: Tag
    age: float


class _Held:
    """A value as it came."""

    __slots__ = ("at", "generation", "tag", "value")

    def __init__(self, value: Scalar | None, tag: Tag, at: float, generation: int) -> None:
        self.value = value
        self.tag = tag
        self.at = at
        self.generation = generation


MOST_FIELDS: Final = 160
"""Of one quote; the broker documents about a hundred kinds of ticks."""


class QuoteSlot:
    """What is known of one instrument's quote."""

    __slots__ = ("_generation", "_values", "contract", "kind", "updated")

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.kind = MarketDataType.LIVE
        self.updated: datetime | None = None
        self._values: dict[str, _Held] = {}
        self._generation = 0

    def tag(self, *, delayed: bool) -> Tag:
        """The tag of a value that comes now."""
        if delayed and self.kind is not MarketDataType.DELAYED_FROZEN:
            return "delayed"
        return TAG_OF_KIND[self.kind]

    def apply(self, tick: Tick, at: float, now: datetime) -> tuple[str, ...]:
        """Takes a tick in (`at` monotonic, `now` the wall clock); returns the fields it set."""
        fields = tick_fields(tick, self.contract)
        tag = self.tag(delayed=tick.delayed)
        for name, value in fields.items():
            if name not in self._values and len(self._values) >= MOST_FIELDS:
                continue
            self._values[name] = _Held(value, tag, at, self._generation)
        if fields:
            self.updated = now
        return tuple(fields)

    def interrupted(self) -> None:
        """Every value held is stale from now on."""
        self._generation += 1

    def fresh(self, name: str) -> bool:
        """Whether this field was set since the last interruption (to nothing counts too)."""
        held = self._values.get(name)
        return held is not None and held.generation == self._generation

    def heard_at(self) -> float:
        """When the last value came (monotonic); minus infinity: none has."""
        return max((held.at for held in self._values.values()), default=-math.inf)

    def came_back(self, names: Iterable[str]) -> bool:
        """Whether something was set since the last interruption, and all of these that are held."""
        held = (name for name in names if name in self._values)
        return bool(self.fresh_fields()) and all(self.fresh(name) for name in held)

    def fresh_fields(self) -> tuple[str, ...]:
        """The fields set since the last interruption."""
        return tuple(
            name for name, held in self._values.items() if held.generation == self._generation
        )

    def number(self, name: str) -> float | None:
        """A fresh, known, numeric value."""
        held = self._values.get(name)
        if held is None or held.generation != self._generation or isinstance(held.value, str):
            return None
        return held.value

    def view(self, at: float, names: Iterable[str] | None = None) -> dict[str, QuoteValue]:
        """The values (all, or those named) with tag and age at the monotonic time `at`."""
        chosen = self._values if names is None else names
        return {
            name: QuoteValue(
                held.value,
                held.tag if held.generation == self._generation else "stale",
                round(max(at - held.at, 0.0), 3),
            )
            for name in chosen
            if (held := self._values.get(name)) is not None
        }


def tick_fields(tick: Tick, contract: Contract) -> Mapping[str, Scalar | None]:
    """The quote fields that a tick sets; empty for ticks that no quote shows."""
    if isinstance(tick, PriceTick):
        return _price_fields(tick)
    if isinstance(tick, SizeTick):
        return _size_fields(tick, contract)
    if isinstance(tick, OptionTick):
        return _option_fields(tick)
    return _value_fields(tick)


def _price_fields(tick: PriceTick) -> dict[str, Scalar | None]:
    fields: dict[str, Scalar | None] = {tick.field: _number(tick.price)}
    size_field = _SIZE_OF_PRICE.get(tick.field)
    if size_field is not None and tick.size is not None:
        fields[size_field] = _number(tick.size)
    return fields


def _size_fields(tick: SizeTick, contract: Contract) -> dict[str, Scalar | None]:
    name = tick.field
    if name in _OPEN_INTEREST:
        # Both sides tick on every line; on an option's own line only its side means anything.
        own_side = contract.sec_type in {"OPT", "FOP"}
        if own_side and (name == "callOpenInterest") != (contract.right == "C"):
            return {}
        if contract.sec_type in {"OPT", "FUT", "FOP"}:
            name = "openInterest"
    return {name: _number(tick.size)}


def _option_fields(tick: OptionTick) -> dict[str, Scalar | None]:
    if tick.field == "modelOption":
        return {
            "impliedVolatility": _number(tick.implied_volatility),
            "delta": _number(tick.delta),
            "gamma": _number(tick.gamma),
            "vega": _number(tick.vega),
            "theta": _number(tick.theta),
            "modelPrice": _number(tick.option_price),
            "underlyingPrice": _number(tick.underlying_price),
        }
    if tick.field == "bidOption":
        return {"bidImpliedVolatility": _number(tick.implied_volatility)}
    if tick.field == "askOption":
        return {"askImpliedVolatility": _number(tick.implied_volatility)}
    return {}


def _value_fields(tick: ValueTick) -> dict[str, Scalar | None]:
    value = tick.value if isinstance(tick.value, str) else _number(tick.value)
    return {tick.field: value}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
