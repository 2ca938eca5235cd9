"""Settings as they are told and given over the API; secrets only ever come in."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Struct

from bridge.settings.profile import MarketDataWord
from bridge.settings.service import ProfileState


class SettingsView(Struct, rename="camel", kw_only=True):
    """One profile. ``secrets_set`` names the secrets that are stored; they are never told.

    ``source`` is ``environment`` while no stored profile is active. ``problem`` says what of the
    stored settings cannot be read; it is kept as it is.
    """

    profile: str
    active: bool
    source: str
    profiles: list[str]
    host: str
    port: int
    client_id: int
    account: str
    connect_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float
    retry_attempts: int
    market_data_type: MarketDataWord
    market_data_permissions: tuple[str, ...]
    read_only: bool
    portal_url: str
    portal_compete: bool
    portal_fingerprint: str
    portal_username: str
    secrets_set: list[str]
    revision: int
    updated_at: datetime | None
    problem: str | None


class RotationView(Struct, rename="camel", kw_only=True):
    """How many secrets were sealed with the new key."""

    secrets_sealed: int


def view(state: ProfileState, names: tuple[str, ...]) -> SettingsView:
    """One profile, beside the names of all."""
    return SettingsView(
        profile=state.name,
        active=state.active,
        source=state.source,
        profiles=list(names),
        secrets_set=list(state.secrets),
        revision=state.revision,
        updated_at=state.updated_at,
        problem=state.problem,
        **msgspec.structs.asdict(state.profile),
    )
