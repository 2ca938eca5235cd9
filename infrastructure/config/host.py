"""Where a stack runs, and how it is reached."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from infrastructure import files
from infrastructure.config.base import Port, Section
from infrastructure.config.places import parse
from infrastructure.config.terms import FINGERPRINT, KNOWN_HOSTS

if TYPE_CHECKING:
    from pathlib import Path

USER = r"[A-Za-z0-9_][A-Za-z0-9_.+@$\\-]*"
"""No leading dash, which `ssh` would take for an option, and nothing that a shell would act on."""


def in_short(value: str) -> dict[str, str]:
    """`user@host:port`, or as an address of the web writes it: `ssh://user@host:port`.

    Raises:
        ValueError: it is neither.
    """
    text = value.strip()
    if text.lower().startswith("ssh://"):
        text = text[6:].rstrip("/")
    if re.match(r"(?:[a-zA-Z]+://)?[^@]*:.*@", text):  # with whatever letters it may have
        raise ValueError("a password does not belong in an address: a key or an agent opens hosts")
    named = re.fullmatch(rf"(?:({USER})@)?([^@]*:[^@]*)", text)
    if named and _is_ipv6(named[2]):  # as `ssh` takes it, without brackets
        return {"address": named[2]} | ({"user": named[1]} if named[1] else {})
    match = re.fullmatch(rf"(?:({USER})@)?(\[[^\]\s]+\]|[^:@/\s]+)(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"'{value}' is not user@host:port")
    parts = {"user": match[1], "address": match[2].strip("[]"), "port": match[3]}
    return {key: part for key, part in parts.items() if part is not None}


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class Host(Section):
    """The machine to deploy to: `user@host:port` (or `ssh://…`) in short, or these keys."""

    address: str
    """Name or address, or an alias of `~/.ssh/config`; `local` deploys to this machine."""
    user: str | None = None
    """Login; unset: as `~/.ssh/config` says, else your own name."""
    port: Port | None = None
    """SSH port; unset: as `~/.ssh/config` says, else 22."""
    identity: str | None = None
    """Private key file; unset: the agent and the usual keys."""
    jump: str | None = None
    """Jump host, `user@host:port`; its key is verified too."""
    known_hosts: str = KNOWN_HOSTS
    """File with the trusted host keys. An unknown or changed key is refused."""
    trust_host_key: str | None = None
    """`SHA256:…` fingerprint that is accepted for the host even if known_hosts lacks it."""
    connect_timeout: float = Field(default=10.0, gt=0, le=300)
    """Seconds to wait for the connection."""
    sudo: bool = True
    """Use `sudo -n` on the host when the login is not root."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return in_short(value)

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        name = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.%-]*", value)
        if not name and not _is_ipv6(value):
            raise ValueError("that is no name or address of a host")
        return value

    @field_validator("user")
    @classmethod
    def _user(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(USER, value):
            raise ValueError("that is no name of a login")
        return value

    @field_validator("jump")
    @classmethod
    def _jump(cls, value: str | None) -> str | None:
        for one in (value or "").split(",") if value is not None else ():
            Host.model_validate(one)  # the same rules, leading dash included
        return value

    @field_validator("trust_host_key")
    @classmethod
    def _fingerprint(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(FINGERPRINT, value):
            raise ValueError("a fingerprint looks like SHA256: and 43 characters")
        return value


def likely_host(file: str | Path, name: str | None) -> Host | None:
    """The host that a target probably has, long before the whole file is checked; None in doubt.

    It only lets a connection begin early: what counts is the host of the checked target.
    """
    try:
        values = parse(files.text(file, pipes=False), str(file)).values
        targets = values["targets"]
        own = targets[name or next(iter(targets))].get("host")
        shared = (values.get("defaults") or {}).get("host")
        if isinstance(own, dict) and isinstance(shared, dict):
            own = {**shared, **own}
        host = Host.model_validate(own or shared)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return None
    return None if host.address == "local" else host
