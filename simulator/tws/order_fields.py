"""The fields of placeOrder, openOrder and completedOrder, by negotiated server version.

Source of order and versions: the official client's `placeOrder` and `OrderDecoder`, checked by
the conformance suite against five independent clients. A table is a tuple of steps; `read` takes
a request apart along it and `write` puts a message together, both through the same rules.
Everything is text, under the API's own names, so what a client sent comes back as it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.tws.wire import MalformedError

if TYPE_CHECKING:
    from simulator.trading.terms import Rows, Values

Test = Callable[["Values"], bool]
ALWAYS = 10_000
UNSET = "1.7976931348623157E308"
NO_INTEGER = "2147483647"
UNSET_WORDS = frozenset({"", UNSET, UNSET.lower(), "1.7976931348623157e+308", NO_INTEGER})
"""The ways in which clients write that a field is not set."""


def _names(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_ZEROS = _names(
    "origin clientId permId outsideRth hidden discretionaryAmt shortSaleSlot auctionStrategy "
    "blockOrder sweepToFill allOrNone ocaType eTradeOnly firmQuoteOnly parentId triggerMethod "
    "volatilityType deltaNeutralConId deltaNeutralShortSale deltaNeutralShortSaleSlot "
    "continuousUpdate referencePriceType optOutSmartRouting notHeld deltaNeutralContract "
    "solicited whatIf randomizeSize randomizePrice adjustableTrailingUnit "
    "dontUseAutoPriceForHedge isOmsContainer discretionaryUpToLimitPrice usePriceMgmtAlgo "
    "refFuturesConId autoCancelParent imbalanceOnly routeMarketableToBbo parentPermId "
    "conditionsIgnoreRth conditionsCancelOrder filledQuantity"
)
_UNSET_PRICES = _names(
    "initMarginBefore maintMarginBefore equityWithLoanBefore initMarginChange maintMarginChange "
    "equityWithLoanChange initMarginAfter maintMarginAfter equityWithLoanAfter triggerPrice "
    "lmtPriceOffset adjustedStopPrice adjustedStopLimitPrice adjustedTrailingAmount"
)
UNSET_TEXT: Mapping[str, str] = {
    **dict.fromkeys(_ZEROS, "0"),
    **dict.fromkeys(_names("strike lmtPrice auxPrice cashQty"), "0.0"),
    **dict.fromkeys(_UNSET_PRICES, UNSET),
    **dict.fromkeys(_names("displaySize duration postToAts"), NO_INTEGER),
    "right": "?",
    "exemptCode": "-1",
    "clearingIntent": "IB",
    "deltaNeutralOrderType": "None",
    "adjustedOrderType": "None",
    "deltaNeutralOpenClose": "?",
}
"""What a gateway writes for a field that nobody set; an empty field where nothing stands here."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Single fields, present from version `since` up to, not including, `until`."""

    names: tuple[str, ...]
    since: int = 0
    until: int = ALWAYS
    when: Test | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A count and that many rows of these columns."""

    name: str
    columns: tuple[str, ...]
    when: Test | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """A count, that many conditions whose columns depend on their type, and two flags."""

    since: int = 102
    until: int = ALWAYS
    when: Test | None = None


Step = Fields | Group | Conditions
CONDITION_COLUMNS = {"1": 6, "3": 3, "4": 3, "5": 4, "6": 5, "7": 5}


def _fields(names: str, since: int = 0, until: int = ALWAYS, when: Test | None = None) -> Fields:
    return Fields(_names(names), since, until, when)


def _is(name: str, *wanted: str) -> Test:
    return lambda values: values.get(name) in wanted


def _has(name: str) -> Test:
    return lambda values: bool(values.get(name))


def _scaled(values: Values) -> bool:
    increment = values.get("scalePriceIncrement")
    return isinstance(increment, str) and increment not in {"", "0", "0.0", UNSET, UNSET.lower()}


def _up_to_middle(values: Values) -> bool:
    return str(values.get("competeAgainstBestOffset", "")).lower() in {"infinity", "inf"}


_is_bag = _is("secType", "BAG")
_pegs_benchmark = _is("orderType", "PEG BENCH", "PEGBENCH")
_pegs_best = _is("orderType", "PEG BEST", "PEGBEST")
_pegs_middle = _is("orderType", "PEG MID", "PEGMID")
_hedged = _has("deltaNeutralOrderType")

_LEGS = _names("conId ratio action exchange openClose shortSaleSlot designatedLocation exemptCode")
_PAIR = ("tag", "value")
_SCALE = _fields(
    "scalePriceAdjustValue scalePriceAdjustInterval scaleProfitOffset scaleAutoReset "
    "scaleInitPosition scaleInitFillQty scaleRandomPercent",
    when=_scaled,
)
_BENCHMARK = _fields(
    "referenceContractId isPeggedChangeAmountDecrease peggedChangeAmount "
    "referenceChangeAmount referenceExchangeId",
    since=102,
    when=_pegs_benchmark,
)
_DELTA_NEUTRAL = _fields(
    "deltaNeutralContractConId deltaNeutralContractDelta deltaNeutralContractPrice",
    when=_is("deltaNeutralContract", "1", "true"),
)
_ALGORITHM = (
    _fields("algoStrategy"),
    Group("algoParams", _PAIR, when=_has("algoStrategy")),
)
_COMBINATION = (
    Group("comboLegs", _LEGS),
    Group("orderComboLegs", ("price",)),
    Group("smartComboRoutingParams", _PAIR),
)

PLACE_ORDER: tuple[Step, ...] = (
    _fields("version", until=145),
    _fields(
        "orderId conId symbol secType lastTradeDateOrContractMonth strike right multiplier "
        "exchange primaryExchange currency localSymbol tradingClass secIdType secId "
        "action totalQuantity orderType lmtPrice auxPrice tif ocaGroup account openClose origin "
        "orderRef transmit parentId blockOrder sweepToFill displaySize triggerMethod outsideRth "
        "hidden"
    ),
    *(Group(each.name, each.columns, when=_is_bag) for each in _COMBINATION),
    _fields(
        "sharesAllocation discretionaryAmt goodAfterTime goodTillDate faGroup faMethod faPercentage"
    ),
    _fields("faProfile", until=177),
    _fields("modelCode", since=103),
    _fields(
        "shortSaleSlot designatedLocation exemptCode ocaType rule80A settlingFirm allOrNone "
        "minQty percentOffset eTradeOnly firmQuoteOnly nbboPriceCap auctionStrategy startingPrice "
        "stockRefPrice delta stockRangeLower stockRangeUpper overridePercentageConstraints "
        "volatility volatilityType deltaNeutralOrderType deltaNeutralAuxPrice"
    ),
    _fields(
        "deltaNeutralConId deltaNeutralSettlingFirm deltaNeutralClearingAccount "
        "deltaNeutralClearingIntent deltaNeutralOpenClose deltaNeutralShortSale "
        "deltaNeutralShortSaleSlot deltaNeutralDesignatedLocation",
        when=_hedged,
    ),
    _fields(
        "continuousUpdate referencePriceType trailStopPrice trailingPercent scaleInitLevelSize "
        "scaleSubsLevelSize scalePriceIncrement"
    ),
    _SCALE,
    _fields("scaleTable activeStartTime activeStopTime hedgeType"),
    _fields("hedgeParam", when=_has("hedgeType")),
    _fields("optOutSmartRouting clearingAccount clearingIntent notHeld deltaNeutralContract"),
    _DELTA_NEUTRAL,
    *_ALGORITHM,
    _fields("algoId whatIf orderMiscOptions solicited randomizeSize randomizePrice"),
    _BENCHMARK,
    Conditions(),
    _fields(
        "adjustedOrderType triggerPrice lmtPriceOffset adjustedStopPrice adjustedStopLimitPrice "
        "adjustedTrailingAmount adjustableTrailingUnit",
        since=102,
    ),
    _fields("extOperator", since=105),
    _fields("softDollarTierName softDollarTierValue", since=106),
    _fields("cashQty", since=111),
    _fields("mifid2DecisionMaker mifid2DecisionAlgo", since=138),
    _fields("mifid2ExecutionTrader mifid2ExecutionAlgo", since=139),
    _fields("dontUseAutoPriceForHedge", since=141),
    _fields("isOmsContainer", since=145),
    _fields("discretionaryUpToLimitPrice", since=148),
    _fields("usePriceMgmtAlgo", since=151),
    _fields("duration", since=158),
    _fields("postToAts", since=160),
    _fields("autoCancelParent", since=162),
    _fields("advancedErrorOverride", since=166),
    _fields("manualOrderTime", since=169),
    _fields("minTradeQty", since=170, when=_is("exchange", "IBKRATS")),
    _fields("minCompeteSize competeAgainstBestOffset", since=170, when=_pegs_best),
    _fields(
        "midOffsetAtWhole midOffsetAtHalf",
        since=170,
        when=lambda values: _pegs_middle(values) or (_pegs_best(values) and _up_to_middle(values)),
    ),
)

_CONTRACT = _fields(
    "conId symbol secType lastTradeDateOrContractMonth strike right multiplier exchange currency "
    "localSymbol tradingClass"
)
_ADVISOR = (
    _fields("faGroup faMethod faPercentage"),
    _fields("faProfile", until=177),
    _fields("modelCode", since=103),
)
_PEGGED_TAIL = _fields(
    "minTradeQty minCompeteSize competeAgainstBestOffset midOffsetAtWhole midOffsetAtHalf",
    since=170,
)

OPEN_ORDER: tuple[Step, ...] = (
    _fields("version", until=145),
    _fields("orderId"),
    _CONTRACT,
    _fields(
        "action totalQuantity orderType lmtPrice auxPrice tif ocaGroup account openClose origin "
        "orderRef clientId permId outsideRth hidden discretionaryAmt goodAfterTime "
        "sharesAllocation"
    ),
    *_ADVISOR,
    _fields(
        "goodTillDate rule80A percentOffset settlingFirm shortSaleSlot designatedLocation "
        "exemptCode auctionStrategy startingPrice stockRefPrice delta stockRangeLower "
        "stockRangeUpper displaySize blockOrder sweepToFill allOrNone minQty ocaType eTradeOnly "
        "firmQuoteOnly nbboPriceCap parentId triggerMethod volatility volatilityType "
        "deltaNeutralOrderType deltaNeutralAuxPrice"
    ),
    _fields(
        "deltaNeutralConId deltaNeutralSettlingFirm deltaNeutralClearingAccount "
        "deltaNeutralClearingIntent deltaNeutralOpenClose deltaNeutralShortSale "
        "deltaNeutralShortSaleSlot deltaNeutralDesignatedLocation",
        when=_hedged,
    ),
    _fields(
        "continuousUpdate referencePriceType trailStopPrice trailingPercent basisPoints "
        "basisPointsType comboLegsDescrip"
    ),
    *_COMBINATION,
    _fields("scaleInitLevelSize scaleSubsLevelSize scalePriceIncrement"),
    _SCALE,
    _fields("hedgeType"),
    _fields("hedgeParam", when=_has("hedgeType")),
    _fields("optOutSmartRouting clearingAccount clearingIntent notHeld deltaNeutralContract"),
    _DELTA_NEUTRAL,
    *_ALGORITHM,
    _fields("solicited whatIf status"),
    _fields(
        "initMarginBefore maintMarginBefore equityWithLoanBefore initMarginChange "
        "maintMarginChange equityWithLoanChange",
        since=142,
    ),
    _fields(
        "initMarginAfter maintMarginAfter equityWithLoanAfter commission minCommission "
        "maxCommission commissionCurrency warningText randomizeSize randomizePrice"
    ),
    _BENCHMARK,
    Conditions(),
    _fields(
        "adjustedOrderType triggerPrice trailStopPrice lmtPriceOffset adjustedStopPrice "
        "adjustedStopLimitPrice adjustedTrailingAmount adjustableTrailingUnit",
        since=102,
    ),
    _fields("softDollarTierName softDollarTierValue softDollarTierDisplayName", since=106),
    _fields("cashQty", since=111),
    _fields("dontUseAutoPriceForHedge", since=141),
    _fields("isOmsContainer", since=145),
    _fields("discretionaryUpToLimitPrice", since=148),
    _fields("usePriceMgmtAlgo", since=151),
    _fields("duration", since=158),
    _fields("postToAts", since=160),
    _fields("autoCancelParent", since=162),
    _PEGGED_TAIL,
)

COMPLETED_ORDER: tuple[Step, ...] = (
    _CONTRACT,
    _fields(
        "action totalQuantity orderType lmtPrice auxPrice tif ocaGroup account openClose origin "
        "orderRef permId outsideRth hidden discretionaryAmt goodAfterTime"
    ),
    *_ADVISOR,
    _fields(
        "goodTillDate rule80A percentOffset settlingFirm shortSaleSlot designatedLocation "
        "exemptCode startingPrice stockRefPrice delta stockRangeLower stockRangeUpper displaySize "
        "sweepToFill allOrNone minQty ocaType triggerMethod volatility volatilityType "
        "deltaNeutralOrderType deltaNeutralAuxPrice"
    ),
    _fields(
        "deltaNeutralConId deltaNeutralShortSale deltaNeutralShortSaleSlot "
        "deltaNeutralDesignatedLocation",
        when=_hedged,
    ),
    _fields("continuousUpdate referencePriceType trailStopPrice trailingPercent comboLegsDescrip"),
    *_COMBINATION,
    _fields("scaleInitLevelSize scaleSubsLevelSize scalePriceIncrement"),
    _SCALE,
    _fields("hedgeType"),
    _fields("hedgeParam", when=_has("hedgeType")),
    _fields("clearingAccount clearingIntent notHeld deltaNeutralContract"),
    _DELTA_NEUTRAL,
    *_ALGORITHM,
    _fields("solicited status randomizeSize randomizePrice"),
    _BENCHMARK,
    Conditions(),
    _fields("trailStopPrice lmtPriceOffset"),
    _fields("cashQty", since=111),
    _fields("dontUseAutoPriceForHedge", since=141),
    _fields("isOmsContainer", since=145),
    _fields(
        "autoCancelDate filledQuantity refFuturesConId autoCancelParent shareholder imbalanceOnly "
        "routeMarketableToBbo parentPermId completedTime completedStatus"
    ),
    _PEGGED_TAIL,
)


def read(table: tuple[Step, ...], take: Callable[[], str], version: int) -> dict[str, str | Rows]:
    """Take a message apart.

    Args:
        table: its steps.
        take: gives the next field, and raises when there is none.
        version: the negotiated server version.
    """
    values: dict[str, str | Rows] = {}
    for step in table:
        if step.when is not None and not step.when(values):
            continue
        match step:
            case Fields(names, since, until) if since <= version < until:
                values.update((name, take()) for name in names)
            case Group(name, columns):
                values[name] = [tuple(take() for _ in columns) for _ in range(_count(take()))]
            case Conditions(since) if version >= since:
                values["conditions"] = rows = _read_conditions(take)
                if rows:
                    values["conditionsIgnoreRth"] = take()
                    values["conditionsCancelOrder"] = take()
    return values


def given(values: Values) -> dict[str, str | Rows]:
    """What a client really set: without empty fields and those that say what an unset one does."""
    even = "lmtPrice" if _is_bag(values) else ""  # a combination may cost nothing
    return {
        name: value
        for name, value in values.items()
        if value and (not isinstance(value, str) or _is_set(name, value) or name == even)
    }


def _is_set(name: str, value: str) -> bool:
    return value not in UNSET_WORDS and value != UNSET_TEXT.get(name)


def write(table: tuple[Step, ...], values: Values, version: int) -> list[str]:
    """Put a message together from its values."""
    known = {**UNSET_TEXT, **values}
    fields: list[str] = []
    for step in table:
        if step.when is not None and not step.when(known):
            continue
        match step:
            case Fields(names, since, until) if since <= version < until:
                fields.extend(str(known.get(name, "")) for name in names)
            case Group(name):
                rows = _rows(known, name)
                fields.append(str(len(rows)))
                fields.extend(field for row in rows for field in row)
            case Conditions(since) if version >= since:
                rows = _rows(known, "conditions")
                fields.append(str(len(rows)))
                fields.extend(field for row in rows for field in row)
                if rows:
                    fields.append(str(known["conditionsIgnoreRth"]))
                    fields.append(str(known["conditionsCancelOrder"]))
    return fields


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count > 1000:
        raise MalformedError(f"{count} rows are too many")
    return count


def _read_conditions(take: Callable[[], str]) -> Rows:
    rows: Rows = []
    for _ in range(_count(take())):
        kind = take()
        if kind not in CONDITION_COLUMNS:
            raise MalformedError(f"unknown condition type {kind}")
        rows.append((kind, *(take() for _ in range(CONDITION_COLUMNS[kind]))))
    return rows


def _rows(values: Values, name: str) -> Rows:
    rows = values.get(name)
    return rows if isinstance(rows, list) else []
