"""Routes: connection settings, and the trial of settings."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bridge.api.routing import Body, Call, Params, RouteTable
from bridge.callers import Scope
from bridge.settings.probe import ProbeReport, TrialService
from bridge.settings.profile import (
    SECRET_FIELDS,
    Account,
    ClientId,
    MarketDataWord,
    Permission,
    Port,
    ProfileName,
)
from bridge.settings.service import RotationView, SettingsService, SettingsView, view

routes = RouteTable("settings")

Seconds = Annotated[float, Meta(ge=1, le=300)]
Beat = Annotated[float, Meta(ge=1, le=60)]
Text = Annotated[str, Meta(max_length=300)]


class ProfileParams(Params, frozen=True):
    """Which profile."""

    profile: Annotated[
        ProfileName | None, Meta(description="A stored profile; without it the active one")
    ] = None


class RemovalParams(Params, frozen=True):
    """Which profile."""

    profile: ProfileName


class ConnectionFields(Body, frozen=True):
    """Connection settings; a field left out stays as it is, null means its default again."""

    host: Text | UnsetType | None = UNSET
    port: Port | UnsetType | None = UNSET
    client_id: ClientId | UnsetType | None = UNSET
    account: Account | UnsetType | None = UNSET
    connect_timeout: Seconds | UnsetType | None = UNSET
    heartbeat_interval: Beat | UnsetType | None = UNSET
    heartbeat_timeout: Beat | UnsetType | None = UNSET
    retry_attempts: Annotated[int, Meta(ge=0, le=10000)] | UnsetType | None = UNSET
    market_data_type: MarketDataWord | UnsetType | None = UNSET
    market_data_permissions: (
        Annotated[tuple[Permission, ...], Meta(max_length=50)] | UnsetType | None
    ) = UNSET
    read_only: bool | UnsetType | None = UNSET
    portal_url: Text | UnsetType | None = UNSET
    portal_compete: bool | UnsetType | None = UNSET
    portal_fingerprint: Text | UnsetType | None = UNSET
    portal_username: Text | UnsetType | None = UNSET
    portal_password: Annotated[
        str | UnsetType | None,
        Meta(description="Sealed at rest and never told again; null removes it"),
    ] = UNSET

    def changes(self) -> dict[str, Any]:
        """The fields that were given, by their names on the wire; no secrets."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        other = {"profile", "active", "symbol", *SECRET_FIELDS}
        return {name: value for name, value in values.items() if name not in other}

    def secrets(self) -> dict[str, str | None]:
        """The secrets that were given."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return {name: values[name] for name in SECRET_FIELDS if name in values}


class SettingsBody(ConnectionFields, frozen=True):
    """Changes to one profile, which is made when there is none of that name."""

    profile: ProfileName | None = None
    active: bool | None = None


class TrialBody(ConnectionFields, frozen=True):
    """Settings to try: a stored profile (without it those in use), with these fields changed."""

    profile: ProfileName | None = None
    symbol: Annotated[
        str, Meta(pattern="^[A-Z0-9. ]{1,12}$", description="A US stock for the market-data step")
    ] = "SPY"


_RECORDED = (
    "profile",
    "active",
    "host",
    "port",
    "clientId",
    "account",
    "connectTimeout",
    "heartbeatInterval",
    "heartbeatTimeout",
    "retryAttempts",
    "marketDataType",
    "readOnly",
    "portalCompete",
)
_PROFILES = {
    404: "no such profile",
    409: "the profile is the active one, or its secrets cannot be read",
    500: "the key file of its secrets cannot be used",
}


@routes.get("/connection/settings", params=ProfileParams, answer=SettingsView, statuses=_PROFILES)
async def show(call: Call[ProfileParams, None]) -> SettingsView:
    """The settings in use, or a stored profile; secrets are never told."""
    settings = call.services[SettingsService]
    return view(await settings.show(call.params.profile), await settings.names())


@routes.put(
    "/connection/settings",
    body=SettingsBody,
    recorded=_RECORDED,
    answer=SettingsView,
    scope=Scope.ADMIN,
    statuses=_PROFILES,
)
async def change(call: Call[None, SettingsBody]) -> SettingsView:
    """Stores changes to a profile and, when it is the active one, takes them over at once.

    Fields that are left out stay as they are. The first profile that is stored becomes active;
    later ones with `active`. Nothing is stored when a field is wrong.
    """
    settings, body = call.services[SettingsService], call.body
    name = body.profile or (await settings.show()).name
    state = await settings.put(name, body.changes(), body.secrets(), active=body.active)
    return view(state, await settings.names())


@routes.delete(
    "/connection/settings",
    params=RemovalParams,
    recorded=_RECORDED,
    answer=None,
    scope=Scope.ADMIN,
    status=204,
    statuses=_PROFILES,
)
async def remove(call: Call[RemovalParams, None]) -> None:
    """Forgets a profile that is not the active one."""
    await call.services[SettingsService].remove(call.params.profile)


@routes.post(
    "/connection/settings/rotate-key",
    answer=RotationView,
    scope=Scope.ADMIN,
    statuses={409: "stored secrets cannot be read", 500: "the key file cannot be used"},
)
async def rotate(call: Call[None, None]) -> RotationView:
    """Seals every stored secret with a new key and forgets the old one."""
    return RotationView(secrets_sealed=await call.services[SettingsService].rotate_key())


@routes.post(
    "/connection/test",
    body=TrialBody,
    recorded=_RECORDED,
    answer=ProbeReport,
    scope=Scope.ADMIN,
    statuses=_PROFILES,
)
async def trial(call: Call[None, TrialBody]) -> ProbeReport:
    """Tries settings without saving them and without touching the running session.

    Five steps (resolve, connect, handshake, accounts, market data), each with its time; those after
    a failure are skipped. Uses a spare client id, and asks for one quote.
    """
    body = call.body
    return await call.services[TrialService].run(body.profile, body.changes(), body.symbol)
