"""A journal of every earlier schema version is brought forward with what it held."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from bridge.settings.cipher import Cipher, KeyFile
from bridge.settings.profile import Profile
from bridge.settings.repository import Repository
from bridge.store import Database, migrations, settings
from tests.bridge.settings.conftest import MOMENT

if TYPE_CHECKING:
    from pathlib import Path


def make(path: Path, version: int) -> None:
    """A journal as a bridge of that schema version left it."""
    connection = sqlite3.connect(path, isolation_level=None)
    for step in range(version):
        connection.executescript(migrations.STEPS[step])
    connection.execute(f"PRAGMA user_version = {version}")
    if version:
        settings.put(connection, "kept", b"value", MOMENT)
    connection.close()


@pytest.mark.parametrize("version", range(migrations.NEWEST + 1))
async def test_every_earlier_version_is_brought_forward(tmp_path: Path, version: int) -> None:
    make(tmp_path / "journal.sqlite3", version)
    database = await Database.open(tmp_path)
    try:
        found = await database.read(migrations.version)
        assert found == migrations.NEWEST
        kept = await database.read(lambda connection: settings.get(connection, "kept"))
        assert kept == (b"value" if version else None)
        repository = Repository(database, Cipher(KeyFile(tmp_path / "settings.key")))
        sealed = await repository.seal({"portalPassword": "x"})
        await repository.save("default", Profile(), sealed, MOMENT, active=True)
        stored = await repository.active()
        assert stored is not None
        assert stored.updated_at == MOMENT
    finally:
        await database.close()
