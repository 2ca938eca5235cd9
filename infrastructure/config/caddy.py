"""Caddy's settings: names and certificate, ports, limits."""

from __future__ import annotations

import ipaddress
import re

from pydantic import field_validator

from infrastructure.config.base import Port, Section, check_image


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
