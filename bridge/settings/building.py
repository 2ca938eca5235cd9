"""Makes the settings out of the environment and a journal; knows nothing of the session."""

from __future__ import annotations

from pathlib import Path

from bridge.clock import Clock
from bridge.environment import Environment, EnvironmentProblem
from bridge.settings.cipher import Cipher
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.key_file import FILE_NAME, KeyFile
from bridge.settings.profile import checked, from_environment
from bridge.settings.repository import Repository
from bridge.settings.service import SettingsService
from bridge.store import Database

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
