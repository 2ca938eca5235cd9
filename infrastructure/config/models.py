"""The models of stack.yaml. Field docstrings are the reference (docs/configuration.md)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator

from infrastructure.config.base import Megabytes, Port, SecretRef, Section, check_image, stored
from infrastructure.config.gateway import Gateway
from infrastructure.config.host import Host  # noqa: TC001 - pydantic reads it
from infrastructure.config.workers import Worker  # noqa: TC001 - pydantic reads it
from infrastructure.errors import Place
from infrastructure.release_files import ADMIN_KEY, FLEX_TOKEN

if TYPE_CHECKING:
    from infrastructure.config.places import Document
    from infrastructure.errors import Problem

ProfileName = Literal["e2-micro", "small", "standard"]


class Budget(NamedTuple):
    """Memory limit of a container, and its limit of memory plus swap."""

    memory: int
    with_swap: int


class Profile(NamedTuple):
    """A machine's size, and how it is shared out."""

    memory: int
    swap: int
    heap: int
    gateway: Budget
    bridge: Budget
    caddy: Budget
    portal: Budget


PROFILES: dict[str, Profile] = {
    "e2-micro": Profile(
        1024, 1024, 256, Budget(640, 1536), Budget(128, 320), Budget(96, 192), Budget(256, 768)
    ),
    "small": Profile(
        2048, 1024, 512, Budget(1152, 2048), Budget(192, 384), Budget(128, 256), Budget(384, 768)
    ),
    "standard": Profile(
        4096, 2048, 768, Budget(1536, 2560), Budget(256, 512), Budget(192, 384), Budget(512, 1024)
    ),
}


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


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"'{value}' is no address such as 0.0.0.0 or 127.0.0.1") from None


class Caddy(Section):
    """The only part that faces the internet: TLS, limits, headers."""

    image: str = "caddy:2"
    """Image by tag or digest."""
    domain: str | None = None
    """Public name; its certificate is fetched and renewed. Unset: an internal authority signs."""
    email: str | None = None
    """Address for the certificate authority's warnings."""
    names: tuple[str, ...] = ()
    """More names or addresses for the internal authority's certificate, without a domain."""
    listen: str = "0.0.0.0"  # noqa: S104
    """Address of the host that 80 and 443 are published on."""
    http_port: Port = 80
    """Published port for HTTP."""
    https_port: Port = 443
    """Published port for HTTPS."""
    max_body: str = "1MB"
    """Largest request body that is passed on."""
    dial_timeout: str = "2s"
    """How long connecting to the bridge may take."""
    response_timeout: str = "35s"
    """How long the bridge may take to begin its answer."""
    read_timeout: str = "60s"
    """How long the bridge may be silent in the middle of an answer or a stream."""
    write_timeout: str = "30s"
    """How long the bridge may take to accept what is sent to it."""
    stream_timeout: str = "24h"
    """How long one WebSocket may stay open."""

    @field_validator("names")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if ":" in name:
                _address(name)
            elif not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", name):
                raise ValueError(f"'{name}' is no name or address")
        return value

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        return check_image(value)

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        return _address(value)

    @field_validator("email")
    @classmethod
    def _email(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(
            r"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", value
        ):
            raise ValueError("that is no mail address")
        return value

    @field_validator("domain")
    @classmethod
    def _domain(cls, value: str | None) -> str | None:
        if value is not None and (":" in value or re.fullmatch(r"[0-9.]+", value)):
            raise ValueError(
                f"'{value}' is an address: authorities sign names; caddy.names takes addresses"
            )
        label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
        if value is not None and not re.fullmatch(rf"{label}(?:\.{label})+", value.lower()):
            raise ValueError(f"'{value}' is no domain name")
        return value.lower() if value else value

    @field_validator(
        "dial_timeout", "response_timeout", "read_timeout", "write_timeout", "stream_timeout"
    )
    @classmethod
    def _duration(cls, value: str) -> str:
        if not re.fullmatch(r"(?:[0-9]{1,5}(?:ms|s|m|h)){1,4}", value):
            raise ValueError(f"'{value}' is no duration")
        return value

    @field_validator("max_body")
    @classmethod
    def _size(cls, value: str) -> str:
        if not re.fullmatch(r"[0-9]{1,9}(?:[KMG]i?B|B)", value):
            raise ValueError(f"'{value}' is no size")
        return value


class Portal(Section):
    """The Client Portal gateway, beside the TWS API."""

    enabled: bool = False
    """Whether the stack has one. It logs in with a browser of its own (IBeam)."""
    image: str = "voyz/ibeam:latest"
    """Image by tag or digest."""
    url: str | None = None
    """A Client Portal gateway that runs elsewhere, instead of one in this stack."""
    username: str | None = None
    """Its IBKR user name, another one than the gateway's: a user has one session."""
    password: SecretRef = stored("portal-password")
    """Its password."""

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        return check_image(value)

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+/?", value):
            raise ValueError(f"'{value}' is no address of a Client Portal gateway")
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
    lost_minutes: int = Field(default=5, ge=1)
    """Tell after the connection was lost for this many minutes."""
    disk_megabytes: int = Field(default=1024, ge=1)
    """Tell when less than this is free on the host's disk."""
    events: tuple[AlertEvent, ...] = ()
    """Only these events; empty: all."""


class Journal(Section):
    """The bridge's journal of orders."""

    keep: str = "2y"
    """How long orders that have ended stay in it, in days (`90d`, at least 30) or years (`2y`);
    older ones go into files, `archive/` in the bridge's data folder."""

    @field_validator("keep")
    @classmethod
    def _keep_is_long_enough(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]{0,4}d|[1-9][0-9]?y", value):
            raise ValueError("days or years are wanted here, such as 90d or 2y")
        if not 30 <= _days(value) <= 36_500:
            raise ValueError("at least 30d, at most 100 years")
        return value

    @property
    def keep_days(self) -> int:
        """The same in days."""
        return _days(self.keep)


def _days(text: str) -> int:
    return int(text[:-1]) * (365 if text.endswith("y") else 1)


class Simulated(Section):
    """Ports of the simulated parts, all on 127.0.0.1; only with `runtime: sandbox`."""

    tws_port: Port = 4002
    """The simulated gateway's TWS API."""
    portal_port: Port = 5000
    """The simulated Client Portal."""
    control_port: Port = 4099
    """Where faults are switched on and off and the clock is wound."""
    caddy_admin_port: Port = 2019
    """Caddy's own API."""
    caddy_health_port: Port = 8081
    """Caddy's health check."""


class Limits(Section):
    """Memory of each service in MB; unset: as the profile says."""

    gateway: Megabytes | None = None
    """The gateway's memory limit."""
    gateway_swap: Megabytes | None = None
    """The gateway's memory plus swap."""
    bridge: Megabytes | None = None
    """The bridge's memory limit."""
    caddy: Megabytes | None = None
    """Caddy's memory limit."""
    portal: Megabytes | None = None
    """The Client Portal gateway's memory limit."""


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


class Stack(Section):
    """One target of stack.yaml."""

    host: Host
    """Where it runs."""
    profile: ProfileName = "e2-micro"
    """Size of the machine: `e2-micro` (1 GB), `small` (2 GB), `standard` (4 GB or more)."""
    folder: str = "/opt/gangway"
    """Folder on the host; releases go to `<folder>/<target>/`."""
    runtime: Literal["compose", "sandbox"] = "compose"
    """Docker Compose, or simulated parts as plain processes on this machine (`host: local`)."""
    gateway: Gateway = Gateway()
    """IB Gateway."""
    bridge: Bridge = Bridge()
    """The bridge."""
    caddy: Caddy = Caddy()
    """Caddy."""
    portal: Portal = Portal()
    """Client Portal."""
    trading: Trading = Trading()
    """Limits on orders."""
    rules: PositionRules = ()
    """Rules that watch positions and close them; each as `docs/position-manager.md` has it."""
    rules_mode: Literal["simulate", "trade"] | None = None
    """For all rules: `simulate` orders nothing, `trade` holds for rules that say no mode of
    their own. Unset: each rule's own, else `simulate`."""
    journal: Journal = Journal()
    """The journal of orders."""
    alerts: Alerts = Alerts()
    """Alerts."""
    limits: Limits = Limits()
    """Memory limits that differ from the profile's."""
    workers: dict[str, Worker] = Field(default_factory=dict)
    """Containers of your own beside the bridge, by name (docs/workers.md)."""
    simulated: Simulated = Simulated()
    """Ports of the sandbox."""

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not re.fullmatch(r"/[^\x00-\x1f]+", value) or ".." in value.split("/"):
            raise ValueError("an absolute path is wanted here")
        return value.rstrip("/")

    @property
    def heap(self) -> int:
        """The gateway's heap in MB."""
        return self.gateway.jvm.heap or PROFILES[self.profile].heap

    def budget(self, service: str) -> Budget:
        """A service's limits in MB: what stack.yaml says, else what the profile gives.

        A worker gets no swap: it would push the gateway's pages out.
        """
        if service in self.workers:
            return Budget(self.workers[service].memory, self.workers[service].memory)
        given: Budget = getattr(PROFILES[self.profile], service)
        if service == "gateway" and self.gateway.mode == "both":
            given = Budget(given.memory * 2, given.with_swap * 2)
        memory = getattr(self.limits, service) or given.memory
        with_swap = self.limits.gateway_swap if service == "gateway" else None
        return Budget(memory, max(memory, with_swap or given.with_swap))

    @property
    def memory(self) -> int:
        """The machine's memory in MB, as the profile has it."""
        return PROFILES[self.profile].memory

    @property
    def sessions(self) -> tuple[Literal["live", "paper"], ...]:
        """The sessions that the gateway's container holds."""
        mode = self.gateway.mode
        return ("live", "paper") if mode == "both" else (mode,)

    @property
    def session(self) -> Literal["live", "paper"]:
        """The one that the bridge serves."""
        mode = self.gateway.mode
        return (self.bridge.session or "paper") if mode == "both" else mode

    @property
    def read_only(self) -> bool:
        """Whether the gateway refuses orders: as set, else only live without `trading.live`."""
        if self.gateway.read_only is not None:
            return self.gateway.read_only
        return self.gateway.mode != "paper" and not self.trading.live

    @property
    def master_client_id(self) -> int:
        """The client id that hears of everyone's orders and fills: the bridge's, or as set.

        It only sees them: the protocol lets nobody change or cancel an order but its own client.
        """
        set_to = self.gateway.master_client_id
        return self.bridge.client_id if set_to is None else set_to


@dataclass(frozen=True)
class Target:
    """A checked target: its name, its settings, where each value stands, what was odd about it."""

    name: str
    stack: Stack
    file: Path | None = None
    document: Document | None = field(default=None, repr=False, compare=False)
    warnings: tuple[Problem, ...] = ()

    @property
    def project(self) -> str:
        return f"gangway-{self.name}"

    @property
    def base(self) -> PurePosixPath:
        """The stack's folder on the host."""
        return PurePosixPath(self.stack.folder) / self.name

    @property
    def local(self) -> bool:
        """Whether it runs on this machine, without SSH."""
        return self.stack.host.address == "local"

    def place(self, *path: str | int, key: bool = False) -> Place:
        """Where a value stands in stack.yaml, such as `place("gateway", "mode")`."""
        if self.document is None:
            return Place(self.name, path=".".join(map(str, path)))
        return self.document.target_place(self.name, path, key=key)
