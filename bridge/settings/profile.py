"""One set of connection settings, and its checks.

The document in the journal holds these fields by their wire names. Fields that an older bridge did
not know have a default; fields that this one does not know are left alone.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from bridge.environment import Environment
from bridge.model import MarketDataType
from bridge.settings.errors import InvalidSettingsError
from bridge.tls import normal_fingerprint

MarketDataWord = Literal["live", "frozen", "delayed", "delayed-frozen"]

Port = Annotated[int, Meta(ge=1, le=65535)]
ClientId = Annotated[int, Meta(ge=0, le=2_147_483_647)]
Account = Annotated[str, Meta(pattern=r"^([A-Za-z]{1,4}[0-9]{3,12})?$")]
Permission = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9 ._/-]+$")]
ProfileName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]

KINDS: Final[dict[MarketDataWord, MarketDataType]] = {
    "live": MarketDataType.LIVE,
    "frozen": MarketDataType.FROZEN,
    "delayed": MarketDataType.DELAYED,
    "delayed-frozen": MarketDataType.DELAYED_FROZEN,
}

SECRET_FIELDS: Final = ("portalPassword",)
"""Wire names that are encrypted at rest and never given back."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")


class Profile(Struct, rename="camel", frozen=True, kw_only=True):
    """Connection settings. Seconds where a time is meant.

    ``connect_timeout`` bounds the start of a session, ``heartbeat_timeout`` how long a heartbeat
    may go unanswered. ``retry_attempts`` quick attempts in a row are made before the bridge asks
    only once a minute; 0: always quick. ``market_data_permissions`` are the subscriptions that
    the account has, for people and apps to see. ``portal_*`` belong to the Client Portal; the
    password for a proxy in front of it is a secret and not a field of this struct.
    """

    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Port = 4002
    client_id: ClientId = 17
    account: Account = ""
    connect_timeout: Annotated[float, Meta(ge=1, le=300)] = 20.0
    heartbeat_interval: Annotated[float, Meta(ge=1, le=60)] = 2.0
    heartbeat_timeout: Annotated[float, Meta(ge=1, le=60)] = 2.5
    retry_attempts: Annotated[int, Meta(ge=0, le=10_000)] = 0
    market_data_type: MarketDataWord = "live"
    market_data_permissions: Annotated[tuple[Permission, ...], Meta(max_length=50)] = ()
    read_only: bool = False
    portal_url: Annotated[str, Meta(max_length=300)] = ""
    portal_compete: bool = False
    portal_fingerprint: Annotated[str, Meta(max_length=200)] = ""
    portal_username: Annotated[str, Meta(max_length=100)] = ""


def from_environment(environment: Environment) -> Profile:
    """The settings of a bridge that has stored none."""
    return Profile(
        host=environment.tws_host,
        port=environment.tws_port,
        client_id=environment.client_id,
        portal_url=environment.portal_url,
    )


def merged(profile: Profile, changes: dict[str, Any], defaults: Profile) -> Profile:
    """A checked profile with these changes, by wire name; None means the default again.

    Raises:
        InvalidSettingsError: with a list of what is wrong, field by field.
    """
    values: dict[str, Any] = msgspec.to_builtins(profile)
    standard: dict[str, Any] = msgspec.to_builtins(defaults)
    for name, value in changes.items():
        values[name] = standard[name] if value is None else value
    try:
        changed = msgspec.convert(values, Profile)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise _invalid([(path.rstrip("`") or "body", text)]) from None
    return checked(changed)


def checked_name(name: str) -> str:
    """The name of a profile; a pattern alone lets a line end pass.

    Raises:
        InvalidSettingsError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise _invalid([("profile", "must be small letters, digits and dashes")])
    return name


def checked(profile: Profile) -> Profile:
    """The profile in its normal form.

    Raises:
        InvalidSettingsError: with a list of what is wrong, field by field.
    """
    problems = [
        (name, "must have printable characters only")
        for name, value in msgspec.to_builtins(profile).items()
        if isinstance(value, str) and not value.isprintable()
    ]
    if not _is_host(profile.host):
        problems.append(("host", "not a host name or an address"))
    if (reason := _url_problem(profile.portal_url)) is not None:
        problems.append(("portalUrl", reason))
    fingerprint = profile.portal_fingerprint
    if fingerprint:
        try:
            fingerprint = normal_fingerprint(fingerprint)
        except ValueError as error:
            problems.append(("portalFingerprint", str(error)))
    if problems:
        raise _invalid(problems)
    return msgspec.structs.replace(
        profile, portal_fingerprint=fingerprint, portal_url=profile.portal_url.rstrip("/")
    )


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and ".." not in text
    return True


def _url_problem(url: str) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in {"http", "https"} or not _is_host(host):
        return "not an http(s) URL"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "must not hold credentials, a query or a fragment"
    if parts.scheme == "http" and not _is_near(host):
        return "must be https: plain http would show the session to the network"
    return None


def _is_near(host: str) -> bool:
    """This machine, a private network, or a container beside this one (a name without a dot)."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def _invalid(problems: list[tuple[str, str]]) -> InvalidSettingsError:
    first = "; ".join(f"{field}: {message}" for field, message in problems)
    errors = [
        {"field": field, "message": message, "code": "invalid"} for field, message in problems
    ]
    return InvalidSettingsError(first, extra={"errors": errors})
