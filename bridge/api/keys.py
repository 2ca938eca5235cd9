"""API keys: list, create, revoke (scope admin). A key itself is shown once, when it is made."""

from __future__ import annotations

import ipaddress
import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from bridge.api.auth import KeyRing
from bridge.api.routing import Answer, Body, Call, Params, Reply, RouteTable
from bridge.auditing import about
from bridge.callers import Scope
from bridge.errors import InvalidRequestError
from bridge.store.keys import ApiKey, KeyBounds

routes = RouteTable("keys")


Word = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[!-~]+( [!-~]+)*$")]
Network = Annotated[str, Meta(min_length=1, max_length=50, description="An address or CIDR")]


class Bounds(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a key reaches. What is left out is not bounded.

    `accounts`, `symbols` (of the underlying, for options), `maxNotional` (in one order, in the
    account's currency) and `maxOrdersPerDay` (of this key) need scope trade; `from` (networks)
    does not.
    """

    accounts: Annotated[tuple[Word, ...], Meta(max_length=100)] = ()
    symbols: Annotated[tuple[Word, ...], Meta(max_length=500)] = ()
    max_notional: Annotated[float, Meta(gt=0, le=1e12)] | None = None
    max_orders_per_day: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    networks: Annotated[tuple[Network, ...], Meta(max_length=50)] = field(name="from", default=())


class KeyAnswer(Answer):
    """What the bridge knows of a key."""

    id: str
    label: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    active: bool
    bounds: Bounds


class Keys(Answer):
    """All keys, oldest first."""

    keys: list[KeyAnswer]


class NewKey(Body, frozen=True):
    """`days`: how long it is valid, or `expires`: a day (to its end, UTC) or a time, ISO 8601.

    Neither: for ever.
    """

    label: Annotated[str, Meta(min_length=1, max_length=80)]
    scope: Literal["history", "read", "trade", "admin"] = "read"
    days: Annotated[int, Meta(ge=1, le=3650)] | None = None
    expires: Annotated[str, Meta(max_length=40)] | None = None
    bounds: Bounds = Bounds()


class CreatedKey(Answer):
    """`key` is shown this once only."""

    key: str
    id: str
    label: str
    scope: str
    expires_at: datetime | None
    bounds: Bounds


class KeyParams(Params, frozen=True):
    """`overlap`: seconds for which the key stays valid, for a rotation without downtime."""

    id: str
    overlap: Annotated[int, Meta(ge=0, le=30 * 86400)] = 0


def _shown(key: ApiKey, now: datetime) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        label=key.label,
        scope=key.scope,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        active=key.active(now),
        bounds=_bounds(key.bounds),
    )


def _bounds(bounds: KeyBounds) -> Bounds:
    return Bounds(**{name: getattr(bounds, name) for name in Bounds.__struct_fields__})


def checked_bounds(wanted: Bounds, scope: str) -> KeyBounds:
    """The bounds as they are kept.

    Raises:
        InvalidRequestError: a network is none, or the scope has no orders that could be bounded.
    """
    problems: list[dict[str, str]] = []
    networks = []
    for text in wanted.networks:
        try:
            networks.append(str(ipaddress.ip_network(text.strip(), strict=False)))
        except ValueError:
            problems.append(_wrong("bounds.from", f"{text[:50]!r} is no address and no network"))
    bounds = KeyBounds(
        accounts=tuple(dict.fromkeys(wanted.accounts)),
        symbols=tuple(dict.fromkeys(symbol.upper() for symbol in wanted.symbols)),
        max_notional=wanted.max_notional,
        max_orders_per_day=wanted.max_orders_per_day,
        networks=tuple(dict.fromkeys(networks)),
    )
    if bounds.about_orders and scope != "trade":
        problems.append(_wrong("bounds", f"bounds of orders need scope trade, not {scope}"))
    if wanted.max_notional is not None and not math.isfinite(wanted.max_notional):
        problems.append(_wrong("bounds.maxNotional", "is no number"))
    if problems:
        raise InvalidRequestError(problems[0]["message"], extra={"errors": problems})
    return bounds


def expiry(text: str, now: datetime) -> datetime:
    """When a key ends: a day means its end in UTC, a time without a zone is UTC.

    Raises:
        InvalidRequestError: it is no time, or a past one.
    """
    try:
        if len(text.strip()) <= len("2026-02-13"):
            day = date.fromisoformat(text.strip()) + timedelta(days=1)
            moment = datetime.combine(day, time(), UTC)
        else:
            moment = datetime.fromisoformat(text.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        problem = _wrong("expires", f"{text[:40]!r} is no day and no time in ISO 8601")
        raise InvalidRequestError(problem["message"], extra={"errors": [problem]}) from None
    if moment <= now:
        problem = _wrong("expires", f"{text[:40]} is over already")
        raise InvalidRequestError(problem["message"], extra={"errors": [problem]})
    return moment


def _wrong(name: str, message: str) -> dict[str, str]:
    return {"field": name, "message": message, "code": "invalid"}


def end_of(days: int | None, expires: str | None, now: datetime) -> datetime | None:
    """When a key ends: the earlier one of both; None: never."""
    ends = [now + timedelta(days=days)] if days else []
    if expires is not None:
        ends.append(expiry(expires, now))
    return min(ends, default=None)


@routes.get("/keys", answer=Keys, scope=Scope.ADMIN)
async def list_keys(call: Call[None, None]) -> Keys:
    """All keys, without the keys themselves."""
    now = call.services.clock.now()
    found = await call.services[KeyRing].everything()
    return Keys(keys=[_shown(key, now) for key in found])


@routes.post(
    "/keys",
    body=NewKey,
    answer=CreatedKey,
    scope=Scope.ADMIN,
    status=201,
    recorded=("label", "scope", "days", "expires", "bounds"),
)
async def create_key(call: Call[None, NewKey]) -> CreatedKey:
    """Makes a key; keep it, it cannot be shown again.

    With `bounds` it trades only certain accounts and symbols, only so much, or opens only from
    certain networks.
    """
    wanted = call.body
    bounds = checked_bounds(wanted.bounds, wanted.scope)
    expires = end_of(wanted.days, wanted.expires, call.services.clock.now())
    scope = next(scope for scope in Scope if scope.word == wanted.scope)
    secret, key = await call.services[KeyRing].create(wanted.label, scope, expires, bounds)
    about(key.id)
    return CreatedKey(
        key=secret,
        id=key.id,
        label=key.label,
        scope=wanted.scope,
        expires_at=key.expires_at,
        bounds=_bounds(bounds),
    )


@routes.delete(
    "/keys/{id}",
    params=KeyParams,
    recorded=("id", "overlap"),
    answer=None,
    scope=Scope.ADMIN,
    statuses={404: "There is no such active key"},
)
async def revoke_key(call: Call[KeyParams, None]) -> Reply:
    """Ends a key, at once (its streams too) or after `overlap` seconds."""
    overlap = timedelta(seconds=call.params.overlap) if call.params.overlap else None
    await call.services[KeyRing].revoke(call.params.id, after=overlap)
    return Reply(None, 204)
