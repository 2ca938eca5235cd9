"""What a combination trades at, from the quotes of its legs; nothing is ordered."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct

from bridge.callers import Holder
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.market.contracts import ContractService, contract_of, options_kind
from bridge.market.errors import InvalidFieldError
from bridge.market.quote_values import QuoteValue, Tag
from bridge.market.quotes import QuoteService, failed_quote
from bridge.market.views import FailedQuote, Quote
from bridge.model import Contract, ContractDetails
from bridge.orders.combination import details_of, explained, net_price, problems
from bridge.orders.request import ComboLegRequest, OrderRequest
from bridge.orders.risk_context import PricedLeg, Reference, multiplier
from bridge.tws.gateway import Gateway

_TAGS: Final[tuple[Tag, ...]] = ("live", "frozen", "delayed", "stale")
_ACTION = r"(?P<action>BUY|SELL)"
_RATIO = r"(?::(?P<ratio>[1-9][0-9]{0,2}))?"
_BY_NUMBER: Final = re.compile(rf"{_ACTION}:(?P<con_id>[1-9][0-9]{{0,9}}){_RATIO}")
_BY_PARTS: Final = re.compile(
    rf"{_ACTION}:(?P<expiration>[0-9]{{8}}):(?P<strike>[0-9]+(?:\.[0-9]+)?):(?P<right>[CP]){_RATIO}"
)


class QuotedLeg(Struct, rename="camel", frozen=True, kw_only=True):
    """A leg with the quote that counted: what a `BUY` of the whole buys is priced at its ask."""

    action: Literal["BUY", "SELL"]
    ratio: int
    con_id: int
    quote: Quote


class CombinationQuote(Struct, rename="camel", frozen=True, kw_only=True):
    """A net quote of a combination, of one unit, as a price.

    `ask` is what a `BUY` of the whole pays now, `bid` what a `SELL` brings, each below zero the
    other way round: a `BUY` at -1.20 receives 1.20. Null when a leg's side is not known. `tag` is
    that of the worst of the legs' prices, `age` the oldest's in seconds; greeks are for one unit,
    by its ratios.
    """

    symbol: str
    currency: str
    multiplier: float
    bid: float | None
    ask: float | None
    mid: float | None
    to_buy: str | None
    to_sell: str | None
    tag: Tag | None
    age: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    legs: tuple[QuotedLeg, ...]
    failed: tuple[FailedQuote, ...]
    at: datetime


@dataclass(kw_only=True, eq=False)
class CombinationQuotes:
    """Quotes combinations by their legs."""

    gateway: Gateway
    contracts: ContractService
    quotes: QuoteService
    clock: Clock

    async def quote(
        self, underlying: Contract, texts: tuple[str, ...], holder: Holder
    ) -> CombinationQuote:
        """The net quote of legs as `legs_of` reads them.

        Raises:
            InvalidFieldError: the legs are no combination.
            UnknownContractError, AmbiguousContractError: not exactly one contract is a leg.
            NotConnectedError: there is no session.
        """
        self.gateway.require_ready()
        legs = legs_of(texts, underlying)
        found = await asyncio.gather(*(self.contracts.named(contract_of(leg)) for leg in legs))
        request = OrderRequest(
            symbol=underlying.symbol or found[0].contract.symbol,
            sec_type="BAG",
            action="BUY",
            order_type="LMT",
            legs=legs,
        )
        for problem in problems(request, found):
            raise InvalidFieldError("legs", problem.message)
        whole = details_of(request, found).contract
        answers = await asyncio.gather(*(self._one(each, holder) for each in found))
        quoted = [each for each in answers if isinstance(each, Quote)]
        priced = [
            _priced(leg, details, answer if isinstance(answer, Quote) else None)
            for leg, details, answer in zip(legs, found, answers, strict=True)
        ]
        return CombinationQuote(
            symbol=whole.symbol,
            currency=whole.currency,
            multiplier=multiplier(whole),
            **_prices(whole, priced),
            **_quality(quoted),
            **_greeks(legs, found, answers, multiplier(whole)),
            legs=tuple(
                QuotedLeg(
                    action=leg.action,
                    ratio=leg.ratio,
                    con_id=details.contract.con_id,
                    quote=answer,
                )
                for leg, details, answer in zip(legs, found, answers, strict=True)
                if isinstance(answer, Quote)
            ),
            failed=tuple(each for each in answers if isinstance(each, FailedQuote)),
            at=self.clock.now(),
        )

    async def _one(self, details: ContractDetails, holder: Holder) -> Quote | FailedQuote:
        terms = self.contracts.terms(details)
        try:
            return await self.quotes.quote(details.contract, terms=terms, holder=holder)
        except BridgeError as error:
            return failed_quote(details.contract, error)


def legs_of(texts: tuple[str, ...], underlying: Contract) -> tuple[ComboLegRequest, ...]:
    """Legs from `SELL:20271217:590:C` or `BUY:123456`, with `:2` behind it for a ratio of 2.

    Raises:
        InvalidFieldError: one cannot be read, or they are not two to four.
    """
    if not 2 <= len(texts) <= 4:
        raise InvalidFieldError("legs", "a combination has two to four legs")
    legs = []
    for text in texts:
        found = _BY_PARTS.fullmatch(text) or _BY_NUMBER.fullmatch(text)
        if found is None:
            raise InvalidFieldError(
                "legs", f"{text[:40]!r} is no leg: ACTION:EXPIRATION:STRIKE:RIGHT or ACTION:CONID"
            )
        said: dict[str, Any] = found.groupdict()
        common = {"action": said["action"], "ratio": int(said["ratio"] or 1)}
        if "con_id" in said:
            legs.append(ComboLegRequest(con_id=int(said["con_id"]), **common))
            continue
        kind: Any = options_kind(underlying.sec_type)
        legs.append(
            ComboLegRequest(
                symbol=underlying.symbol,
                sec_type=kind,
                currency=underlying.currency,
                expiration=said["expiration"],
                strike=float(said["strike"]),
                right=said["right"],
                **common,
            )
        )
    return tuple(legs)


def _priced(leg: ComboLegRequest, details: ContractDetails, quote: Quote | None) -> PricedLeg:
    reference = None
    if quote is not None:
        reference = Reference(bid=_number(quote.bid), ask=_number(quote.ask), signed=True)
    sign = 1 if leg.action == "BUY" else -1
    return PricedLeg(details=details, ratio=leg.ratio, sign=sign, reference=reference)


def _number(value: QuoteValue | None) -> float | None:
    known = value is not None and not isinstance(value.value, str)
    return value.value if known and value is not None else None  # type: ignore[return-value]


def _prices(whole: Contract, priced: list[PricedLeg]) -> dict[str, Any]:
    ask, bid = net_price(whole, priced, "BUY"), net_price(whole, priced, "SELL")
    units, money = multiplier(whole), whole.currency
    return {
        "bid": bid,
        "ask": ask,
        "mid": None if ask is None or bid is None else round((ask + bid) / 2, 6),
        "to_buy": None if ask is None else explained("BUY", ask, 1, units, money),
        "to_sell": None if bid is None else explained("SELL", bid, 1, units, money),
    }


def _quality(quoted: list[Quote]) -> dict[str, Any]:
    sides = [side for each in quoted for side in (each.bid, each.ask) if side is not None]
    return {
        "tag": max((side.tag for side in sides), key=_TAGS.index, default=None),
        "age": max((side.age for side in sides), default=None),
    }


def _greeks(
    legs: tuple[ComboLegRequest, ...],
    found: list[ContractDetails],
    answers: list[Quote | FailedQuote],
    units: float,
) -> dict[str, Any]:
    """Of one unit as a price counts; a share has a delta of 1. Null when a leg's are not known."""
    sums: dict[str, Any] = {}
    for name in ("delta", "gamma", "theta", "vega"):
        total: float | None = 0.0
        for leg, details, answer in zip(legs, found, answers, strict=True):
            each: float | None = 1.0 if name == "delta" else 0.0
            if details.contract.right:
                value = getattr(answer, name) if isinstance(answer, Quote) else None
                each = _number(value)
            if each is None or total is None:
                total = None
                break
            weight = leg.ratio * multiplier(details.contract) / units
            total += each * weight * (1 if leg.action == "BUY" else -1)
        sums[name] = None if total is None else round(total, 6)
    return sums
