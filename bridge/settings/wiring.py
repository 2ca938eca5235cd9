"""Installs the connection settings: they are read at the start and move what they concern."""

from __future__ import annotations

from msgspec.structs import replace

from bridge.services import Services
from bridge.settings.probe import TrialService
from bridge.settings.profile import KINDS, Profile
from bridge.settings.repository import Secrets
from bridge.settings.service import SettingsService, settings_of
from bridge.store import Database
from bridge.tws.connection_context import Target
from bridge.tws.session import TwsSession


def retargeted(target: Target, profile: Profile) -> Target:
    """The session's settings with those of a profile; the rest stays."""
    return replace(
        target,
        host=profile.host,
        port=profile.port,
        client_id=profile.client_id,
        start_seconds=profile.connect_timeout,
        heartbeat_interval=profile.heartbeat_interval,
        heartbeat_patience=profile.heartbeat_timeout,
        quick_attempts=profile.retry_attempts,
        market_data_type=KINDS[profile.market_data_type],
    )


def install(services: Services) -> None:
    """Provides the services; the session follows the settings from before it first dials."""
    session = services[TwsSession]
    own = session.context.target
    settings = settings_of(services.environment, services[Database], services.clock)
    services.provide(SettingsService, settings)
    services.provide(TrialService, TrialService(settings, session.context.clock))

    async def follow(profile: Profile, _: Secrets) -> None:
        session.reconfigure(own if profile == settings.environment else retargeted(own, profile))

    settings.on_apply(follow)
    services.on_start(settings.start)
