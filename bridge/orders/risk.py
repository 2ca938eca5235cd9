"""What is checked before an order is sent: pure functions over a `RiskContext`, each with its code.

All of them are asked, and everything they find is returned at once. docs/orders.md lists the codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from bridge.broker_time import days_left, exchange_zone, is_open
from bridge.model import ContractDetails
from bridge.orders.bracket_changes import fills_at, stop_of
from bridge.orders.combination import loss
from bridge.orders.contradictions import exits_beside
from bridge.orders.errors import Violation
from bridge.orders.legs import increment_at, is_multiple, on_tick, to_tick
from bridge.orders.order_types import (
    FIRST_TYPES,
    INSTRUCTIONS,
    KINDS,
    OPTIONS,
    kind_of_type,
    order_type,
)
from bridge.orders.risk_context import UNKNOWN_BASE, RiskContext, multiplier
from bridge.quantity import plain

_WITH_A_LIMIT: Final = {
    "MKT": "use LMT with a limitPrice",
    "STP": "use STP_LMT with a limitPrice, in a bracket stopLoss: {stopPrice, limitPrice}",
    "TRAIL": "use TRAIL_LMT with a limitOffset, in a bracket too",
    "MIT": "use LIT with a limitPrice",
    "MOC": "use LOC with a limitPrice",
    "MTL": "use LMT with a limitPrice",
}
"""What fills at no worse than a price, instead of each type that `fills_at_any_price` knows."""
_FIRST_WORDS: Final = frozenset(KINDS[each].announced for each in FIRST_TYPES)
_CONTRACTS: Final = frozenset({"OPT", "FUT", "FOP", "BAG"})
"""Kinds that are counted in contracts."""
_SETTLED_IN_CASH: Final = "IND"
"""What an option on it brings is money: no position in it is opened."""
_NEGATIVE: Final = frozenset({"FUT", "BAG"})
"""Kinds whose price may be below zero."""


def violations(contexts: Iterable[RiskContext]) -> list[Violation]:
    """Every rule that these orders (or changes) break; the same finding is listed once."""
    found: dict[Violation, None] = {}
    for context in contexts:
        for rule in ALWAYS if context.change else (*ALWAYS, *NEW_ONLY):
            if not _exempt(rule, context):
                found.update(dict.fromkeys(rule(context)))
    return list(found)


def _exempt(rule: Rule, context: RiskContext) -> bool:
    """What closes is bound by the position instead; a rule may not pay any price for an option.

    A change that only makes an order smaller adds nothing: it passes also what its key is bound to.
    """
    if context.shrinks and (rule in FOR_OPENING or rule is key_notional):
        return True
    if context.exercises and rule in OF_A_PRICE:
        return True
    if context.unattended and rule is market_order_on_option:
        return False
    return context.closes and rule in FOR_OPENING


# whether orders may go out at all, and for this account ------------------------------------------


def read_only(context: RiskContext) -> Iterator[Violation]:
    """`read-only`: this bridge sends no orders."""
    if context.rules.read_only:
        yield Violation("read-only", "this bridge is read-only (trading.read_only)")


def live_not_confirmed(context: RiskContext) -> Iterator[Violation]:
    """`live-not-confirmed`: a live account, where mode and `trading.live` do not both say so.

    Paper accounts' names begin with D (DU..., DF...); the login's mode alone is not trusted. Stored
    connection settings may lead a bridge for paper to a live gateway.
    """
    account, paper = context.order.account, context.trading_mode == "paper"
    live = not paper or not account.upper().startswith("D")
    if not live or not account or (context.rules.live and not paper):
        return
    why = "this bridge is for paper" if context.rules.live else "trading.live is not true"
    yield Violation("live-not-confirmed", f"account {account} is live, and {why}", field="account")


def account_allowed(context: RiskContext) -> Iterator[Violation]:
    """`account-required`, `account-unknown`, `account-not-allowed`."""
    named, allowed = context.order.account, context.rules.allow_accounts
    if not named:
        yield Violation(
            "account-required",
            f"name the account: this login manages {len(context.accounts)}",
            field="account",
        )
    elif named not in context.accounts:
        yield Violation(
            "account-unknown",
            f"this login does not manage account {named}",
            field="account",
            value=named,
        )
    elif allowed is not None and named not in allowed:
        yield Violation(
            "account-not-allowed",
            f"account {named} is not in trading.allow_accounts",
            field="account",
            value=named,
        )


# how far the key reaches (`apikey create --account … --symbols …`) --------------------------------


def key_account(context: RiskContext) -> Iterator[Violation]:
    """`key-account`: the key is bound to other accounts."""
    bound = context.bounds.accounts
    if bound and context.order.account not in bound:
        yield Violation(
            "key-account",
            f"this key does not trade account {context.order.account or '(none)'}",
            field="account",
            value=context.order.account,
            limit=" ".join(bound),
        )


def key_symbol(context: RiskContext) -> Iterator[Violation]:
    """`key-symbol`: the key is bound to other symbols."""
    bound, name = context.bounds.symbols, context.contract.symbol.upper()
    if bound and name not in bound:
        yield Violation("key-symbol", f"this key does not trade {name}", field="symbol", value=name)


def key_notional(context: RiskContext) -> Iterator[Violation]:
    """`key-max-notional`: also for an order whose worth nobody can tell now."""
    limit, amount = context.bounds.max_notional, context.base_notional
    if limit is None or context.closing or (amount is not None and amount <= limit):
        return
    worth = "an unknown amount" if amount is None else f"about {amount:,.2f}"
    yield Violation(
        "key-max-notional",
        f"the order is worth {worth} {context.money}, this key may order {limit:,.2f} at once",
        field="quantity",
        value=None if amount is None else round(amount, 2),
        limit=limit,
    )


def key_orders_of_the_day(context: RiskContext) -> Iterator[Violation]:
    """`key-max-orders-per-day`: what this key sent today, every leg of a bracket counted."""
    limit = context.bounds.max_orders_per_day
    if limit is not None and context.orders_of_key + context.new_orders > limit:
        yield Violation(
            "key-max-orders-per-day",
            f"this key sent {context.orders_of_key} orders today, it may send {limit}",
            value=context.orders_of_key,
            limit=limit,
        )


def oca_group(context: RiskContext) -> Iterator[Violation]:
    """`key-oca-group`, `invalid-field`: a group whose orders its own fill may not end, or not so.

    A fill of one order ends, or reduces, every other one of its OCA group.
    """
    name, kind = context.order.oca_group, context.order.oca_type
    members = [each for each in context.members if name and each.terms.oca_group == name]
    if any(not context.bounds.reaches(each.account, each.symbol) for each in members):
        yield Violation(
            "key-oca-group",
            "orders of this ocaGroup are beyond what this key reaches, and a fill would end them",
            field="ocaGroup",
            value=name,
        )
    other = next((each.terms.oca_type for each in members if each.terms.oca_type != kind), None)
    if other is not None:
        yield Violation(
            "invalid-field",
            f"orders of ocaGroup {name} work with ocaType {other}, this one would with {kind}",
            field="ocaGroup",
            value=name,
        )


# whether this instrument may be traded, and in this way -------------------------------------------


def security_type(context: RiskContext) -> Iterator[Violation]:
    """`sec-type-not-allowed`."""
    kinds = (context.contract.sec_type, *(each.details.contract.sec_type for each in context.legs))
    for kind in dict.fromkeys((*kinds, context.delivers)):
        if not kind or kind == _SETTLED_IN_CASH or kind in context.rules.allow_sec_types:
            continue
        yield Violation(
            "sec-type-not-allowed",
            f"{kind} is not in trading.allow_sec_types",
            field="secType",
            value=kind,
        )


def symbol_allowed(context: RiskContext) -> Iterator[Violation]:
    """`symbol-not-allowed`, `symbol-denied`."""
    name = context.contract.symbol.upper()
    allowed = context.rules.allow_symbols
    if allowed is not None and name not in {each.upper() for each in allowed}:
        yield Violation(
            "symbol-not-allowed",
            f"{name} is not in trading.allow_symbols",
            field="symbol",
            value=name,
        )
    if name in {each.upper() for each in context.rules.deny_symbols}:
        yield Violation(
            "symbol-denied", f"{name} is in trading.deny_symbols", field="symbol", value=name
        )


def expired(context: RiskContext) -> Iterator[Violation]:
    """`contract-expired`, by the exchange's calendar day."""
    for details in (context.details, *(each.details for each in context.legs)):
        yield from _expired(details, context)


def _expired(details: ContractDetails, context: RiskContext) -> Iterator[Violation]:
    expiration = details.real_expiration or details.contract.expiration
    if not expiration:
        return
    left = days_left(expiration, exchange_zone(details.time_zone, details.contract), context.now)
    if left is not None and left < 0:
        yield Violation(
            "contract-expired",
            f"the contract expired on {expiration[:8]}",
            field="expiration",
            value=expiration[:8],
        )


def market_order_on_option(context: RiskContext) -> Iterator[Violation]:
    """`market-order-on-option`: an option's spread can cost more than the option."""
    kinds = {context.contract.sec_type, *(each.details.contract.sec_type for each in context.legs)}
    if not kinds & OPTIONS or context.rules.market_orders_on_options:
        return
    kind = context.order.order_type
    if context.fills_at_any_price:
        instead = _WITH_A_LIMIT.get(kind, "give it a limitPrice")
        yield Violation(
            "market-order-on-option",
            f"{kind} on an option may fill at any price: {instead}",
            field="orderType",
            value=kind,
        )


def taken_by_the_contract(context: RiskContext) -> Iterator[Violation]:
    """`order-type-not-supported`: by the list of the contract's own details."""
    order, listed = context.order, context.details.order_types
    wanted = {
        "orderType": ""
        if order.order_type in INSTRUCTIONS.values()
        else kind_of_type(order.order_type).announced,
        "goodAfterTime": "GAT" if order.good_after_time else "",
        "conditions": "COND" if order.conditions else "",
        "algo": "ALGO" if order.algo_strategy else "",
        "cashQuantity": "CASHQTY" if order.cash_quantity is not None else "",
    }
    for field, word in wanted.items():
        if not listed or not word or word in listed or word in _FIRST_WORDS:
            continue
        what = order_type(order.order_type) if field == "orderType" else field
        yield Violation(
            "order-type-not-supported",
            f"{context.contract.symbol} ({context.contract.sec_type}) at "
            f"{context.contract.exchange} takes no {what}",
            field=field,
            value=what,
        )


# how much -----------------------------------------------------------------------------------------


def max_quantity(context: RiskContext) -> Iterator[Violation]:
    """`max-quantity` (shares, currency units), `max-contracts` (options, futures)."""
    amount, rules = context.order.quantity, context.rules
    code, noun, limit = "max-quantity", "units", rules.max_quantity
    counted = [each.ratio for each in context.legs if each.details.contract.sec_type != "STK"]
    yield from _shares_of_legs(context)
    yield from _shares_delivered(context)
    amount *= max(counted, default=1)
    if context.contract.sec_type in _CONTRACTS:
        code, noun, limit = "max-contracts", "contracts", rules.max_contracts
    elif context.contract.sec_type == "CASH" and limit is not None:
        limit *= rules.currency_unit
    if limit is not None and amount > limit:
        yield Violation(
            code,
            f"{plain(amount)} {noun}, trading.{code.replace('-', '_')} is {plain(limit)}",
            field="quantity",
            value=amount,
            limit=limit,
        )


def _shares_of_legs(context: RiskContext) -> Iterator[Violation]:
    """Shares in a combination count as in an order of their own."""
    limit = context.rules.max_quantity
    ratios = [each.ratio for each in context.legs if each.details.contract.sec_type == "STK"]
    shares = context.order.quantity * max(ratios, default=0)
    if limit is not None and shares > limit:
        yield Violation(
            "max-quantity",
            f"{plain(shares)} shares in a leg, trading.max_quantity is {plain(limit)}",
            field="quantity",
            value=shares,
            limit=limit,
        )


def _shares_delivered(context: RiskContext) -> Iterator[Violation]:
    """Shares that an exercise brings, or takes, count as in an order of their own."""
    limit, units = context.rules.max_quantity, multiplier(context.contract)
    shares = context.order.quantity * units
    if context.delivers == "STK" and limit is not None and shares > limit:
        yield Violation(
            "max-quantity",
            f"the exercise moves {plain(shares)} shares, trading.max_quantity is {plain(limit)}",
            field="quantity",
            value=shares,
            limit=limit,
        )


def quantity_step(context: RiskContext) -> Iterator[Violation]:
    """`quantity-step`, `quantity-minimum`, by the contract's own numbers."""
    amount, details = context.order.quantity, context.details
    if context.order.cash_quantity is not None:
        return  # the broker works it out
    whole = 1.0 if context.contract.sec_type in _CONTRACTS else None
    size = details.size_increment or whole
    if size is not None and not is_multiple(amount, size):
        yield Violation(
            "quantity-step",
            f"quantity {plain(amount)} is no multiple of {plain(size)}",
            field="quantity",
            value=amount,
            limit=size,
        )
    if details.min_size is not None and amount < details.min_size:
        yield Violation(
            "quantity-minimum",
            f"quantity {plain(amount)} is less than the contract's minimum"
            f" {plain(details.min_size)}",
            field="quantity",
            value=amount,
            limit=details.min_size,
        )


def max_notional(context: RiskContext) -> Iterator[Violation]:
    """`max-notional`: quantity times price times multiplier, in the account's currency."""
    limit, amount = context.rules.max_notional, context.base_notional
    if limit is None or amount is None or context.closing or amount <= limit:
        return
    yield Violation(
        "max-notional",
        f"the order is worth about {amount:,.2f} {context.money}, more than the"
        f" {limit:,.2f} that trading.max_notional allows",
        field="quantity",
        value=round(amount, 2),
        limit=limit,
    )


def worth(context: RiskContext) -> Iterator[Violation]:
    """`no-quote`: money is limited, and nobody can tell how much the order is worth.

    As of a sale without a quote, of which a limit says only the least that it brings, or of a
    combination where one leg has none: its limit price does not bound its legs. A change is asked
    only what it adds, so that an order can be made smaller in any market.
    """
    rules = context.rules
    limited = rules.max_notional is not None or rules.max_notional_per_day is not None
    passes = context.closing or context.reduces or context.unchecked  # `line` tells of that
    passes = passes or (context.change and not context.enlarges)
    if limited and context.notional is None and not passes:
        where = " in each leg" if context.legs else ""
        yield Violation(
            "no-quote",
            f"there is no quote of {context.contract.symbol}{where} to tell what the order is"
            " worth, and trading.max_notional or trading.max_notional_per_day limits that",
            field="legs" if context.legs else "orderType",
        )


def max_loss(context: RiskContext) -> Iterator[Violation]:
    """`max-loss`, and `max-loss-undefined` unless `undefined_loss` allows it.

    Of options and combinations that open or enlarge a position.
    """
    limit, exchange = _loss_limit(context), context.exchange
    if limit is None or context.closing:
        return
    amount = loss(context)
    if amount is None:
        if context.rules.undefined_loss == "refuse":
            yield Violation(
                "max-loss-undefined",
                "what the order can lose has no bound or is not known, and trading.max_loss is"
                f" {limit:,.2f} (trading.undefined_loss)",
                field="legs" if context.legs else "action",
                limit=limit,
            )
        return
    if exchange is not None:
        amount *= exchange.rate or 0.0  # without a rate `no-exchange-rate` refuses
    if amount > limit:
        yield Violation(
            "max-loss",
            f"the order can lose {amount:,.2f} {context.money}, more than the {limit:,.2f} that"
            " trading.max_loss allows",
            field="quantity",
            value=round(amount, 2),
            limit=limit,
        )


def _loss_limit(context: RiskContext) -> float | None:
    """None: there is none for this order."""
    limited = bool(context.legs) or context.contract.sec_type in OPTIONS
    return context.rules.max_loss if limited and not context.reduces else None


def notional_of_the_day(context: RiskContext) -> Iterator[Violation]:
    """`max-notional-per-day`; a change counts with what it adds."""
    limit = context.rules.max_notional_per_day
    if limit is None or context.closing:
        return
    ordered = context.request_notional or context.base_notional or 0.0
    added = max(0.0, ordered - context.earlier_notional)
    total = context.day.notional + added
    if added and total > limit:
        yield Violation(
            "max-notional-per-day",
            f"with this order {total:,.2f} would be ordered today, "
            f"more than the {limit:,.2f} that trading.max_notional_per_day allows",
            value=round(total, 2),
            limit=limit,
        )


def exchange_rate(context: RiskContext) -> Iterator[Violation]:
    """`no-exchange-rate`: money of another currency that no limit can be held against.

    What only reduces a position is let through: getting out must not wait for a rate.
    """
    exchange, rules = context.exchange, context.rules
    limits = (
        rules.max_notional,
        rules.max_notional_per_day,
        context.bounds.max_notional,
        _loss_limit(context),
    )
    if exchange is None or exchange.rate is not None or context.closing or context.reduces:
        return
    if any(limit is not None for limit in limits):
        text = (
            f"nobody says what {context.contract.currency} is worth in {exchange.base}, "
            "the currency of the limits"
        )
        if exchange.base == UNKNOWN_BASE:
            text = "the account's values have not come yet: nobody says what the limits are in"
        yield Violation(
            "no-exchange-rate",
            text,
            field="currency",
            value=context.contract.currency,
        )


def open_orders(context: RiskContext) -> Iterator[Violation]:
    """`max-open-orders`: orders whose fate is unknown count as open."""
    limit = context.rules.max_open_orders
    if limit is not None and context.open_orders + context.new_orders > limit:
        yield Violation(
            "max-open-orders",
            f"{context.open_orders} orders are open, trading.max_open_orders is {limit}",
            value=context.open_orders,
            limit=limit,
        )


def orders_of_the_day(context: RiskContext) -> Iterator[Violation]:
    """`max-orders-per-day`."""
    limit = context.rules.max_orders_per_day
    if limit is not None and context.day.orders + context.new_orders > limit:
        yield Violation(
            "max-orders-per-day",
            f"{context.day.orders} orders were sent today, trading.max_orders_per_day is {limit}",
            value=context.day.orders,
            limit=limit,
        )


# at what price: only the side on which a slip of the finger costs money is bounded ----------------


def tick(context: RiskContext) -> Iterator[Violation]:
    """`price-off-tick`: with the two nearest prices that would do."""
    order, ladder = context.order, context.ladder
    prices = {
        "limitPrice": order.limit_price,
        "stopPrice": order.stop_price,
        "trailStopPrice": (
            order.trail_stop_price if context.stop_named or not context.change else None
        ),
    }
    for field, price in prices.items():
        if price is None or on_tick(price, ladder):
            continue
        below, above = to_tick(price, ladder, "down"), to_tick(price, ladder, "up")
        yield Violation(
            "price-off-tick",
            f"{field} {plain(price)} is not on the tick of {increment_at(price, ladder)}: "
            f"{plain(below)} or {plain(above)} is, and roundToTick rounds by itself",
            field=field,
            value=price,
            limit=f"{plain(below)} {plain(above)}",
        )


def line(context: RiskContext) -> Iterator[Violation]:
    """`no-line`: what opens a position is not let through unchecked; what closes one passes."""
    if context.unchecked and not context.closing and not context.reduces:
        symbol = context.contract.symbol
        yield Violation(
            "no-line",
            f"no market-data line was free to check the order against {symbol}",
            field="symbol",
        )


def quote(context: RiskContext) -> Iterator[Violation]:
    """`no-quote`: nothing to judge an order by whose price nothing limits."""
    judged_before = context.change and not context.enlarges
    if context.closing or judged_before or context.unchecked or context.market is not None:
        return
    if any(worth(context)):
        return  # it has told
    blind = context.order.limit_price is None and context.stop is None  # no price of its own
    if context.order.order_type == "MKT" or blind or context.rules.require_quote:
        yield Violation(
            "no-quote",
            f"there is no quote of {context.contract.symbol} to check the order against",
            field="orderType",
        )


def band(context: RiskContext) -> Iterator[Violation]:
    """`price-band`: buying far above the market (or a stop's own trigger), or selling far below.

    What waits to be touched is held against the market where that has touched it already, what
    trails against its stop, where that stands at first or comes to by itself.
    """
    order, rules = context.order, context.rules
    option = context.contract.sec_type in {*OPTIONS, "BAG"}
    percent = rules.option_price_band_percent if option else rules.price_band_percent
    offset = order.limit_offset if order.order_type == KINDS["TRAIL_LMT"].broker else None
    market = context.market_or_trigger if offset is None else context.nearest_stop
    scale = abs(market) if market is not None and not context.legs else context.price_scale
    if percent is None or market is None or scale is None:
        return
    sign = 1 if order.action == "BUY" else -1
    limit_price = order.limit_price if offset is None else market + sign * offset
    bound = market + sign * scale * percent / 100
    if limit_price is None or (limit_price - bound) * sign <= 0:
        return
    where = f"more than {percent:g} % {'above' if sign > 0 else 'below'}"
    if offset is None:
        yield Violation(
            "price-band",
            f"limitPrice {plain(limit_price)} is {where} the market ({plain(market)})",
            field="limitPrice",
            value=limit_price,
            limit=round(bound, 6),
        )
    else:
        yield Violation(
            "price-band",
            f"limitOffset {plain(offset)} lets it fill {where} its stop ({plain(market)})",
            field="limitOffset",
            value=offset,
            limit=round(abs(bound - market), 6),
        )


def exit_side(context: RiskContext) -> Iterator[Violation]:
    """`invalid-field`: an exit of a bracket that would fill as soon as its entry does."""
    entry = context.entry
    if entry is None or context.reference is None:
        return
    market = context.reference.for_action(entry.action)
    price = None if market is None else fills_at(entry, market, context.contract.con_id)
    if price is not None:
        stop = stop_of(context.order)
        gain = context.order.limit_price if stop is None else None
        yield from exits_beside(entry.action, price, gain, stop, "the market")


def trail_in_reach(context: RiskContext) -> Iterator[Violation]:
    """`invalid-field`: a trailing stop below zero, which no price of this contract reaches."""
    order, market, stop = context.order, context.market, context.stop
    below = stop is not None and stop <= 0
    if context.change and not context.trail_named:
        return  # the price may have fallen since: it stays changeable
    if order.trail_amount is None or market is None or not below:
        return
    if context.contract.sec_type not in _NEGATIVE:
        yield Violation(
            "invalid-field",
            f"trailAmount {plain(order.trail_amount)} is as much as the price ({plain(market)}) or"
            " more: no price gets to the stop",
            field="trailAmount",
            value=order.trail_amount,
            limit=market,
        )


# when ---------------------------------------------------------------------------------------------


def market_closed(context: RiskContext) -> Iterator[Violation]:
    """`market-closed`; orders with outsideRth are held against the longer trading hours."""
    wanted = context.rules.market_hours
    if wanted == "off" or (wanted == "market-orders" and not context.fills_at_any_price):
        return
    details = context.details
    hours = details.trading_hours if context.order.outside_rth else details.liquid_hours
    zone = exchange_zone(details.time_zone, details.contract)
    if hours and not is_open(hours, zone, context.now):
        yield Violation(
            "market-closed",
            f"the market of {context.contract.symbol} is closed (trading.market_hours)",
        )


def restart_window(context: RiskContext) -> Iterator[Violation]:
    """`restart-window`: the gateway is about to restart, and an order's answer could be lost."""
    guard, left = context.rules.restart_guard_seconds, context.seconds_to_restart
    if left is not None and left <= guard:
        yield Violation(
            "restart-window",
            f"the gateway restarts in {left:.0f} s, no new orders in the last "
            f"{guard:g} s before that",
            value=round(left, 1),
            limit=guard,
        )


Rule = Callable[[RiskContext], Iterator[Violation]]

FOR_OPENING: Final[frozenset[Rule]] = frozenset(
    {
        market_order_on_option,
        max_quantity,
        max_notional,
        worth,
        max_loss,
        exchange_rate,
        line,
        quote,
        band,
        notional_of_the_day,
        open_orders,
        orders_of_the_day,
        restart_window,
    }
)
"""What an order is exempt from that was sized to close a position: getting out must not fail.

What the key is bound to is not among it: that is what the key's worst day is measured by.
"""

OF_A_PRICE: Final[frozenset[Rule]] = frozenset(
    {market_order_on_option, max_loss, line, quote, band}
)
"""What is not asked of an exercise: it trades at the strike, whatever the option is quoted at."""

OF_SETTINGS: Final[tuple[Rule, ...]] = (
    read_only,
    live_not_confirmed,
    account_allowed,
    security_type,
    symbol_allowed,
    market_order_on_option,
)
"""What refuses an order in every market: by what is set, not by what there is."""

CODES_OF_SETTINGS: Final = frozenset(
    {
        "read-only",
        "live-not-confirmed",
        "account-required",
        "account-unknown",
        "account-not-allowed",
        "sec-type-not-allowed",
        "symbol-not-allowed",
        "symbol-denied",
        "market-order-on-option",
    }
)
"""Of their violations."""

ALWAYS: Final[tuple[Rule, ...]] = (
    read_only,
    live_not_confirmed,
    account_allowed,
    key_account,
    key_symbol,
    key_notional,
    security_type,
    symbol_allowed,
    expired,
    market_order_on_option,
    taken_by_the_contract,
    max_quantity,
    quantity_step,
    max_notional,
    worth,
    max_loss,
    exchange_rate,
    tick,
    line,
    quote,
    band,
    trail_in_reach,
    notional_of_the_day,
)
NEW_ONLY: Final[tuple[Rule, ...]] = (
    open_orders,
    orders_of_the_day,
    key_orders_of_the_day,
    oca_group,
    market_closed,
    restart_window,
    exit_side,
)
