"""The settings that the bridge runs with, and the one place that changes them.

Without a stored active profile those of the environment count. A change is checked, stored, and
then handed to everybody who registered with `on_apply`: the running process takes it over. What
cannot be read at the start (a damaged profile, a lost key) is told in `problem` and never
overwritten; the bridge then runs with what it could read.
Secrets only ever come in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct, structs

from bridge.clock import Clock
from bridge.environment import Environment, EnvironmentProblem
from bridge.errors import BridgeError
from bridge.services import Need, Services
from bridge.settings.cipher import FILE_NAME, Cipher, KeyFile, Sealed
from bridge.settings.errors import ActiveProfileError, InvalidSettingsError, SettingsError
from bridge.settings.profile import (
    KINDS,
    SECRET_FIELDS,
    MarketDataWord,
    Profile,
    checked,
    checked_name,
    from_environment,
    merged,
)
from bridge.settings.repository import Repository, Secrets, profile_of, sealed_of
from bridge.store import Database
from bridge.store.settings import StoredProfile
from bridge.tws.connection_context import Target
from bridge.tws.session import TwsSession

DEFAULT_NAME = "default"

Applier = Callable[[Profile, Secrets], Awaitable[None]]
log = structlog.get_logger(__name__)


class ProfileState(Struct, frozen=True, kw_only=True):
    """One profile as it may be shown; ``secrets`` are the names of those that are set.

    ``source`` is ``stored`` or ``environment``.
    """

    name: str
    profile: Profile
    active: bool
    source: str
    secrets: tuple[str, ...] = ()
    revision: int = 0
    updated_at: datetime | None = None
    problem: str | None = None


class SettingsService:
    """One for each process.

    Args:
        repository: the stored profiles.
        environment: the settings to run with when no stored profile is active.
        clock: says when something was changed.
    """

    def __init__(self, repository: Repository, environment: Profile, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock
        self._appliers: list[Applier] = []
        self._lock = asyncio.Lock()
        self.environment = self.current = environment
        self.problem: str | None = None

    def on_apply(self, applier: Applier) -> None:
        """Calls `applier(profile, secrets)` at the start and whenever the current ones change."""
        self._appliers.append(applier)

    def need(self) -> Need | None:
        """What runs instead may be another gateway, another account, and not read-only."""
        if self.problem is None:
            return None
        return Need(
            code="settings-unreadable",
            message=f"Stored connection settings cannot be used: {self.problem}",
            next_step="GET /connection/settings shows them; enter them again with PUT, or bring"
            " their key file back and restart the bridge",
        )

    async def start(self) -> None:
        """Reads the active profile and hands it out."""
        async with self._lock:
            await self._take_over()

    async def names(self) -> tuple[str, ...]:
        """The names of the stored profiles."""
        return tuple(stored.name for stored in await self._repository.all())

    async def show(self, name: str | None = None) -> ProfileState:
        """One profile, or the settings that the bridge runs with.

        Raises:
            UnknownProfileError: there is none of that name.
        """
        stored = await (self._repository.get(name) if name else self._repository.active())
        if stored is None:
            return ProfileState(
                name=DEFAULT_NAME, profile=self.environment, active=True, source="environment"
            )
        return await self._shown(stored)

    async def put(
        self,
        name: str,
        changes: dict[str, Any],
        secrets: dict[str, str | None],
        *,
        active: bool | None = None,
    ) -> ProfileState:
        """Stores changes to a profile, which is made when there is none, and applies them.

        Args:
            name: the profile; the first one that is stored becomes active by itself.
            changes: fields by wire name; None: the default again. Others stay as they are.
            secrets: the same for secrets; None removes one.
            active: True makes it the active profile, False stops it from being that.

        Raises:
            SettingsError: nothing was stored; the class says why.
        """
        checked_name(name)
        async with self._lock:
            before = {stored.name: stored for stored in await self._repository.all()}
            stored = before.get(name)
            profile = merged(self._base(stored), changes, self.environment)
            sealed = await self._sealed(stored, secrets)
            if active is None and not before:
                active = True
            await self._repository.save(name, profile, sealed, self._clock.now(), active=active)
            log.info("settings-stored", profile=name, fields=sorted(changes), active=active)
            await self._take_over()
        return await self.show(name)

    async def remove(self, name: str) -> None:
        """Forgets a profile.

        Raises:
            ActiveProfileError: it is the active one.
        """
        async with self._lock:
            stored = await self._repository.get(name)
            if stored.active:
                raise ActiveProfileError(f"the profile {name!r} is the active one")
            await self._repository.remove(name)

    async def rotate_key(self) -> int:
        """Seals every secret with a new key; how many were sealed."""
        async with self._lock:
            count = await self._repository.rotate()
            log.info("settings-key-rotated", profiles=count)
            return count

    def _base(self, stored: StoredProfile | None) -> Profile:
        if stored is None:
            return self.environment
        try:
            return profile_of(stored)
        except SettingsError:
            return self.environment  # a damaged one is mended by entering it again

    async def _sealed(self, stored: StoredProfile | None, changes: dict[str, str | None]) -> Sealed:
        try:
            sealed = {} if stored is None else sealed_of(stored)
        except SettingsError:
            if not changes.keys() >= set(SECRET_FIELDS):
                raise
            sealed = {}  # damaged, but every one of them is entered again
        for name in changes:
            sealed.pop(name, None)
        fresh = {name: value for name, value in changes.items() if value}
        return {**sealed, **await self._repository.seal(fresh)}

    async def _shown(self, stored: StoredProfile) -> ProfileState:
        profile, problem = self.environment, self.problem if stored.active else None
        names: tuple[str, ...] = ()
        try:
            profile, names = profile_of(stored), tuple(sorted(sealed_of(stored)))
        except SettingsError as error:
            problem = error.detail
        return ProfileState(
            name=stored.name,
            profile=profile,
            active=stored.active,
            source="stored",
            secrets=names,
            revision=stored.revision,
            updated_at=stored.updated_at,
            problem=problem,
        )

    async def _take_over(self) -> None:
        profile, secrets = self.environment, Secrets()
        self.problem = None
        try:
            stored = await self._repository.active()
            if stored is not None:
                profile = profile_of(stored)
                secrets = await self._repository.open(sealed_of(stored))
        except BridgeError as error:
            self.problem = error.detail
            log.error("settings-unreadable", error=error.detail, hint=error.next_step)
        self.current = profile
        for applier in self._appliers:
            await applier(profile, secrets)


VARIABLES = {"host": "BRIDGE_TWS_HOST", "portalUrl": "BRIDGE_PORTAL_URL"}


def key_file_of(environment: Environment) -> KeyFile:
    """The key file that the environment names, or the one in the data folder."""
    given: Path | None = environment.settings_key_file
    if given is not None:
        return KeyFile(given, given=True)
    return KeyFile(environment.data_dir / FILE_NAME)


def settings_of(environment: Environment, database: Database, clock: Clock) -> SettingsService:
    """The settings over a journal.

    Raises:
        EnvironmentProblem: a variable names an impossible connection.
    """
    try:
        profile = checked(from_environment(environment))
    except InvalidSettingsError as error:
        first = error.extra["errors"][0]
        name = VARIABLES.get(first["field"], "BRIDGE_*")
        raise EnvironmentProblem(
            name, first["message"], "docs/connection-settings.md describes it"
        ) from None
    repository = Repository(database, Cipher(key_file_of(environment)))
    return SettingsService(repository, profile, clock)


def retargeted(target: Target, profile: Profile) -> Target:
    """The session's settings with those of a profile; the rest stays."""
    return structs.replace(
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
    """Provides the settings; the session follows them from before it first dials."""
    session = services[TwsSession]
    own = session.context.target
    settings = settings_of(services.environment, services[Database], services.clock)
    services.provide(SettingsService, settings)

    async def follow(profile: Profile, _: Secrets) -> None:
        session.reconfigure(own if profile == settings.environment else retargeted(own, profile))

    settings.on_apply(follow)
    services.on_start(settings.start)
    services.needs.append(settings.need)


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
