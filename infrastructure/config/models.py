"""The models of stack.yaml. Field docstrings are the reference (docs/configuration.md)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from infrastructure.config.base import Megabytes, Port, SecretRef, Section, check_image, stored
from infrastructure.config.gateway import Gateway
from infrastructure.config.host import Host  # noqa: TC001 - pydantic reads it
from infrastructure.config.trading import Trading

if TYPE_CHECKING:
    from infrastructure.config.places import Document
    from infrastructure.errors import Place, Problem

ProfileName = Literal["e2-micro", "small", "standard"]


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
    admin_key: SecretRef = stored("bridge-admin-key")
    """The first API key, of scope admin; made by `up` when it is not there yet."""

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
    "order-unknown",
    "journal",
    "message-set-aside",
    "clock",
    "portal-login",
    "certificate",
    "disk-low",
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


class Stack(Section):
    """One target of stack.yaml."""

    host: Host
    """Where it runs."""
    profile: ProfileName = "e2-micro"
    """Size of the machine: `e2-micro` (1 GB), `small` (2 GB), `standard` (4 GB or more)."""
    folder: str = "/opt/gangway"
    """Folder on the host; releases go to `<folder>/<target>/`."""
    runtime: Literal["compose", "sandbox"] = "compose"
    """Docker Compose, or simulated parts as plain processes on this machine."""
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
    alerts: Alerts = Alerts()
    """Alerts."""
    limits: Limits = Limits()
    """Memory limits that differ from the profile's."""
    simulated: Simulated = Simulated()
    """Ports of the sandbox."""

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not re.fullmatch(r"/[^\x00-\x1f]+", value) or ".." in value.split("/"):
            raise ValueError("an absolute path is wanted here")
        return value.rstrip("/")


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
        """The Compose project."""
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
        from infrastructure.config.loading import place_of

        return place_of(self, path, key=key)
