"""Positions that belong together, as `GET /positions?group=strategy` shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bridge.account.views import (
    GREEKS,
    PositionView,
    Strategy,
    StrategyLeg,
    total,
    total_greeks,
)
from bridge.rules.holdings import Holding

_SHARED = ("cost_basis", "market_value", "unrealized_pnl", "daily_pnl")


def strategy_views(
    holdings: Iterable[Holding], positions: Sequence[PositionView]
) -> tuple[Strategy, ...]:
    """Holdings with the values of their positions, each leg's as far as it is the holding's."""
    views = {(each.account, each.con_id): each for each in positions}
    return tuple(
        _view(each, [views[each.account, leg.contract.con_id] for leg in each.legs])
        for each in holdings
        if all((each.account, leg.contract.con_id) in views for leg in each.legs)
    )


def _view(holding: Holding, parts: Sequence[PositionView]) -> Strategy:
    shares = [
        leg.ratio * holding.units / part.quantity
        for leg, part in zip(holding.legs, parts, strict=True)
    ]
    sums = {
        name: total(
            None if (value := getattr(part, name)) is None else value * share
            for part, share in zip(parts, shares, strict=True)
        )
        for name in _SHARED
    }
    units = holding.units * holding.multiplier
    value, entry = sums["market_value"], holding.entry
    return Strategy(
        id=holding.key,
        name=holding.name,
        account=holding.account,
        underlying=parts[0].symbol,
        currency=parts[0].currency,
        units=holding.units,
        legs=tuple(
            StrategyLeg(
                con_id=part.con_id,
                local_symbol=part.local_symbol,
                sec_type=part.sec_type,
                ratio=leg.ratio,
                quantity=leg.ratio * holding.units,
            )
            for leg, part in zip(holding.legs, parts, strict=True)
        ),
        closing_action="SELL" if holding.direction > 0 else "BUY",
        expiration=holding.expiration or None,
        opened_at=holding.opened_at,
        order_refs=tuple(sorted(holding.labels)),
        average_price=None if entry is None else round(entry / holding.multiplier, 6),
        market_price=None if value is None else round(value / units, 6),
        **sums,
        **{name: total_greeks(name, parts, shares) for name in GREEKS},
    )
