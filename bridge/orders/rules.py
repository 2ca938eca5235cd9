"""The safety limits of one deployment, as the file in `BRIDGE_TRADING_FILE` sets them.

The file is JSON, with the names of `stack.yaml`'s `trading:` section; what it leaves out has the
default below. Without a file the defaults hold. `null` switches a limit off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from bridge.errors import BridgeError

SecurityType = Literal["STK", "OPT", "FUT", "CASH", "FOP", "BAG"]


class RulesError(BridgeError):
    """The trading file cannot be used, so the bridge does not start.

    It would not know its limits.
    """

    code = "trading-file-invalid"


class TradingRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits on what may be ordered.

    Quantities are the broker's units, money is in the account's own currency.
    """

    live: bool = False
    """Confirms that orders may reach a live account; without it only paper accounts are traded."""

    read_only: bool = False
    """Refuses every order and change (cancels still work)."""

    gateway_read_only: bool = False
    """The gateway itself is meant to refuse orders: that it does is then no fault."""

    require_idempotency_key: bool = True
    """Refuses an order without an `Idempotency-Key`."""

    market_orders_on_options: bool = False
    """Allows order types that fill at any price (MKT, STP) on options."""

    max_quantity: float | None = 1_000
    """Most shares, or units of a currency divided by `currency_unit`, in one order."""

    max_contracts: float | None = 50
    """Most option or future contracts in one order."""

    currency_unit: float = 1_000
    """Currency pairs count in this unit against `max_quantity`."""

    max_notional: float | None = 100_000
    """Most money in one order, in the account's currency: quantity times price times multiplier."""

    max_open_orders: int | None = 200
    """Most orders working at once, every leg of a bracket counted."""

    max_orders_per_day: int | None = 2_000
    """Most orders sent in one day of `time_zone`."""

    max_notional_per_day: float | None = 2_000_000
    """Most money in all orders of one day of `time_zone`, whatever became of them."""

    max_loss: float | None = None
    """Most that one order for options or a combination can lose until they expire.

    In the account's currency. What only makes a position smaller passes.
    """

    undefined_loss: Literal["refuse", "allow"] = "refuse"
    """What `max_loss` does with orders whose loss has no bound or cannot be told.

    A call that is sold alone, a calendar, a combination without options.
    """

    price_band_percent: float | None = 10
    """How far a price may go through the market.

    Buy above it, sell below it), in percent of the last quote.
    """

    option_price_band_percent: float | None = 50
    """The same for options."""

    require_quote: bool = False
    """Refuses a limit order when there is no quote to check it against.

    Market orders always need one.
    """

    allow_symbols: tuple[str, ...] | None = None
    """If set, only these symbols (of the underlying, for options) are traded."""

    deny_symbols: tuple[str, ...] = ()
    """Symbols that are never traded."""

    allow_sec_types: tuple[SecurityType, ...] = ("STK", "OPT", "FUT", "CASH", "FOP", "BAG")
    """The kinds of contracts that are traded; of a combination (BAG) its legs' kinds, too."""

    allow_accounts: tuple[str, ...] | None = None
    """If set, only these accounts are traded."""

    market_hours: Literal["off", "market-orders", "all"] = "off"
    """Which new orders are refused while the contract's market is closed."""

    cancel_when_silent: float | None = None
    """Seconds of silence after which what opens is cancelled, of clients that send heartbeats."""

    restart_guard_seconds: float = 120
    """No new order within this time before a planned restart."""

    time_zone: str = "America/New_York"
    """The zone of the day's limits."""

    answer_within_seconds: float = 10
    """How long a request waits for the broker's answer before it says 504."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
                if name == "restart_guard_seconds" and value == 0:
                    continue
                raise ValueError(f"{name} must be more than 0 (null switches a limit off)")
        try:
            ZoneInfo(self.time_zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"time_zone: {self.time_zone!r} is not a known zone") from None


def load(path: Path | None) -> TradingRules:
    """The rules in `path`; the defaults when there is no path.

    A file that is wrong is an error, never ignored.
    """
    if path is None:
        return TradingRules()
    try:
        return msgspec.json.decode(path.read_bytes(), type=TradingRules)
    except OSError as error:
        raise RulesError(
            f"{path}: {error.strerror}",
            next_step="deploy again (./deploy.py up); by hand: check BRIDGE_TRADING_FILE",
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RulesError(
            f"{path}: {error}",
            next_step="mend the trading: section; docs/orders.md lists every name",
        ) from None
