"""The bridge's settings: its service, the limits on orders, rules, the journal and alerts."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from infrastructure.config.base import Port, SecretRef, Section, check_image, stored
from infrastructure.config.terms import JournalTerms, days
from infrastructure.release_files import ADMIN_KEY, FLEX_TOKEN


class Flex(Section):
    """Executions of days on which the bridge was away, from the broker's Flex Web Service."""

    query: str = Field(pattern=r"^[0-9]{1,20}$")
    """The number of an Activity Flex Query with the section Trades, level Execution."""
    token: SecretRef = stored(FLEX_TOKEN)
    """The token of the Flex Web Service."""


class Bridge(Section):
    """The REST + WebSocket service in front of the gateway."""

    build: Literal["remote", "local"] = "remote"
    """Where its image is built: on the host, or here with the layers shipped."""
    library: Literal["ib_async", "ib_insync"] = "ib_async"
    """Client library; `ib_insync` is the frozen original."""
    base_image: str = "python:3.13-slim-trixie"
    """Base image; ib_insync does not run on Python 3.14."""
    session: Literal["paper", "live"] | None = None
    """With `gateway.mode: both`: which of the two the bridge serves. Unset: paper."""
    client_id: int = Field(default=1, ge=0, le=999_999)
    """API client id. It stays the same across restarts, so orders keep their owner."""
    port: Port = 8080
    """Published on 127.0.0.1 of the host, for `tunnel` and `diagnose`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the bridge logs."""
    admin_key: SecretRef = stored(ADMIN_KEY)
    """The first API key, of scope admin; made by `up` when it is not there yet."""
    page_trading: bool = True
    """Whether the status page offers an order ticket, change and cancel to keys of scope trade."""
    flex: Flex | None = None
    """The import of executions by a Flex query; off when unset."""

    @field_validator("base_image")
    @classmethod
    def _image(cls, value: str) -> str:
        return check_image(value)


class Trading(Section):
    """What may be ordered. `null` switches a limit off.

    The names and defaults are the bridge's own (`bridge/orders/rules.py`); a test holds them
    together.
    """

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
    """Most money in one order, in the account's currency: quantity times price times multiplier."""
    max_open_orders: int | None = Field(default=200, gt=0)
    """Most orders working at once, every leg of a bracket counted."""
    max_orders_per_day: int | None = Field(default=2_000, gt=0)
    """Most orders sent in one day of the gateway's time zone."""
    max_notional_per_day: float | None = Field(default=2_000_000, gt=0)
    """Most money in all orders of one day, whatever became of them."""
    max_loss: float | None = Field(default=None, gt=0)
    """Most that one order for options or a combination can lose until they expire."""
    undefined_loss: Literal["refuse", "allow"] = "refuse"
    """What `max_loss` does with a loss without a bound (a call sold alone) or that is not known."""
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
    allow_sec_types: tuple[Literal["STK", "OPT", "FUT", "CASH", "FOP", "BAG"], ...] = (
        "STK",
        "OPT",
        "FUT",
        "CASH",
        "FOP",
        "BAG",
    )
    """The kinds of contracts that are traded; of a combination (BAG) its legs' kinds, too."""
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


class _RulesSchema:
    """The bridge knows what a rule is; editors are told so, too."""

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        from bridge.rules.model import stack_schema

        return stack_schema()


def _checked_rules(value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    if value:
        from bridge.rules.model import RulesInvalidError, read

        try:
            read(value)
        except RulesInvalidError as error:
            raise ValueError(error.detail) from None
    return value


PositionRules = Annotated[
    tuple[dict[str, Any], ...], AfterValidator(_checked_rules), _RulesSchema()
]


class Journal(JournalTerms, Section):
    """The bridge's journal of orders."""

    keep: str = "2y"
    """How long orders that have ended stay in it, in days (`90d`, at least 30) or years (`2y`);
    older ones go into files, `archive/` in the bridge's data folder."""

    @field_validator("keep")
    @classmethod
    def _keep_is_long_enough(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]{0,4}d|[1-9][0-9]?y", value):
            raise ValueError("days or years are wanted here, such as 90d or 2y")
        if not 30 <= days(value) <= 36_500:
            raise ValueError("at least 30d, at most 100 years")
        return value


AlertEvent = Literal[
    "waiting-2fa",
    "connection-lost",
    "bad-credentials",
    "login-locked",
    "login-blocked",
    "gateway-hangs",
    "order-unknown",
    "journal",
    "message-set-aside",
    "client-silent",
    "clock",
    "portal-login",
    "certificate",
    "disk-low",
    "backup",
    "version-ends",
    "newer-image",
    "rule",
    "deploy-failed",
]


class Alerts(Section):
    """Who is told when something needs a person."""

    urls: tuple[SecretRef, ...] = ()
    """Where to: service addresses as Apprise writes them (`discord://…`, `tgram://…`, `ntfy://…`)."""
    lost_minutes: int = Field(default=5, ge=1, le=1440)
    """Tell after the connection was lost for this many minutes."""
    disk_megabytes: int = Field(default=1024, ge=1, le=10_000_000)
    """Tell when less than this is free on the host's disk."""
    events: tuple[AlertEvent, ...] = ()
    """Only these events; empty: all."""
