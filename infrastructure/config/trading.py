"""Limits that the bridge enforces before an order reaches the gateway.

The names and defaults are the bridge's own (`bridge/orders/rules.py`); a test holds them together.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infrastructure.config.base import Section


class Trading(Section):
    """What may be ordered. `null` switches a limit off."""

    live: bool = False
    """Confirms that orders may reach a live account; a second switch beside `gateway.mode`."""
    read_only: bool = False
    """Refuses every order and change in the bridge (cancels still work)."""
    require_idempotency_key: bool = True
    """Refuses an order without an `Idempotency-Key`."""
    market_orders_on_options: bool = False
    """Allows order types that fill at any price (MKT, STP) on options."""
    max_quantity: float | None = Field(default=1_000, gt=0)
    """Most shares, or units of a currency divided by `currency_unit`, in one order."""
    max_contracts: float | None = Field(default=50, gt=0)
    """Most option or future contracts in one order."""
    currency_unit: float = Field(default=1_000, gt=0)
    """Currency pairs count in this unit against `max_quantity`."""
    max_notional: float | None = Field(default=100_000, gt=0)
    """Most money in one order: quantity times price times multiplier."""
    max_open_orders: int | None = Field(default=200, gt=0)
    """Most orders working at once, every leg of a bracket counted."""
    max_orders_per_day: int | None = Field(default=2_000, gt=0)
    """Most orders sent in one day of the gateway's time zone."""
    max_notional_per_day: float | None = Field(default=2_000_000, gt=0)
    """Most money in all orders of one day, whatever became of them."""
    price_band_percent: float | None = Field(default=10, gt=0)
    """How far a price may go through the market, in percent of the last quote."""
    option_price_band_percent: float | None = Field(default=50, gt=0)
    """The same for options."""
    require_quote: bool = False
    """Refuses a limit order when there is no quote to check it against."""
    allow_symbols: tuple[str, ...] | None = None
    """If set, only these symbols (of the underlying, for options) are traded."""
    deny_symbols: tuple[str, ...] = ()
    """Symbols that are never traded."""
    allow_sec_types: tuple[Literal["STK", "OPT", "FUT", "CASH"], ...] = (
        "STK",
        "OPT",
        "FUT",
        "CASH",
    )
    """The kinds of contracts that are traded."""
    allow_accounts: tuple[str, ...] | None = None
    """If set, only these accounts are traded."""
    market_hours: Literal["off", "market-orders", "all"] = "off"
    """Which new orders are refused while the contract's market is closed."""
    cancel_when_silent: float | None = Field(default=None, ge=2, le=86_400)
    """Seconds of silence of a client that sends heartbeats, after which what opens a position is
    cancelled. Unset: never."""
    restart_guard_seconds: float = Field(default=120, ge=0)
    """No new order within this time before a planned restart of the gateway."""
    answer_within_seconds: float = Field(default=10, gt=0)
    """How long a request waits for the broker's answer before it says 504."""
