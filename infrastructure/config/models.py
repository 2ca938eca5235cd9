"""The models of stack.yaml. Field docstrings are the reference (docs/configuration.md)."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from infrastructure.config.base import Megabytes, Port, SecretRef, Section, check_image, stored
from infrastructure.config.bridge import Alerts, Bridge, Journal, PositionRules, Trading
from infrastructure.config.gateway import Gateway
from infrastructure.config.host import Host  # noqa: TC001 - pydantic reads it
from infrastructure.config.terms import StackTerms, user_name
from infrastructure.config.workers import Worker  # noqa: TC001 - pydantic reads it

ProfileName = Literal["e2-micro", "small", "standard"]


def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"'{value}' is no address such as 0.0.0.0 or 127.0.0.1") from None
    if getattr(address, "scope_id", None) is not None:
        raise ValueError(f"'{value}' holds for one network card alone; leave out what follows %")
    if address.is_multicast or (address.is_reserved and address.version == 4):
        raise ValueError(f"'{value}' is no machine's address")
    return str(address)


SOME = "(?=.*[1-9])"
"""Before a duration or a size: none at all would be without a limit."""
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
"""One part of a name, between its dots."""
LONGEST_NAME = 253


def _is_name(value: str) -> bool:
    return len(value) <= LONGEST_NAME and bool(re.fullmatch(rf"{LABEL}(?:\.{LABEL})*", value))


def _ends_in_number(value: str) -> bool:
    """By the web's rules a name whose last part is a number is an address, too."""
    return re.search(r"(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$", value) is not None


def _has_port(url: str) -> bool:
    """Whether an address names a host, and a port that there can be, or none."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        return False
    return True


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
            if ":" in name or _ends_in_number(name):
                _address(name)
            elif not _is_name(name):
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
        if value is not None and (_is_address(value) or _ends_in_number(value)):
            raise ValueError(
                f"'{value}' is an address: authorities sign names; caddy.names takes addresses"
            )
        if value is not None and not (_is_name(value) and "." in value):
            raise ValueError(f"'{value}' is no domain name")
        return value.lower() if value else value

    @field_validator(
        "dial_timeout", "response_timeout", "read_timeout", "write_timeout", "stream_timeout"
    )
    @classmethod
    def _duration(cls, value: str) -> str:
        if not re.fullmatch(rf"{SOME}(?:[0-9]{{1,5}}(?:ms|s|m|h)){{1,4}}", value):
            raise ValueError(f"'{value}' is no duration")
        return value

    @field_validator("max_body")
    @classmethod
    def _size(cls, value: str) -> str:
        if not re.fullmatch(rf"{SOME}[0-9]{{1,9}}(?:[KMG]i?B|B)", value):
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

    @field_validator("username")
    @classmethod
    def _username(cls, value: str | None) -> str | None:
        return value if value is None else user_name(value)

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not (
            re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+/?", value) and _has_port(value)
        ):
            raise ValueError(f"'{value}' is no address of a Client Portal gateway")
        return value


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


class Stack(StackTerms, Section):
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
    """For all rules: `simulate` orders nothing, `trade` holds for rules of this file
    that say no mode of their own. Unset: each rule's own, else `simulate`."""
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
        if not re.fullmatch(r"/[^\x00-\x1f]*", value) or ".." in value.split("/"):
            raise ValueError("an absolute path is wanted here")
        if not value.strip("/."):  # nothing would be left of it
            raise ValueError("a folder below / is wanted here")
        return value.rstrip("/")
