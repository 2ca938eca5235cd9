"""API keys: list, create, revoke (scope admin). A key itself is shown once, when it is made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta

from bridge.api.keys import KeyRing
from bridge.api.routing import Call, Reply, RouteTable
from bridge.api.schema import Answer, Body, Params
from bridge.api.scopes import Scope
from bridge.store.keys import ApiKey

routes = RouteTable("keys")


class KeyAnswer(Answer):
    """What the bridge knows of a key."""

    id: str
    label: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    active: bool


class Keys(Answer):
    """All keys, oldest first."""

    keys: list[KeyAnswer]


class NewKey(Body, frozen=True):
    """`days`: how long it is valid; null for ever."""

    label: Annotated[str, Meta(min_length=1, max_length=80)]
    scope: Literal["read", "trade", "admin"] = "read"
    days: Annotated[int, Meta(ge=1, le=3650)] | None = None


class CreatedKey(Answer):
    """`key` is shown this once only."""

    key: str
    id: str
    label: str
    scope: str
    expires_at: datetime | None


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
    )


@routes.get("/keys", answer=Keys, scope=Scope.ADMIN)
async def list_keys(call: Call[None, None]) -> Keys:
    """All keys, without the keys themselves."""
    now = call.services.clock.now()
    found = await call.services[KeyRing].everything()
    return Keys(keys=[_shown(key, now) for key in found])


@routes.post("/keys", body=NewKey, answer=CreatedKey, scope=Scope.ADMIN, status=201)
async def create_key(call: Call[None, NewKey]) -> CreatedKey:
    """Makes a key; keep it, it cannot be shown again."""
    wanted = call.body
    expires = call.services.clock.now() + timedelta(days=wanted.days) if wanted.days else None
    scope = next(scope for scope in Scope if scope.word == wanted.scope)
    secret, key = await call.services[KeyRing].create(wanted.label, scope, expires)
    return CreatedKey(
        key=secret, id=key.id, label=key.label, scope=wanted.scope, expires_at=key.expires_at
    )


@routes.delete(
    "/keys/{id}",
    params=KeyParams,
    answer=None,
    scope=Scope.ADMIN,
    statuses={404: "There is no such active key"},
)
async def revoke_key(call: Call[KeyParams, None]) -> Reply:
    """Ends a key, at once or after `overlap` seconds."""
    overlap = timedelta(seconds=call.params.overlap) if call.params.overlap else None
    await call.services[KeyRing].revoke(call.params.id, after=overlap)
    return Reply(None, 204)
