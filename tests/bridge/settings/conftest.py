"""A settings service over a real journal and a real key file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from bridge.clock import SystemClock
from bridge.settings.cipher import FILE_NAME, Cipher, KeyFile
from bridge.settings.profile import Profile
from bridge.settings.repository import Repository
from bridge.settings.service import SettingsService
from bridge.store import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MOMENT = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)
ENVIRONMENT = Profile(host="gateway", port=4003, client_id=17)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "data")
    yield opened
    await opened.close()


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "secrets" / FILE_NAME)


@pytest.fixture
def repository(database: Database, key_file: KeyFile) -> Repository:
    return Repository(database, Cipher(key_file))


@pytest.fixture
def service(repository: Repository) -> SettingsService:
    return SettingsService(repository, ENVIRONMENT, SystemClock())
